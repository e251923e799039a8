"""A forecast from now is the one that the evaluation would have made at that bar, and a refusal says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nqcast.constants import HORIZONS, LEVELS
from nqcast.evaluation.calibration import Calibration, fit_calibration
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.conformal import ConformalCalibration
from nqcast.evaluation.frames import as_arrays
from nqcast.forecast.config import ForecastConfig
from nqcast.forecast.forecaster import Forecaster
from nqcast.forecast.freshness import ForecastRefusedError
from nqcast.forecast.predictor import predict, predict_frame
from nqcast.forecast.text import forecast_text
from nqcast.market.config import IngestConfig

Checkpoint = dict[str, Any]
NOON = pd.Timestamp("2016-03-23T17:00:00Z")  # the session closes at 21:00


def forecaster(checkpoint: Checkpoint, **config: Any) -> Forecaster:
    return Forecaster(checkpoint, config=ForecastConfig(**config))


def row_of(features: pd.DataFrame, issued: pd.Timestamp) -> int:
    return int(np.flatnonzero(features["ts"] == issued - pd.Timedelta(minutes=5))[0])


def returns(frame: pd.DataFrame) -> np.ndarray:
    """Return quantiles (H, Q) of a forecast."""
    return frame["return_quantile"].to_numpy().reshape(len(HORIZONS), len(LEVELS))


def test_a_forecast_is_what_the_evaluation_would_have_said_at_that_bar(
    raw: pd.DataFrame, features: pd.DataFrame, checkpoint: Checkpoint
) -> None:
    frame = forecaster(checkpoint, as_of=NOON).forecast(raw)
    row = np.array([row_of(features, NOON)])
    expected, _ = predict(checkpoint, features, row, EvaluateConfig(device="cpu"))
    np.testing.assert_allclose(returns(frame), expected[0], rtol=1e-6)
    assert (frame["issue_time"] == NOON).all()


def test_what_comes_after_changes_nothing(raw: pd.DataFrame, plain_checkpoint: Checkpoint) -> None:
    model = forecaster(plain_checkpoint, as_of=NOON)
    known = raw[raw["ts"] < NOON]
    pd.testing.assert_frame_equal(model.forecast(raw), model.forecast(known), check_exact=True)


def test_a_bar_that_has_not_ended_is_not_read(raw: pd.DataFrame, plain_checkpoint: Checkpoint) -> None:
    known = raw[raw["ts"] < NOON + pd.Timedelta(minutes=3)]
    frame = forecaster(plain_checkpoint).forecast(known)
    assert (frame["issue_time"] == NOON).all()
    pd.testing.assert_frame_equal(frame, forecaster(plain_checkpoint, as_of=NOON).forecast(raw), check_exact=True)


def test_prices_are_raw_ones_after_a_roll(
    raw: pd.DataFrame, features: pd.DataFrame, plain_checkpoint: Checkpoint
) -> None:
    frame = forecaster(plain_checkpoint, as_of=NOON).forecast(raw)
    contract = frame["contract"].iloc[0]
    last = raw[(raw["ts"] < NOON) & (raw["contract"] == contract)].sort_values("ts")["close"].iloc[-1]
    adjusted = features["close"].iloc[row_of(features, NOON)]
    assert adjusted != last  # this market has rolled
    np.testing.assert_allclose(frame["price_quantile"], last * np.exp(frame["return_quantile"]), rtol=1e-12)


def test_each_horizon_and_level_has_one_row_with_its_target_time(
    raw: pd.DataFrame, plain_checkpoint: Checkpoint
) -> None:
    frame = forecaster(plain_checkpoint, as_of=NOON).forecast(raw)
    expected = [(h, NOON + pd.Timedelta(minutes=m), tau) for h, m in HORIZONS.items() for tau in LEVELS]
    assert list(frame[["horizon", "target_time", "level"]].itertuples(index=False, name=None)) == expected


def test_a_horizon_beyond_the_close_is_left_empty_and_the_others_stand(
    raw: pd.DataFrame, plain_checkpoint: Checkpoint
) -> None:
    frame = forecaster(plain_checkpoint, as_of="2016-03-23T19:00:00Z").forecast(raw)
    empty = frame.groupby("horizon")["price_quantile"].apply(lambda prices: prices.isna().all())
    assert {name for name, gone in empty.items() if gone} == {"4h"}
    assert frame["price_quantile"].notna().sum() == 4 * len(LEVELS)


def test_history_that_ends_with_its_session_is_forecast_from_the_last_bar_with_every_horizon(
    raw: pd.DataFrame, plain_checkpoint: Checkpoint
) -> None:
    issued = forecaster(plain_checkpoint).issue(raw)
    assert issued.session_close - issued.forecast["issue_time"].iloc[0] == pd.Timedelta(hours=4)
    assert issued.newest == issued.session_close
    assert issued.forecast["return_quantile"].notna().all()


def without(raw: pd.DataFrame, start: str, end: str) -> pd.DataFrame:
    return raw[~raw["ts"].between(pd.Timestamp(start), pd.Timestamp(end), inclusive="left")]


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        (lambda r: r, {"max_age_minutes": 10}, r"at most 10 minutes ago, found the newest one's end at 2016-03-28 21"),
        (lambda r: r, {"as_of": "2016-03-24T02:00:00Z", "max_age_minutes": 0.5, "min_bars": 9}, None),
        (
            lambda r: without(r, "2016-03-23T03:00Z", "2016-03-23T05:00Z"),
            {"as_of": NOON},
            r"every 60 minutes of open market in the last 288 bars, found none from 2016-03-23 03:00 UTC to "
            r"2016-03-23 05:00 UTC \(120 minutes",
        ),
        (
            lambda r: without(r, "2016-03-21T22:00Z", "2016-03-22T21:00Z"),
            {"as_of": NOON},
            r"found none from 2016-03-21 22:00 UTC to 2016-03-22 21:00 UTC \(1365 minutes",
        ),
        (lambda r: without(r, "2016-03-23T03:00Z", "2016-03-23T05:00Z"), {"as_of": NOON, "max_gap_minutes": 120}, None),
        (lambda r: r[r["ts"] > "2016-03-18"], {"as_of": NOON}, r"at least 5520 five-minute bars .* found \d+"),
        (lambda r: r, {"as_of": "2015-01-01T00:00:00Z"}, r"had ended at 2015-01-01 00:00 UTC, found the first bar at"),
        (lambda r: r, {"as_of": "2016-03-23T21:00:00Z"}, r"goes on for 15 minutes or more, found .* the close at 20"),
        (lambda r: r, {"as_of": "2016-03-26T12:00:00Z", "max_age_minutes": 90}, r"at most 90 minutes before"),
        (lambda r: r, {"as_of": "2016-03-26T12:00:00Z"}, r"60 minutes before forecast.as_of, 2016-03-26 12:00 UTC"),
        (lambda r: r.drop(columns="high"), {}, "expected a column 'high'"),
        (lambda r: r.assign(ts=r["ts"].dt.tz_localize(None)), {}, "time stamps with a zone"),
        (lambda r: r.iloc[:0], {}, "no rows"),
        (lambda r: r.assign(close=r["close"].where(r.index % 9 > 0, -1)), {}, r"at most 1.0% .*price zero or negative"),
        (lambda r: r.iloc[::7], {}, "every 1 or 5 minutes"),
    ],
)  # fmt: skip
def test_bars_that_carry_no_forecast_are_refused_with_the_reason(
    raw: pd.DataFrame, plain_checkpoint: Checkpoint, change: Any, config: dict[str, Any], message: str | None
) -> None:
    model = forecaster(plain_checkpoint, **config)
    if message is None:
        assert model.forecast(change(raw))["return_quantile"].notna().any()
        return
    with pytest.raises(ValueError, match=message):
        model.forecast(change(raw))


def test_a_refusal_has_a_type_of_its_own(raw: pd.DataFrame, plain_checkpoint: Checkpoint) -> None:
    with pytest.raises(ForecastRefusedError):
        forecaster(plain_checkpoint, max_age_minutes=10).forecast(raw)


def test_volume_is_asked_for_where_the_model_was_trained_with_it(
    raw: pd.DataFrame, plain_checkpoint: Checkpoint
) -> None:
    with pytest.raises(ValueError, match=r"with volume, with which this checkpoint was trained.*volume=false"):
        forecaster(plain_checkpoint).forecast(raw.drop(columns="volume"))
    mean = plain_checkpoint.tensors["model.norm.feature_mean_F"].copy()
    mean[4] = 0.0  # log_volume of a training without volume
    blind = replace(plain_checkpoint, tensors={**plain_checkpoint.tensors, "model.norm.feature_mean_F": mean})
    with_volume, without_it = (forecaster(blind).forecast(frame) for frame in (raw, raw.drop(columns="volume")))
    assert with_volume["return_quantile"].notna().all()
    assert with_volume["last_price"].iloc[0] == pytest.approx(without_it["last_price"].iloc[0], rel=0.01)


def test_calibration_moves_each_quantile_by_its_offset_in_scales(
    raw: pd.DataFrame, features: pd.DataFrame, plain_checkpoint: Checkpoint
) -> None:
    calibration = ConformalCalibration(LEVELS, list(HORIZONS), plain_checkpoint.weights_sha256)
    calibration.offset_HQ[:] = 0.1 * np.arange(1, 8) * np.arange(1, 6)[:, None]
    config = ForecastConfig(as_of=NOON)
    before = Forecaster(plain_checkpoint, None, config).issue(raw)
    after = Forecaster(plain_checkpoint, Calibration.from_json(calibration.state()), config).issue(raw)
    row = np.array([row_of(features, NOON)])
    _, scale = predict(plain_checkpoint, features, row, EvaluateConfig(device="cpu"))
    moved = returns(after.forecast) - returns(before.forecast)
    np.testing.assert_allclose(moved, calibration.offset_HQ * scale[0][:, None], rtol=1e-9)
    assert (before.calibrated, after.calibrated) == (False, True)


def test_a_calibration_of_another_checkpoint_is_refused(plain_checkpoint: Checkpoint) -> None:
    other = Calibration.from_json(ConformalCalibration(LEVELS, list(HORIZONS), "0ther").state())
    with pytest.raises(ValueError, match=r"fitted for the weights .*found one for 0ther"):
        Forecaster(plain_checkpoint, other)


def test_bars_of_a_file_and_frames_in_a_vendors_spelling_are_taken(
    raw: pd.DataFrame, plain_checkpoint: Checkpoint, tmp_path: Any
) -> None:
    model = forecaster(plain_checkpoint, as_of=NOON)
    expected = model.forecast(raw)
    raw.to_parquet(tmp_path / "bars.parquet")
    renamed = raw.rename(columns={"close": "Close", "contract": "Symbol"}).set_index("ts")
    for bars in (tmp_path / "bars.parquet", str(tmp_path / "bars.parquet"), renamed):
        pd.testing.assert_frame_equal(model.forecast(bars), expected)


def test_an_answer_to_the_calendar_moves_the_close(raw: pd.DataFrame, plain_checkpoint: Checkpoint) -> None:
    ingest = IngestConfig(session_closes={"2016-03-23": "13:00"})
    early = Forecaster(plain_checkpoint, None, ForecastConfig(as_of=NOON), ingest).forecast(raw[raw["ts"] < NOON])
    gone = early.groupby("horizon")["return_quantile"].apply(lambda values: values.isna().all())
    assert {name for name, empty in gone.items() if empty} == {"2h", "4h"}


def test_an_unfinished_five_minute_bar_is_not_forecast_as_finished(
    raw: pd.DataFrame, plain_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    minutes = raw[raw["ts"] < "2016-03-23 15:03"]
    frame = minutes.groupby([minutes["ts"].dt.floor("5min"), minutes["contract"]]).agg(rules).reset_index()
    now = pd.Timestamp("2016-03-23 15:03", tz="UTC")
    monkeypatch.setattr(ForecastConfig, "now", lambda self: now)  # the clock of a live run
    found = forecaster(plain_checkpoint).forecast(frame)
    assert found["issue_time"].iloc[0] == pd.Timestamp("2016-03-23 15:00", tz="UTC")


def test_a_file_of_the_days_trade_alone_forecasts_without_a_parameter(
    raw: pd.DataFrame, plain_checkpoint: Checkpoint
) -> None:
    local = raw["ts"].dt.tz_convert("America/Chicago")
    minute = local.dt.hour * 60 + local.dt.minute
    day = raw[(minute >= 510) & (minute < 900)]
    found = forecaster(plain_checkpoint, min_bars=2000).forecast(day)
    assert found["return_quantile"].notna().any()
    silent = day[~day["ts"].between("2016-03-28 15:00", "2016-03-28 17:30")]
    with pytest.raises(ForecastRefusedError, match="expected a trade at least every 60 minutes"):
        forecaster(plain_checkpoint, min_bars=2000).forecast(silent)


def test_joint_paths_have_the_forecasts_quantiles_as_margins_and_end_with_the_session(
    raw: pd.DataFrame, features: pd.DataFrame, plain_checkpoint: Checkpoint
) -> None:
    rows = np.arange(6000, 12_000, 5)
    anchors = as_arrays(predict_frame(plain_checkpoint, features, rows), LEVELS, list(HORIZONS))
    calibration = fit_calibration(anchors, plain_checkpoint, EvaluateConfig())
    made = {"config": ForecastConfig(as_of="2016-03-23T19:00:00Z", paths=3000), "calibration": calibration}
    issued = Forecaster(plain_checkpoint, **made).issue(raw)
    assert list(issued.paths["path"].unique()) == list(range(3000))
    for name, part in issued.paths.groupby("horizon", sort=False):
        forecast = issued.forecast[issued.forecast["horizon"] == name]
        if name == "4h":
            assert part["price"].isna().all(), "the session closes first"
            continue
        assert set(part["target_time"]) == set(forecast["target_time"])
        width = forecast["return_quantile"].iloc[-1] - forecast["return_quantile"].iloc[0]
        np.testing.assert_allclose(part["log_return"].quantile(LEVELS), forecast["return_quantile"], atol=0.01 * width)
    pd.testing.assert_frame_equal(issued.paths, Forecaster(plain_checkpoint, **made).issue(raw).paths)
    assert "Of 3,000 joint paths 95 % stay above" in forecast_text(issued)
    with pytest.raises(ValueError, match=r"joint ranks for forecast.paths, found none"):
        Forecaster(plain_checkpoint, config=ForecastConfig(paths=10))
