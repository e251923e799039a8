"""Bad input meets a right answer or one clear error; nothing wrong passes silently."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tests.kedro_command import KEDRO, PROJECT, environment, newest, output_of
from tests.market.conftest import _make_bars as make_bars

from nqcast.constants import FEATURES
from nqcast.data.config import FeaturesConfig, LoaderConfig, ScaleConfig, SplitConfig
from nqcast.data.data_module import NQDataModule
from nqcast.data.features import build_features
from nqcast.data.seasonal_har import make_scale
from nqcast.data.splits import make_splits, positions
from nqcast.market.checks.rows import STRAY
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.vendor import read_bars
from nqcast.model import MIGT_TVDT
from nqcast.model.config import ModelConfig
from nqcast.parameters import ParameterError, check_parameters

CONFIG = IngestConfig()
Spoil = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def week() -> pd.DataFrame:
    return make_bars(date(2016, 9, 19), date(2016, 9, 23))


@pytest.fixture(scope="module")
def features() -> pd.DataFrame:
    """Five weeks of features; anchors need 300 bars before them."""
    return build_features(build_bars(make_bars(date(2016, 9, 5), date(2016, 10, 7)), CONFIG).bars, FeaturesConfig())


SPLIT = SplitConfig(warmup_bars=300)


@pytest.mark.parametrize("spoil", ["truncated", "garbled", "empty", "another kind", "cut to its footer"])
def test_a_broken_parquet_file_is_named(spoil: str, week: pd.DataFrame, tmp_path: Path) -> None:
    file = tmp_path / "bars.parquet"
    week.to_parquet(file)
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(
        {
            "truncated": content[:middle],
            "garbled": content[: middle - 200] + np.random.default_rng(0).bytes(400) + content[middle + 200 :],
            "empty": b"",
            "another kind": b"PK\x03\x04" + b"\0" * 500,
            "cut to its footer": content[-200:],
        }[spoil]
    )
    with pytest.raises(ValueError, match=r"bars\.parquet"):
        build_bars(read_bars(file), CONFIG)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda b: b.rename(columns={"close": "settle"}), "expected a column 'close'"),
        (lambda b: b.drop(columns="ts"), "expected a column 'ts'"),
        (lambda b: b.drop(columns="volume"), "set volume to false"),
        (lambda b: b.assign(open="text"), "expected numbers in column 'open', found 'text'"),
        (lambda b: b.assign(open="n/a"), "price missing or not finite"),
        (lambda b: b.assign(high=True), "expected numbers in column 'high'"),
        (lambda b: b.assign(ts=b["ts"].dt.tz_localize(None)), "naive_timezone"),
        (lambda b: b.assign(ts=range(len(b))), "expected time stamps"),
        (lambda b: b.assign(ts=b["ts"].map(lambda t: f"{t.day}/{t.month}/{t.year}")), "found dates alone"),
    ],
    ids=["renamed", "no ts", "no volume", "text", "not available", "bool", "no zone", "numbers", "dates without times"],
)
def test_wrong_columns_meet_a_message_with_a_cure(
    spoil: Spoil, message: str, week: pd.DataFrame, tmp_path: Path
) -> None:
    spoil(week).to_parquet(tmp_path / "bars.parquet")
    with pytest.raises(ValueError, match=message):
        build_bars(read_bars(tmp_path / "bars.parquet"), CONFIG)


def test_columns_that_nobody_asked_for_change_nothing(week: pd.DataFrame, tmp_path: Path) -> None:
    week.assign(vwap=1.0, note="x").to_parquet(tmp_path / "bars.parquet")
    pd.testing.assert_frame_equal(
        build_bars(read_bars(tmp_path / "bars.parquet"), CONFIG).bars, build_bars(week, CONFIG).bars
    )


def test_day_first_and_month_first_dates_in_one_file_are_no_dates(week: pd.DataFrame, tmp_path: Path) -> None:
    orders = np.where(np.arange(len(week)) < 3000, "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M")
    stamps = [ts.strftime(order) for ts, order in zip(week["ts"], orders, strict=True)]
    week.assign(ts=stamps).to_csv(tmp_path / "bars.csv", index=False)
    with pytest.raises(ValueError, match="expected time stamps"):
        build_bars(read_bars(tmp_path / "bars.csv"), IngestConfig(naive_timezone="UTC"))


def test_stamps_that_a_change_of_clocks_makes_ambiguous_are_quarantined(tmp_path: Path) -> None:
    raw = make_bars(date(2016, 11, 1), date(2016, 11, 9), missing=0.0)
    local = raw["ts"].dt.tz_convert("Asia/Tokyo").dt.tz_localize(None)
    twice = pd.Timestamp("2016-11-06 01:30")  # New York and Chicago set their clocks back in this hour
    spoilt = raw.assign(ts=local)
    spoilt.loc[100, "ts"] = twice
    found = build_bars(spoilt.assign(ts=spoilt["ts"]), IngestConfig(naive_timezone="Asia/Tokyo"))
    assert found.report["quarantined_by_reason"] == {STRAY: 1}
    sunday = raw.head(400).assign(ts=raw["ts"].head(400).dt.tz_convert("America/Chicago").dt.tz_localize(None))
    sunday.loc[100, "ts"] = twice
    found = build_bars(sunday, IngestConfig(naive_timezone="America/Chicago"))
    assert found.report["quarantined_by_reason"] == {"time stamp missing, ambiguous or impossible in its zone": 1}


def test_a_constant_feature_trains_on(features: pd.DataFrame) -> None:
    constant = features.assign(amihud=0.0, log_volume=7.5)
    splits = make_splits(constant, SPLIT)
    train = positions(splits, "train")
    scale = make_scale(ScaleConfig(), ModelConfig().quantiles).fit(constant, train)
    module = NQDataModule.from_frames(constant, splits, scale, 64, LoaderConfig())
    model = MIGT_TVDT(ModelConfig(size="test"))
    model.set_base(module.unit_quantiles_HQ, module.feature_mean_F, module.feature_std_F)
    batch = next(iter(module.train_loader))
    output = model(batch["features"], batch.get("attention_mask"), batch["temporal_info"], batch["scale"])
    loss = output["quantiles"].abs().sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_day_of_one_bar_gives_no_target_and_no_division_by_zero() -> None:
    raw = make_bars(date(2016, 9, 5), date(2016, 10, 7))
    session = (raw["ts"] + pd.Timedelta(hours=2)).dt.normalize()
    lonely = session == pd.Timestamp("2016-09-20", tz="UTC")
    kept = raw[~lonely | (lonely & (raw.groupby(session)["ts"].transform("idxmin") == raw.index))]
    frame = build_features(build_bars(kept, CONFIG).bars, FeaturesConfig())
    day = frame[frame["session"] == "2016-09-20"]
    assert len(day) == 1 and day.filter(like="target_").isna().all(axis=None)
    assert np.isfinite(frame[list(FEATURES)].to_numpy()).all()


def test_too_little_data_for_a_horizon_or_for_three_splits_is_said(features: pd.DataFrame) -> None:
    short = features.iloc[:330].assign(**dict.fromkeys(features.filter(like="target_"), np.nan))
    with pytest.raises(ValueError, match="give more bars"):
        make_splits(short, SPLIT)
    with pytest.raises(ValueError, match="give more bars"):
        make_splits(features.iloc[:900].reset_index(drop=True), SPLIT)
    with pytest.raises(ValueError, match="at least 300 usable bars"):
        build_bars(make_bars(date(2016, 9, 20), date(2016, 9, 20)).head(200), CONFIG)


def test_a_batch_larger_than_the_data_is_the_data(features: pd.DataFrame) -> None:
    splits = make_splits(features, SPLIT)
    scale = make_scale(ScaleConfig(), ModelConfig().quantiles).fit(features, positions(splits, "train"))
    module = NQDataModule.from_frames(features, splits, scale, 10**6, LoaderConfig())
    (batch,) = list(module.train_loader)
    assert len(batch["targets"]) == len(positions(splits, "train"))


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"train": {"learning_rate": "fast"}}, "train.learning_rate: Input should be a valid number"),
        ({"train": {"epochs": "many"}}, "train.epochs"),
        ({"ingest": {"tick": "1/4"}}, "ingest.tick"),
        ({"ingest": {"doubtful": "maybe"}}, "ingest.doubtful"),
        ({"split": {"train": None}}, "split.train"),
        ({"quantiles": "all"}, "quantiles"),
        ({"train": []}, "train"),
    ],
)
def test_text_where_a_number_belongs_is_named(group: dict, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        check_parameters(group)


@pytest.mark.slow
def test_zone_locale_home_and_odd_paths_change_no_feature(toy_features: Path, tmp_path: Path) -> None:
    import subprocess

    chosen = ("run", "--env", "test", "--pipelines", "ingest,features")
    odd = tmp_path / "ä [x] #1 & 'b' $HOME"
    variables = {**environment(odd), "TZ": "Asia/Kathmandu", "LC_ALL": "C", "LANG": "tr_TR.UTF-8"}
    for name in ("HOME", "USER", "LOGNAME"):
        variables.pop(name, None)
    done = subprocess.run(
        [KEDRO, *chosen], cwd=PROJECT, env=variables, capture_output=True, text=True, timeout=200, check=False
    )
    output_of(done)
    one, other = (newest(data / "04_feature" / "features.parquet") / "features.parquet" for data in (toy_features, odd))
    pd.testing.assert_frame_equal(pd.read_parquet(one), pd.read_parquet(other))
    assert json.loads((odd / "08_reporting" / "data_report.json").read_text())["text"]


def test_no_compiler_is_asked_for(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A forward and a backward pass with no compiler on the path and compilation refused."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CC", "/nonexistent/cc")
    monkeypatch.setattr(torch, "compile", lambda *a, **k: pytest.fail("torch.compile needs a compiler"))
    model = MIGT_TVDT(ModelConfig(size="test"))
    clock = {
        n: torch.zeros(2, 288, dtype=torch.int64) for n in ("bar_in_day", "day_of_week", "day_of_month", "day_of_year")
    }
    with caplog.at_level(logging.WARNING):
        model(torch.randn(2, 288, 24), None, clock)["quantiles"].sum().backward()
    assert caplog.text == ""
