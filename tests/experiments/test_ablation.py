"""Ablations: a variant without a change gains nothing, the test split is never seen, seeds are shared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from tests.experiments.conftest import EVALUATE

from nqcast.data.config import SplitConfig
from nqcast.data.splits import label_end, make_splits, positions
from nqcast.experiments.ablation import Ablation
from nqcast.experiments.config import AblationConfig, Variant
from nqcast.model.config import ModelConfig
from nqcast.runs.recipe import Recipe

SPLIT = SplitConfig(warmup_bars=5520, validation=0.1, test=0.2)  # three sessions judge the networks of a second
VARIANTS = {
    "same": Variant(),
    "no_gate": Variant(model={"gate": False}),
    "no_scale": Variant(scale={"kind": "constant"}),
    "context_144": Variant(model={"context": 144}),
}


@pytest.fixture(scope="module")
def ablation(recipe: Recipe) -> Ablation:
    return Ablation(SPLIT, recipe, EVALUATE, AblationConfig(seeds=(0, 4), variants=VARIANTS))


@pytest.mark.slow
def test_variants_are_compared_on_validation_alone_with_the_same_seeds(
    ablation: Ablation, features: pd.DataFrame, tmp_path: Path
) -> None:
    scores = ablation.run(features, tmp_path / "first")
    table = scores["table"]
    assert list(table) == ["base", *VARIANTS, "seasonal_har"]
    for name in ("base", "same"):
        assert all(
            row["gain"] == row["low"] == row["high"] == 0 for h, row in table[name].items() if h in ("15m", "mean")
        )
        assert table[name]["by_seed"] == [0, 0]
    assert table["no_scale"]["15m"]["high"] < -0.01
    assert table["no_gate"]["parameters"] == table["base"]["parameters"] - (16 * 16 + 16)
    assert len({*table["no_gate"]["by_seed"], *table["context_144"]["by_seed"]}) == 4
    assert all(name.replace("_", " ") in scores["text"] for name in VARIANTS)


def test_bars_after_validation_change_nothing(recipe: Recipe, features: pd.DataFrame, tmp_path: Path) -> None:
    small = Ablation(SPLIT, recipe, EVALUATE, AblationConfig(seeds=(0,), variants={"no_gate": VARIANTS["no_gate"]}))
    splits = make_splits(features, SPLIT)
    after = int(label_end(features)[positions(splits, "validation")].max()) + 1
    changed = features.copy()
    numbers = changed.select_dtypes("float64").columns
    noise = np.abs(np.random.default_rng(0).normal(size=(len(features) - after, len(numbers))))
    changed.loc[after:, numbers] = noise
    first, second = (small.run(f, tmp_path / name)["table"] for f, name in ((features, "first"), (changed, "second")))
    assert first == second


def test_a_variant_cannot_take_the_name_of_the_configured_model() -> None:
    with pytest.raises(ValidationError, match="rename the variant"):
        AblationConfig(variants={"base": Variant()})


def test_a_variant_changes_what_it_names_and_nothing_else(recipe: Recipe) -> None:
    changed = recipe.with_fields(model=Variant(model={"n_variable_blocks": 0}).model)
    assert changed.model == ModelConfig(size="test", n_variable_blocks=0)
    assert (changed.scale, changed.train) == (recipe.scale, recipe.train)
