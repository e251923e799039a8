"""A second training on what has judged the first: of newer sessions, by the same settings, calibrated as before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nqcast.data.seasonal_har import make_scale
from nqcast.data.splits import check_no_overlap, label_end, make_splits, positions, with_longer_train
from nqcast.data.trailing import trailing_rows
from nqcast.evaluation.calibration import calibration_of
from nqcast.evaluation.config import EvaluateConfig
from nqcast.fields import changed
from nqcast.forecast.predictor import load_scale, predict, predict_frame
from nqcast.runs import refit as refitting
from nqcast.runs.recipe import Recipe
from nqcast.runs.refit import Final, refit
from nqcast.storage.checkpoint import DataCard

from .conftest import SPLIT

JUDGING = 2


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def asked(recipe: Recipe) -> Recipe:
    return replace(recipe, train=changed(recipe.train, {"refit": True, "members": 2}))


@pytest.fixture(scope="module")
def judged(features: pd.DataFrame, asked: Recipe, root: Path) -> Final:
    splits = make_splits(features, SPLIT)
    checkpoint = asked.make(features, splits, DataCard("x"), root)[0]
    checkpoint = checkpoint.with_trailing(trailing_rows(features, load_scale(checkpoint).config))
    frame = predict_frame(checkpoint, features, positions(splits, "validation"), EvaluateConfig())
    return Final(checkpoint, calibration_of(frame, checkpoint, EvaluateConfig()), splits)


@pytest.fixture(autouse=True)
def _two_sessions_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refitting, "JUDGING", JUDGING)


def test_train_grows_by_all_of_validation_but_its_latest_sessions(features: pd.DataFrame) -> None:
    before = make_splits(features, SPLIT)
    after = with_longer_train(features, before, SPLIT, JUDGING)
    check_no_overlap(features, after, SPLIT.context)
    assert (positions(after, "test") == positions(before, "test")).all()
    judging = after[after["split"] == "validation"]
    assert list(judging["session"].unique()) == list(
        before.loc[before["split"] == "validation", "session"].unique()[-JUDGING:]
    )
    both = np.concatenate([positions(before, name) for name in ("train", "validation")])
    gap = np.setdiff1d(both, np.concatenate([positions(after, name) for name in ("train", "validation")]))
    limit = positions(after, "validation")[0] - SPLIT.embargo_bars
    assert (label_end(features)[positions(after, "train")] <= limit).all()
    assert (label_end(features)[gap] > limit).all(), "nothing else is lost"


def test_the_second_training_is_the_recipe_on_the_longer_splits(
    features: pd.DataFrame, asked: Recipe, judged: Final, root: Path, tmp_path: Path
) -> None:
    final = refit(judged, features, SPLIT, root)
    splits = with_longer_train(features, judged.splits, SPLIT, JUDGING)
    pd.testing.assert_frame_equal(final.splits, splits)
    grown = len(positions(splits, "train")) / len(positions(judged.splits, "train"))
    windows = round(grown * 256)
    again = replace(asked, train=changed(asked.train, {"windows_per_epoch": windows}))
    alone = again.make(features, splits, DataCard("x"), tmp_path)[0]
    assert final.checkpoint.weights_sha256 == alone.weights_sha256 != judged.checkpoint.weights_sha256
    assert (
        final.checkpoint.members == 2 and final.checkpoint.trailing.keys() == judged.checkpoint.trailing.keys() != set()
    )
    scale = make_scale(asked.scale, asked.quantiles).fit(features, positions(splits, "train"))
    np.testing.assert_array_equal(final.checkpoint.part("scale")["profiles_PS"], scale.profiles_PS)


def test_offsets_are_those_from_before_validation_was_learnt(features: pd.DataFrame, judged: Final, root: Path) -> None:
    final = refit(judged, features, SPLIT, root)
    known = final.checkpoint.metadata
    offline = final.calibration.conformal(final.checkpoint.weights_sha256, known.quantiles, known.horizons)
    np.testing.assert_array_equal(offline.offset_HQ, judged.calibration.offset_HQ)
    assert final.calibration.coverage == judged.calibration.coverage
    assert final.calibration.checkpoint == known.fingerprint
    assert final.calibration.headline[-1].startswith("Trained once more, up to 20")


def test_nothing_after_validation_is_learnt(features: pd.DataFrame, judged: Final, root: Path, tmp_path: Path) -> None:
    other, test = features.copy(), positions(judged.splits, "test")
    rows = slice(int(test[0]), None)
    other.loc[other.index[rows], "realized_variance"] *= 9.0
    other.loc[other.index[rows], [c for c in other if c.startswith("target_")]] *= -3.0
    final, moved = refit(judged, features, SPLIT, root), refit(judged, other, SPLIT, tmp_path)
    assert final.checkpoint.weights_sha256 == moved.checkpoint.weights_sha256


def test_what_is_not_asked_for_or_has_nothing_to_learn_comes_back_as_it_is(
    features: pd.DataFrame, judged: Final, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = judged.checkpoint.metadata
    plain = replace(judged.checkpoint, metadata=replace(card, train=card.train | {"refit": False}))
    unasked = judged._replace(checkpoint=plain)
    assert refit(unasked, features, SPLIT, tmp_path) is unasked
    monkeypatch.setattr(refitting, "JUDGING", 1000)
    assert refit(judged, features, SPLIT, tmp_path) is judged
    assert not list(tmp_path.iterdir())


def test_a_forecast_of_the_second_training_is_another(features: pd.DataFrame, judged: Final, root: Path) -> None:
    final, asked_at = refit(judged, features, SPLIT, root), positions(judged.splits, "test")[:50]
    before, after = (predict(one.checkpoint, features, asked_at)[0] for one in (judged, final))
    assert np.isfinite(after).all() and np.abs(after - before).max() > 1e-7
