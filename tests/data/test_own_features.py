"""Features of the user's own: one file, one function; asked what every feature is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from nqcast.constants import FEATURES
from nqcast.data.config import FeaturesConfig
from nqcast.data.data_module import NQDataModule
from nqcast.data.features import build_features, check_features, feature_names
from nqcast.data.own_features import load_own_features

GOOD = """
import numpy as np

def _span(bars):
    return bars["high"] - bars["low"]

def relative_range(bars):
    return (_span(bars) / bars["close"]).rolling(3, min_periods=1).mean()
"""


def write(folder: Path, text: str, name: str = "mine.py") -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_an_own_feature_stands_behind_the_24_which_stay_what_they_are(
    bars: pd.DataFrame, features: pd.DataFrame, tmp_path: Path
) -> None:
    own = load_own_features([write(tmp_path, GOOD)])
    table = check_features(build_features(bars, own=own))
    pd.testing.assert_frame_equal(table[list(features.columns)], features, check_exact=True)
    (name,) = set(table.columns) - set(features.columns)
    assert name.startswith("relative_range:") and len(name) == len("relative_range:") + 8
    assert feature_names(table) == (*FEATURES, name) and feature_names(features) == FEATURES
    expected = ((bars["high"] - bars["low"]) / bars["close"]).rolling(3, min_periods=1).mean()
    np.testing.assert_array_equal(table[name], expected)


def test_the_network_is_given_it(bars: pd.DataFrame, tmp_path: Path) -> None:
    table = build_features(bars, own=load_own_features([write(tmp_path, GOOD)]))
    module = NQDataModule.from_frames(table)
    assert module.n_features == 25 and len(module.feature_mean_F) == 25
    batch = next(iter(module.val_loader))
    anchor = module.splits.query("split == 'validation'")["position"].iloc[0]
    seen = table[feature_names(table)[-1]].to_numpy(np.float32)[anchor - 287 : anchor + 1]
    np.testing.assert_array_equal(batch["features"][0, :, 24], seen)


def test_a_changed_file_is_another_feature(tmp_path: Path) -> None:
    first, second = (load_own_features([write(tmp_path, GOOD + more)])[0].name for more in ("", "\n# a word\n"))
    assert first != second and first.split(":")[0] == second.split(":")[0]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ('bars["close"].shift(-1).ffill() / bars["close"]', "looks at no later bar"),
        ('bars["volume"] / max(bars["volume"].max(), 1)', "looks at no later bar"),
        ('bars["close"] - bars["open"]', "free of the price level"),
        ('bars["close"].pct_change()', "1 others"),
        ('bars["close"].iloc[1:] / 2', "the shape"),
        ('bars["colse"]', "KeyError"),
        ("None", "finite numbers"),
        ('bars.assign(x=0)["contract"]', "ValueError"),
    ],
)
def test_a_feature_that_is_none_is_refused_with_its_name(
    body: str, complaint: str, bars: pd.DataFrame, tmp_path: Path
) -> None:
    own = load_own_features([write(tmp_path, f"def wrong(bars):\n    return {body}\n")])
    with pytest.raises(ValueError, match=r"wrong:[0-9a-f]{8}") as refusal:
        build_features(bars, own=own)
    assert complaint in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = 1\n", "found none"),
        (GOOD + "\ndef second(bars):\n    return 0\n", "'relative_range', 'second'"),
        ("from statistics import mean\n", "found none"),
        ("def broken(:\n", "SyntaxError"),
        ("1 / 0\n", "ZeroDivisionError"),
    ],
)
def test_a_file_that_holds_no_feature_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mine\.py") as refusal:
        load_own_features([write(tmp_path, text)])
    assert complaint in str(refusal.value)


def test_a_file_that_is_not_there_and_a_name_twice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.py"):
        load_own_features([tmp_path / "nowhere.py"])
    with pytest.raises(ValueError, match="twice"):
        load_own_features([write(tmp_path, GOOD), write(tmp_path, GOOD, "other.py")])


def test_the_function_cannot_change_the_bars(bars: pd.DataFrame, features: pd.DataFrame, tmp_path: Path) -> None:
    text = "def sly(bars):\n    bars['close'] *= 2\n    return bars['close'] * 0\n"
    table = build_features(bars, own=load_own_features([write(tmp_path, text)]))
    pd.testing.assert_frame_equal(table[list(features.columns)], features, check_exact=True)


def test_parameters_take_a_list_or_text_and_paths_inside_the_project_alone() -> None:
    assert FeaturesConfig(own="mine/a.py+mine/b.py").own == ("mine/a.py", "mine/b.py")
    assert FeaturesConfig(own=["a.py"]).own == ("a.py",) and FeaturesConfig(own="").own == ()
    with pytest.raises(ValidationError, match="another market's bars as es=FILE"):
        FeaturesConfig(own="es.parquet")
    for outside in ("/etc/x.py", "../x.py", "mine/../../x.py"):
        with pytest.raises(ValidationError, match="inside the project"):
            FeaturesConfig(own=outside)
