"""The true quantiles of the embedded market against closed forms, the market run again, and outcomes counted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import signal, stats

from nqcast.constants import HORIZONS, LEVELS, MINUTE_NS
from nqcast.data.features import build_features
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.path import _Walk, front_path
from nqcast.market.simulation.simulator import simulate
from nqcast.market.simulation.true_quantiles import TrueQuantiles, _State
from nqcast.market.simulation.volatility import (
    Recursion,
    diurnal_variance,
    innovation_table,
    leverage_response,
    mean_variance_factor,
    news,
    rounding_bias,
)

NAMES = [f"q{round(100 * level):02d}" for level in LEVELS]
CONSTANT = {
    "slow_deviation": 0.0,
    "fast_deviation": 0.0,
    "leverage_deviation": 0.0,
    "diurnal_strength": 0.0,
    "missing_strength": 0.0,
    "tick": 0.01,
}


def _anchors(law: TrueQuantiles, count: int, seed: int = 0) -> pd.DatetimeIndex:
    """Starts of 5-minute bars at random, each at least 4 hours before its session's close and away from the halt."""
    grid = law.path.grid
    whole = grid.start[1:] - grid.start[:-1] >= 1300
    row = np.concatenate([np.arange(a, a + 900, 5) for a in grid.start[:-1][whole]])
    return pd.DatetimeIndex(np.sort(np.random.default_rng(seed).choice(grid.ts[row], count, replace=False)), tz="UTC")


def _table(frame: pd.DataFrame) -> np.ndarray:
    return frame[NAMES].to_numpy().reshape(-1, len(HORIZONS), len(LEVELS))


@pytest.fixture(scope="module")
def law() -> TrueQuantiles:
    return TrueQuantiles(SimulationConfig(seed=5, sessions=40))


def test_gaussian_case_has_the_quantiles_of_the_normal_law() -> None:
    config = SimulationConfig(sessions=4, degrees_of_freedom=1e6, **CONSTANT)
    truth = TrueQuantiles(config)
    found = _table(truth.quantiles_at(_anchors(truth, 24), LEVELS, paths=16_384))
    per_minute = config.session_volatility / np.sqrt(1365)
    for column, minutes in enumerate(HORIZONS.values()):
        wanted = per_minute * np.sqrt(minutes) * stats.norm.ppf(LEVELS)
        np.testing.assert_allclose(found[:, column].mean(axis=0), wanted, atol=0.012 * wanted[-1])


def test_heavy_tailed_case_has_the_quantiles_of_the_sum_of_independent_student_moves() -> None:
    config = SimulationConfig(sessions=4, degrees_of_freedom=3.5, **CONSTANT)
    truth = TrueQuantiles(config)
    found = _table(truth.quantiles_at(_anchors(truth, 24), LEVELS, paths=16_384))[:, 0].mean(axis=0)
    step = 0.01
    edges = np.arange(-4000.5, 4001) * step
    density = np.histogram(innovation_table(3.5), edges)[0] / 65_536
    total = density
    for _ in range(14):
        total = signal.fftconvolve(total, density)
    value = (np.arange(len(total)) - len(total) // 2) * step
    wanted = np.interp(LEVELS, np.cumsum(total), value + step / 2) * config.session_volatility / np.sqrt(1365)
    np.testing.assert_allclose(found, wanted, atol=0.012 * wanted[-1])


def test_monte_carlo_agrees_with_running_the_market_itself_from_the_same_state(law: TrueQuantiles) -> None:
    ts = _anchors(law, 1, seed=3)
    anchors = law.anchors(ts)
    row, steps = int(anchors.first[0]), 60
    rng = np.random.default_rng(0)
    walk = _Walk(law.config)
    chance = law._missing[row : row + steps] / 65_536
    returns = []
    for _ in range(3000):
        walk.price = int(law.path.previous[row])
        walk.state = tuple(float(part[row]) for part in (law.path.slow, law.path.fast, law.path.trend))
        innovation = innovation_table(law.config.degrees_of_freedom)[rng.integers(0, 65_536, steps)]
        traded = rng.random(steps) >= chance
        prices, _ = walk.run(law._variance[row : row + steps].astype(float), innovation, traded, np.zeros(steps))
        returns.append(np.log(prices[1, -1] / prices[0, 0]))
    drawn = law.sample(anchors, 8192)[0, list(HORIZONS).index("60m")]
    assert stats.ks_2samp(returns, drawn).pvalue > 0.01
    assert np.std(returns) == pytest.approx(np.std(drawn), rel=0.06)


def test_one_path_of_the_monte_carlo_takes_the_steps_of_the_market() -> None:
    """Same innovations, same state: on a coarse tick, where rounding matters most, and with missing minutes."""
    truth = TrueQuantiles(SimulationConfig(seed=5, sessions=5, tick=1.0, fast_deviation=1.0, missing_strength=2.0))
    anchors = truth.anchors(_anchors(truth, 1))
    row, steps, paths = int(anchors.first[0]), 60, 64
    state = _State.at(truth, anchors, paths)
    rng = np.random.default_rng(0)
    symbols = rng.integers(0, 65_536, (2, steps, 1, paths // 2), np.uint16)
    for step in range(steps):
        state.advance(truth, anchors.first + step, symbols[0, step], symbols[1, step])
    same = []
    base, missing = truth._variance[row : row + steps].astype(float), truth._missing[row : row + steps]
    table = innovation_table(truth.config.degrees_of_freedom)
    for path in range(paths):
        sign, column = (1, path) if path < paths // 2 else (-1, path - paths // 2)
        walk = _Walk(truth.config)
        walk.price = int(truth.path.previous[row])
        walk.state = tuple(float(part[row]) for part in (truth.path.slow, truth.path.fast, truth.path.trend))
        traded = symbols[1, :, 0, column] >= missing
        walk.run(base, sign * table[symbols[0, :, 0, column]], traded, np.zeros(steps))
        same.append(
            walk.price == state.price[0, path]
            and walk.state == pytest.approx([part[0, path] for part in (state.slow, state.fast, state.trend)], abs=3e-3)
        )
    assert np.mean(same) > 0.9  # single precision rounds a rare move to the neighbouring tick


def test_outcomes_fall_below_the_true_quantiles_as_often_as_the_levels_say(law: TrueQuantiles) -> None:
    ts = _anchors(law, 1500)
    found = _table(law.quantiles_at(ts, LEVELS, paths=512))[:, 0]
    anchors = law.anchors(ts)
    path = law.path
    outcome = np.log(path.close[anchors.first + anchors.steps[:, 0] - 1] / path.previous[anchors.first])
    share = (outcome[:, None] < found).mean(axis=0) + 0.5 * (outcome[:, None] == found).mean(axis=0)
    level = np.array(LEVELS)
    # Bars five minutes apart share two thirds of a 15-minute outcome at most; three standard errors of as many halves.
    assert (np.abs(share - level) < 3.0 * np.sqrt(2.0 * level * (1.0 - level) / len(ts)) + 0.005).all()


def test_the_true_state_knows_more_than_the_time_of_day(law: TrueQuantiles) -> None:
    ts = _anchors(law, 400)
    width = np.ptp(_table(law.quantiles_at(ts, LEVELS, paths=256))[:, 0], axis=1)
    flat = TrueQuantiles(
        law.config.model_copy(update={"slow_deviation": 0.0, "fast_deviation": 0, "leverage_deviation": 0})
    )
    flat_width = np.ptp(_table(flat.quantiles_at(ts, LEVELS, paths=256))[:, 0], axis=1)
    assert np.std(np.log(width)) > 1.5 * np.std(np.log(flat_width))


def test_an_anchor_has_the_same_quantiles_in_any_company(law: TrueQuantiles) -> None:
    ts = _anchors(law, 70)
    together = law.quantiles_at(ts, LEVELS, paths=256)
    alone = law.quantiles_at(ts[66:67], LEVELS, paths=256)
    pd.testing.assert_frame_equal(together[together["ts"] == ts[66]].reset_index(drop=True), alone)


def test_stated_monte_carlo_error_matches_the_excess_against_a_far_larger_sample(law: TrueQuantiles) -> None:
    ts = _anchors(law, 80)
    rough = law.quantiles_at(ts, LEVELS, paths=256)
    fine = law.sample(law.anchors(ts), 8192, seed=99)[:, 0]

    def loss(quantiles: np.ndarray) -> float:
        error = fine[:, :, None] - quantiles[:, None]
        return float(np.mean(np.maximum(np.array(LEVELS) * error, (np.array(LEVELS) - 1.0) * error)))

    excess = loss(_table(rough)[:, 0]) - loss(np.moveaxis(np.quantile(fine, LEVELS, axis=1), 0, -1))
    stated = float(rough.loc[rough["horizon"] == "15m", "mc_error"].mean())
    assert 0.4 * stated < excess < 1.3 * stated


def test_monte_carlo_error_is_under_two_percent_of_the_gap_between_constants_and_truth(law: TrueQuantiles) -> None:
    ts = _anchors(law, 400)
    frame = law.quantiles_at(ts, LEVELS)
    draws = law.sample(law.anchors(ts), 512, seed=99)
    level = np.array(LEVELS)

    def loss(quantiles: np.ndarray, column: int) -> float:
        error = draws[:, column, :, None] - quantiles
        return float(np.mean(np.maximum(level * error, (level - 1.0) * error)))

    for column, horizon in enumerate(HORIZONS):
        truth = loss(_table(frame)[:, None, column], column)
        constants = loss(np.quantile(draws[:, column], level), column)
        assert frame.loc[frame["horizon"] == horizon, "mc_error"].mean() < 0.02 * (constants - truth)


def test_targets_are_defined_exactly_where_the_features_define_them() -> None:
    config = SimulationConfig(seed=1, sessions=6, stray_bars_per_week=0, missing_strength=0)
    features = build_features(build_bars(simulate(config), IngestConfig()).bars)
    truth = TrueQuantiles(config)
    steps = truth.anchors(features["ts"]).steps
    for column, horizon in enumerate(HORIZONS):
        np.testing.assert_array_equal(steps[:, column] > 0, features[f"target_{horizon}"].notna())


def test_state_before_a_minute_is_a_function_of_the_recorded_bars(law: TrueQuantiles) -> None:
    """Slow, fast and trend, recomputed from prices alone, equal the state that the simulator kept."""
    path, coefficients = law.path, Recursion.of(law.config)
    bias = rounding_bias(coefficients.df)
    base = diurnal_variance(law.config)[path.grid.minute_of_day]
    slow = fast = trend = 0.0
    for row in range(1500):
        assert (path.slow[row], path.fast[row], path.trend[row]) == pytest.approx((slow, fast, trend), abs=1e-9)
        before, after = float(path.previous[row]), float(path.close[row])
        deviation = np.sqrt(max(base[row] * np.exp(slow + fast) * before**2, coefficients.floor_ticks**2))
        size, signed = 0.0, 0.0
        if path.traded[row]:
            u, w = news(np.array([np.log(after / before) * before / deviation]), coefficients)
            size, signed = float(u[0]) - bias[min(int(32 * deviation), len(bias) - 1)], float(w[0])
        slow = coefficients.slow_decay * slow + coefficients.slow_news * size
        fast = coefficients.fast_decay * fast - coefficients.leverage * trend + coefficients.fast_news * size
        trend = coefficients.trend_decay * trend + signed


def test_log_variance_has_the_long_run_moments_of_its_closed_form() -> None:
    config = SimulationConfig(
        sessions=250, slow_half_life=200, slow_deviation=0.5, leverage_deviation=0.6, missing_strength=0, tick=0.001
    )
    path = front_path(config)
    assert path.slow.std() == pytest.approx(0.5, rel=0.08)
    both = np.sqrt(config.fast_deviation**2 + config.leverage_deviation**2)
    assert path.fast.std() == pytest.approx(both, rel=0.08)
    assert np.mean(np.exp(path.slow + path.fast)) == pytest.approx(mean_variance_factor(config), rel=0.08)
    total = np.add.reduceat(np.log(path.close / path.previous) ** 2, path.grid.start[:-1])
    assert total.mean() == pytest.approx(config.session_volatility**2, rel=0.12)


def test_news_has_mean_zero_also_after_rounding_to_the_tick() -> None:
    law = Recursion.of(SimulationConfig())
    table = innovation_table(law.df)
    bias = rounding_bias(law.df)
    for deviation in (0.8, 1.2, 3.0):
        recorded = np.rint(np.sqrt(deviation**2 - 1 / 12) * table) / deviation
        u, w = news(recorded, law)
        assert abs(u.mean() - bias[int(32 * deviation)]) < 0.01
        assert abs(w.mean()) < 1e-12
    assert np.mean(table**2) == pytest.approx(1.0)


def test_leverage_builds_up_and_then_dies_out() -> None:
    config = SimulationConfig(fast_half_life=20, trend_half_life=50)
    response = leverage_response(config)
    peak = int(response.argmax())
    assert response[0] == 0 and 20 < peak < 80
    assert (np.diff(response[peak:]) <= 0).all() and response[-1] < 1e-6 * response[peak]


def test_falls_raise_the_variance_that_follows_and_rises_lower_it(law: TrueQuantiles) -> None:
    path = law.path
    deviation = np.sqrt(diurnal_variance(law.config)[path.grid.minute_of_day] * np.exp(path.slow + path.fast))
    z = np.log(path.close / path.previous) / deviation
    z[path.grid.start[:-1]] = 0.0
    past_hour = np.convolve(z, np.ones(60), "valid")[:-1]
    assert np.corrcoef(past_hour, path.fast[60:])[0, 1] < -0.6


def test_bars_outside_the_market_are_refused(law: TrueQuantiles) -> None:
    saturday = pd.DatetimeIndex(["2016-01-09 12:00"], tz="UTC")
    with pytest.raises(ValueError, match="inside the sessions"):
        law.quantiles_at(saturday, LEVELS)
    with pytest.raises(ValueError, match="time zone"):
        law.quantiles_at(pd.DatetimeIndex(["2016-01-08 12:00"]), LEVELS)
    with pytest.raises(ValueError, match="paths"):
        law.quantiles_at(saturday, LEVELS, paths=7)


def test_horizons_past_the_close_are_undefined(law: TrueQuantiles) -> None:
    grid = law.path.grid
    close = grid.ts[grid.start[1] - 1] + MINUTE_NS
    ts = pd.DatetimeIndex([close - 35 * MINUTE_NS], tz="UTC")
    frame = law.quantiles_at(ts, LEVELS, paths=128).set_index("horizon")
    assert frame.loc[["15m", "30m"], NAMES].notna().all(axis=None)
    assert frame.loc[["60m", "2h", "4h"], [*NAMES, "mc_error"]].isna().all(axis=None)
