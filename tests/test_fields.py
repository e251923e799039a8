"""Fields of configurations: a change is checked anew, and a wrong name is answered by the closest one."""

import pytest
from pydantic import ValidationError

from nqcast.constants import LEVELS
from nqcast.data.config import ScaleConfig
from nqcast.experiments.config import Variant
from nqcast.fields import changed, closest, did_you_mean
from nqcast.model.config import ModelConfig
from nqcast.runs.recipe import Recipe
from nqcast.training.config import TrainConfig


def test_another_size_brings_its_preset_and_keeps_what_was_set_by_hand() -> None:
    config = ModelConfig(size="laptop", d_ff=48)
    assert changed(config, {"size": "full"}) == ModelConfig(size="full", d_ff=48)
    assert changed(config, {"dropout": 0.2}) == ModelConfig(size="laptop", d_ff=48, dropout=0.2)


def test_a_variant_of_another_size_is_of_that_size() -> None:
    recipe = Recipe(ScaleConfig(), ModelConfig(), TrainConfig(), LEVELS)
    assert recipe.with_fields(model=Variant(model={"size": "full"}).model).model == ModelConfig(size="full")


def test_what_is_changed_is_checked_and_the_original_stays() -> None:
    config = TrainConfig()
    with pytest.raises(ValidationError):
        changed(config, {"learning_rte": 1.0})
    with pytest.raises(ValueError, match="eta_min at most learning_rate"):
        changed(config, {"learning_rate": 1e-9})
    assert changed(config, {"epochs": 7}).epochs == 7 and config == TrainConfig()
    assert changed(config, {"epochs": 7}).model_fields_set == {"epochs"}, "a default is no choice of the user's"


def test_a_wrong_name_is_answered_by_the_closest_one_or_by_all() -> None:
    known = ("learning_rate", "Epochs", "seed")
    assert closest("epoch", known) == "Epochs" and closest("zzz", known) is None
    assert did_you_mean("learning_rte", known, "train.") == "did you mean train.learning_rate?"
    assert did_you_mean("zzz", known) == "known here: Epochs, learning_rate, seed"
