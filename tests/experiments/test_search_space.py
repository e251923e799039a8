"""The search space as users write it: mistakes named with their cure, both spellings, values that survive storage."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from nqcast.data.config import ScaleConfig
from nqcast.experiments.config import TuneConfig
from nqcast.experiments.search_space import SearchParameter, as_choice, check_space, from_choice
from nqcast.model.config import ModelConfig
from nqcast.parameters import ParameterError, check_parameters
from nqcast.training.config import TrainConfig

CONFIGS: dict[str, BaseModel] = {"scale": ScaleConfig(), "model": ModelConfig(), "train": TrainConfig()}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"train.learning_rte": {"low": 1e-4, "high": 1e-3}}, "did you mean train.learning_rate?"),
        ({"learning_rate": {"low": 1e-4, "high": 1e-3}}, "did you mean train.learning_rate?"),
        ({"model.dropout": {"low": 0.1, "high": 1.5}}, "model.dropout: Input should be less than 1, found 1.5"),
        ({"model.n_heads": {"low": 0, "high": 4}}, "model.n_heads: Input should be greater than or equal to 1"),
        ({"model.size": {"choices": ["laptop", "huge"]}}, "model.size"),
        ({"train.precision": {"low": 0, "high": 1}}, "expected choices for a parameter that is no number"),
        ({"train.seed": {"low": 0, "high": 9}}, "train.seed: found a parameter that cannot be tuned"),
        ({"model.context": {"choices": [288, 576]}}, "at most split.context (288 bars), found 576"),
        ({"train.learning_rate": {"low": 1e-3, "high": 1e-4}}, "low below high"),
        ({"train.learning_rate": {"low": 0, "high": 1e-4, "log": True}}, "low above 0"),
        ({"train.learning_rate": {"low": 1e-5}}, "expected {low, high} or {choices"),
        ({"train.learning_rate": {"low": 1e-5, "high": 1, "choices": [1, 2]}}, "found both"),
        ({"train.learning_rate": {"lo": 1e-5, "high": 1}}, "tune.space.train.learning_rate.lo"),
    ],
)
def test_a_mistake_in_the_space_is_named_with_its_cure(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        check_parameters({"tune": {"space": space}})
    assert message in str(caught.value)


def test_a_scale_can_only_be_judged_in_return_units() -> None:
    space = {"scale.rolling_quantiles": {"choices": [True, False]}}
    with pytest.raises(ValidationError, match=r"set tune\.objective=val_loss_returns"):
        TuneConfig(space=space)
    check_parameters({"tune": {"space": space, "objective": "val_loss_returns"}})


def test_widths_that_suit_the_heads_only_together_are_left_to_the_trials() -> None:
    space = {"model.d_model": {"choices": [33, 48]}, "model.n_heads": {"choices": [1, 3]}}
    check_space(TuneConfig(space=space).space, CONFIGS, 288)


def test_a_file_and_the_command_line_change_the_same_parameter() -> None:
    in_file = {"train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "model.d_model": {"choices": [8, 16]}}
    by_hand = {"train": {"learning_rate": {"high": 1e-3}}, "model": {"d_model": None}}
    space = TuneConfig(space={**in_file, **by_hand}).space
    assert space == {"train.learning_rate": SearchParameter(low=1e-4, high=1e-3, log=True)}


def test_choices_survive_storage_lists_included() -> None:
    parameter = SearchParameter(choices=(1, 2.5, "x", True, None, [1, 3, 12]))
    for value in parameter.choices or ():
        stored = as_choice(value)
        assert stored is None or isinstance(stored, bool | int | float | str)
        assert from_choice(parameter, stored) == value


@pytest.mark.parametrize(
    ("parameter", "value", "expected"),
    [
        (SearchParameter(low=0, high=1), 0.5, True),
        (SearchParameter(low=0, high=1), 1.5, False),
        (SearchParameter(low=0.0, high=0.3, step=0.05), 0.1, True),
        (SearchParameter(low=0.0, high=0.3, step=0.05), 0.12, False),
        (SearchParameter(choices=([1, 3], [1])), (1, 3), True),
        (SearchParameter(choices=("a", "b")), "c", False),
    ],
)
def test_the_configured_value_is_tried_where_the_space_holds_it(
    parameter: SearchParameter, value: Any, expected: bool
) -> None:
    assert parameter.holds(value) is expected
