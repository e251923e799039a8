"""The score table against figures worked out by other means, and its rendering."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import mean_pinball_loss

from nqcast.evaluation.frames import Forecasts, as_arrays, predictions_frame
from nqcast.evaluation.scores import MEAN, add_truth, describe_anchors, render_scores, score_by_group, score_table, wide

LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
HORIZONS = ("15m", "30m", "60m", "2h", "4h")
N = 3000


def normal_world() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Outcomes with a known changing spread, the truth, constants, and a forecast half-way in log spread."""
    rng = np.random.default_rng(0)
    spread = 1e-3 * np.exp(rng.normal(0, 0.6, (N, 5)))
    targets = spread * rng.normal(size=(N, 5))
    targets[rng.random((N, 5)) < 0.1] = np.nan
    unit = stats.norm.ppf(LEVELS)
    constants = np.stack([np.nanquantile(targets[:, h], LEVELS) for h in range(5)])
    forecasts = {
        "constants": np.broadcast_to(constants, (N, 5, 7)),
        "half": np.sqrt(spread * 1e-3)[..., None] * unit * np.exp(0.09),
        "truth": spread[..., None] * unit,
    }
    return forecasts, targets


def features_like(n: int) -> pd.DataFrame:
    ts = pd.date_range("2016-08-03 13:30", periods=n, freq="5min", tz="UTC").as_unit("ns")
    frame = pd.DataFrame({"ts": ts, "session": ts.tz_localize(None).normalize()})
    rng = np.random.default_rng(1)
    return frame.assign(**{f"target_{h}": rng.normal(size=n) for h in HORIZONS})


def test_the_table_holds_the_losses_of_scikit_learn_and_skill_against_constants() -> None:
    forecasts, targets = normal_world()
    table = score_table(forecasts, targets, LEVELS, HORIZONS)
    half = table["half"]
    for h, name in enumerate(HORIZONS):
        defined = np.isfinite(targets[:, h])
        losses = {
            k: np.mean(
                [mean_pinball_loss(targets[defined, h], q[defined, h, i], alpha=t) for i, t in enumerate(LEVELS)]
            )
            for k, q in forecasts.items()
        }
        assert half[name]["mean_pinball"] == pytest.approx(losses["half"])
        assert half[name]["skill_constants"] == pytest.approx(1 - losses["half"] / losses["constants"])
        assert half[name]["n"] == defined.sum()
    mean_skill = np.mean([half[name]["skill_constants"] for name in HORIZONS])
    assert half[MEAN]["skill_constants"] == pytest.approx(mean_skill)
    assert half[MEAN]["n"] == np.isfinite(targets).sum()
    assert (wide(table, "skill_constants").loc["constants"] == 0).all()


def test_the_share_of_learnable_skill_is_nothing_for_constants_and_all_for_the_truth() -> None:
    forecasts, targets = normal_world()
    ts = pd.Series(pd.date_range("2020-01-06", periods=N, freq="5min", tz="UTC"))
    anchors = Forecasts(ts, ts.dt.normalize(), targets, forecasts["truth"], np.ones((N, 5)))
    rows = [
        pd.DataFrame(forecasts["truth"][::3, h], columns=[f"q{round(100 * t):02d}" for t in LEVELS]).assign(
            ts=ts[::3].to_numpy(), horizon=name
        )
        for h, name in enumerate(HORIZONS)
    ]
    truth = pd.concat(rows).sample(frac=1, random_state=0)
    undefined = (truth["horizon"] == "4h") & truth["ts"].isin(ts[:900])
    truth = truth.mask(undefined, truth.assign(**{c: np.nan for c in truth.columns if c.startswith("q")}))
    table = add_truth(forecasts, anchors, truth)
    share = wide(table, "learnable_share")
    assert (share.loc["constants"] == 0).all()
    assert share.loc["truth"].to_numpy() == pytest.approx(np.ones(6))
    assert share.loc["half", MEAN] == pytest.approx(0.75, abs=0.05)
    assert table["half"]["15m"]["n"] == np.isfinite(targets[::3, 0]).sum()
    assert table["half"]["4h"]["n"] == np.isfinite(targets[900::3, 4]).sum()


def test_groups_partition_the_anchors() -> None:
    forecasts, targets = normal_world()
    group = np.where(np.arange(N) % 3 == 0, "US", "Asia").astype(object)
    ts = pd.Series(pd.date_range("2020-01-06", periods=N, freq="5min", tz="UTC"))
    anchors = Forecasts(ts, ts.dt.normalize(), targets, forecasts["truth"], np.ones((N, 5)))
    part = [table["half"]["2h"] for table in score_by_group(forecasts, anchors, group).values()]
    total = score_table(forecasts, targets, LEVELS, HORIZONS)["half"]["2h"]
    counts = [one["n"] for one in part]
    assert sum(counts) == total["n"]
    assert np.average([one["mean_pinball"] for one in part], weights=counts) == pytest.approx(total["mean_pinball"])


def test_the_rendered_table_fits_80_columns_and_states_the_anchors() -> None:
    forecasts, targets = normal_world()
    forecasts["time_of_day_ewma"] = forecasts["half"]
    ts = pd.Series(pd.date_range("2020-01-06", periods=N, freq="5min", tz="UTC"))
    anchors = Forecasts(ts, ts.dt.normalize(), targets, forecasts["truth"], np.ones((N, 5)))
    text = render_scores(score_table(forecasts, targets, LEVELS, HORIZONS), describe_anchors(anchors))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "3,000 anchors" in text
    assert "in 80 %" in text


def test_a_predictions_frame_gives_back_the_arrays_it_was_made_of() -> None:
    features, positions = features_like(50), np.array([3, 10, 11, 40])
    rng = np.random.default_rng(2)
    quantiles, scale = np.sort(rng.normal(size=(4, 5, 7))), rng.random((4, 5))
    frame = predictions_frame(features, positions, quantiles, scale, LEVELS, HORIZONS)
    assert list(frame.columns) == [
        "ts",
        "session",
        "horizon",
        "target",
        "q05",
        "q10",
        "q25",
        "q50",
        "q75",
        "q90",
        "q95",
        "scale",
    ]
    back = as_arrays(frame.sample(frac=1, random_state=0), LEVELS, HORIZONS)
    assert (back.quantiles == quantiles).all()
    assert (back.scale == scale).all()
    assert (back.targets == features[[f"target_{h}" for h in HORIZONS]].to_numpy()[positions]).all()
    assert list(back.ts) == list(features["ts"].iloc[positions])


def test_a_predictions_frame_with_a_missing_or_repeated_forecast_is_refused() -> None:
    features, positions = features_like(50), np.array([3, 10])
    frame = predictions_frame(features, positions, np.zeros((2, 5, 7)), np.ones((2, 5)), LEVELS, HORIZONS)
    for broken in (frame.drop(index=4), pd.concat([frame, frame]), frame.drop(columns="q95")):
        with pytest.raises(ValueError, match="expected"):
            as_arrays(broken, LEVELS, HORIZONS)
