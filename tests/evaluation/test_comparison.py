"""The verdict: the same anchors for everybody, gains with a sign, and the truth as the ceiling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nqcast.evaluation import metrics
from nqcast.evaluation.baselines import baseline_quantiles, make_baseline
from nqcast.evaluation.compared import Compared
from nqcast.evaluation.comparison import compare_forecasts, market_of, untrained
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import as_arrays, predictions_frame
from nqcast.evaluation.judged import perfect_volatility
from nqcast.evaluation.metrics import level_name
from nqcast.evaluation.session_losses import holm
from nqcast.evaluation.significance import diebold_mariano, session_sums
from nqcast.evaluation.split_uses import use_by_checkpoint
from nqcast.storage.checkpoint import Checkpoint, DataCard, Metadata

LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
HORIZONS = ("15m", "30m", "60m", "2h", "4h")
BARS = np.array([3, 6, 12, 24, 48])
TRAIN = np.arange(2760, 276 * 30)
CONFIG = EvaluateConfig(bootstrap_replications=100, truth_anchors=300)


@pytest.fixture(scope="module")
def features(market: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    return market(50)


@pytest.fixture(scope="module")
def predictions(features: pd.DataFrame) -> pd.DataFrame:
    """Forecasts of SeasonalHAR itself."""
    test = np.arange(276 * 31, len(features))
    quantiles = make_baseline("seasonal_har", LEVELS, HORIZONS).fit(features, TRAIN).predict(features, test)
    return predictions_frame(features, test, quantiles, np.ones((len(test), 5)), LEVELS, HORIZONS)


class Law:
    """Normal returns whose spread is that of the bar, scaled by the root of time."""

    def __init__(self, features: pd.DataFrame) -> None:
        self.sigma = features.set_index("ts")["sigma"]
        self.asked = 0

    source = "SIMULATED MARKET (seed 7)"

    def quantiles_at(
        self, ts: pd.Series, levels: tuple[float, ...], *, horizons: Sequence[str], **_: object
    ) -> pd.DataFrame:
        self.asked += len(ts)
        spread = self.sigma.loc[ts].to_numpy()[:, None] * np.sqrt(BARS)
        frame = pd.DataFrame({"ts": np.repeat(ts.array, 5), "horizon": list(HORIZONS) * len(ts)})
        return frame.assign(**{level_name(tau): (spread * stats.norm.ppf(tau)).ravel() for tau in levels})


def judged(features: pd.DataFrame, predictions: pd.DataFrame, law: object = None, **rows: np.ndarray) -> dict:
    """The verdict on the predictions beside the quick baselines, and on further rows of quantiles."""
    anchors = as_arrays(predictions, LEVELS, HORIZONS)
    forecasts = baseline_quantiles(features, TRAIN, anchors.ts, LEVELS, CONFIG)
    every = {**forecasts, "model": anchors.quantiles, **rows}
    return compare_forecasts(Compared(anchors=anchors, forecasts=every, config=CONFIG), law)


def test_a_model_that_is_seasonal_har_gains_nothing_over_it_and_something_over_constants(
    features: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    scores = judged(features, predictions)
    for horizon, row in scores["table"]["seasonal_har"].items():
        assert scores["table"]["model"][horizon] == pytest.approx(row)
    for row in scores["gains"]["seasonal_har"].values():
        assert list(row.values()) == pytest.approx([0, 0, 0, 1], abs=1e-12)
    assert scores["gains"]["constants"]["15m"]["low"] > 0
    assert "truth" not in scores
    lines = [*scores["text"].splitlines(), *scores["details"].splitlines(), *scores["headline"]]
    assert max(map(len, lines)) <= 80
    assert scores["headline"][0].startswith("The model cannot be told from seasonal har")


def test_the_larger_p_value_of_sessions_and_bars_counts_for_every_baseline_and_horizon(
    features: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    # losses that alternate between sessions: there the bars, which see no session before, are the more careful test
    even = predictions["session"].factorize()[0] % 2 == 0
    wider = {name: predictions[name].where(~even, 1.15 * predictions[name]) for name in map(level_name, LEVELS)}
    alternating = predictions.assign(**wider)
    gains = judged(features, alternating)["gains"]
    anchors = as_arrays(alternating, LEVELS, HORIZONS)
    own = metrics.anchor_loss(anchors.quantiles, anchors.targets, LEVELS)
    counted = []
    for name, baseline in baseline_quantiles(features, TRAIN, anchors.ts, LEVELS, CONFIG).items():
        difference = own - metrics.anchor_loss(baseline, anchors.targets, LEVELS)
        for h, bars in enumerate(BARS):
            by_session = diebold_mariano(session_sums(difference, anchors.session)[:, h], 5).p_value
            by_bar = diebold_mariano(difference[:, h], max(bars, 12)).p_value
            assert gains[name][HORIZONS[h]]["p_value"] == pytest.approx(max(by_session, by_bar))
            counted.append(by_bar > by_session)
    assert any(counted)
    assert not all(counted)


def test_every_calibrated_row_is_in_the_table_and_checked(features: pd.DataFrame, predictions: pd.DataFrame) -> None:
    quantiles = as_arrays(predictions, LEVELS, HORIZONS).quantiles
    scores = judged(features, predictions, model_conformal=quantiles, model_online=1.5 * quantiles)
    gains = scores["gains"]
    assert gains["constants"]["15m"]["p_value"] < 0.01
    assert gains["constants"]["mean"]["p_value"] < 0.01
    assert set(gains) == {"constants", "time_of_day", "time_of_day_ewma", "log_har", "seasonal_har"}
    assert set(scores["table"]) >= {"model", "model_conformal", "model_online"}
    offline, online = scores["calibration"]["model_conformal"], scores["calibration"]["model_online"]
    assert offline["mean"]["wis_over_raw"] == 0
    assert online["mean"]["wis_over_raw"] > 0.02
    assert {"q05", "q95"} <= set(online["15m"]["outside"])
    assert offline["15m"]["outside"] == []
    assert "model conformal" in scores["text"] and "model conformal" in scores["details"]
    assert "conformal" in scores["headline"][2] and max(map(len, scores["details"].splitlines())) <= 80


def test_too_few_sessions_have_no_p_value(features: pd.DataFrame, predictions: pd.DataFrame) -> None:
    few = predictions[predictions["session"] <= predictions["session"].unique()[5]]
    gains = judged(features, few)["gains"]
    assert gains["constants"]["15m"]["p_value"] is None


@pytest.mark.parametrize("count", [1, 3])
def test_few_sessions_are_said_to_be_too_few_and_nothing_is_made_up(
    count: int, features: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    few = predictions[predictions["session"] <= predictions["session"].unique()[count - 1]]
    scores = judged(features, few)
    assert scores["judged"]["confidence_set"] == scores["judged"]["corrected_p"] == {}
    assert f"No model confidence set and no p-values: {count} session" in scores["text"]
    assert scores["judged"]["sessions"]["constants"]["15m"]["sign_p"] >= 2 / 2**count


def test_what_sessions_say_is_read_off_the_same_anchors_as_the_table(
    features: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    anchors = as_arrays(predictions, LEVELS, HORIZONS)
    forecasts = baseline_quantiles(features, TRAIN, anchors.ts, LEVELS, CONFIG)
    half = 0.5 * (anchors.quantiles + perfect_volatility(features, TRAIN, anchors.ts, LEVELS))
    known = perfect_volatility(features, TRAIN, anchors.ts, LEVELS)
    compared = Compared(anchors=anchors, forecasts={**forecasts, "model": half}, config=CONFIG, oracle=known)
    scores = compare_forecasts(compared)
    found, loss = scores["judged"], {k: v["15m"]["mean_pinball"] for k, v in scores["table"].items()}
    ceiling = metrics.mean_pinball(known, anchors.targets, LEVELS)[0]
    assert found["ceiling"]["15m"]["gain"] == pytest.approx(1 - ceiling / loss["seasonal_har"])
    taken = (loss["seasonal_har"] - loss["model"]) / (loss["seasonal_har"] - ceiling)
    assert found["ceiling"]["15m"]["share"] == pytest.approx(taken)
    assert list(found["confidence_set"]["mean"]) == list(scores["table"])
    assert found["confidence_set"]["mean"]["model"] == 1 and "model." in scores["text"]
    raw = [row["p_value"] for h, row in scores["gains"]["constants"].items() if h != "mean"]
    assert list(found["corrected_p"]["constants"].values()) == pytest.approx(holm(raw))
    assert "oracle" not in str(list(scores["table"])) and max(map(len, scores["text"].splitlines())) <= 80


def test_an_untrained_network_is_said_and_a_trained_one_is_not() -> None:
    assert untrained([3]) == []
    assert untrained([0]) == ["The network is untrained (best epoch 0): no epoch beat the scale alone."]
    assert max(len(line) for epochs in ([0], [0] * 8) for line in untrained(epochs)) <= 80
    assert untrained([2, 0, 1])[0].startswith("1 of 3 networks are untrained")


def test_the_law_is_asked_at_so_many_anchors_and_sets_the_ceiling(
    features: pd.DataFrame, predictions: pd.DataFrame
) -> None:
    law = Law(features)
    truth = judged(features, predictions, law)["truth"]
    assert law.asked == 300
    assert truth["truth"]["15m"]["learnable_share"] == pytest.approx(1)
    assert truth["constants"]["mean"]["learnable_share"] == 0
    assert 0 < truth["time_of_day"]["15m"]["learnable_share"] < truth["model"]["15m"]["learnable_share"]


def test_forecasts_at_unknown_anchors_are_refused(features: pd.DataFrame, predictions: pd.DataFrame) -> None:
    moved = predictions.assign(ts=predictions["ts"] + pd.Timedelta(minutes=1))
    with pytest.raises(ValueError, match="expected every anchor among the features"):
        judged(features, moved)


def test_a_test_use_names_the_configuration_by_a_hash_that_every_part_of_it_changes() -> None:
    metadata = Metadata(fingerprint="f", model={"size": "test"}, quantiles=(0.5,), data=DataCard("d"))
    first, again = (use_by_checkpoint(Checkpoint({}, metadata), 12, CONFIG) for _ in range(2))
    other = use_by_checkpoint(Checkpoint({}, replace(metadata, scale={"kind": "constant"})), 12, CONFIG)
    assert first["configuration"] == again["configuration"] != other["configuration"]
    assert first["anchors"] == 12


def test_the_truth_of_another_market_is_not_asked_for(features: pd.DataFrame) -> None:
    law = Law(features)
    assert market_of(law.source, law) is law and market_of("", law) is law and market_of("my.csv", None) is None
    for drawn in ("SIMULATED MARKET (seed 8)", "SIMULATED MARKET (seed 7, tick 1.0)", "my.csv"):
        with pytest.raises(ValueError, match=r"found the parameters `simulation` of SIMULATED MARKET \(seed 7\)"):
            market_of(drawn, law)
