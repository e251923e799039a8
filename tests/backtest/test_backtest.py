"""A backtest against profits worked out by hand, against knowing nothing, and against peeking."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.backtest.conftest import BARS, TICK, bars_of, features_of, forecasts_of

from nqcast.backtest.config import BacktestConfig
from nqcast.backtest.run import backtest
from nqcast.backtest.trades import (
    DUST,
    Book,
    Timeline,
    Trades,
    all_trades,
    exposure,
    held,
    netted,
    trade_profit,
    without_overlap,
)
from nqcast.evaluation.config import EvaluateConfig
from nqcast.pipelines.backtest import trade_walk_forward
from nqcast.report.figures.backtest import draw_equity

EVALUATE = EvaluateConfig(bootstrap_replications=100)
FREE = {"commission_ticks": 0.0, "slippage_ticks": 0.0}


def config(**changes: object) -> BacktestConfig:
    return BacktestConfig(**{"random_books": 20, "max_exposure": 1.0, **changes})


def constant(features: pd.DataFrame, value: float = 1e-4, horizons: int = 1) -> pd.DataFrame:
    return forecasts_of(features, np.full((len(features), horizons), value))


def fills(bars: pd.DataFrame) -> np.ndarray:
    """By hand, bar by bar: the price that an order sent after each bar gets."""
    price = np.empty(len(bars))
    for r in range(len(bars)):
        day = bars.index[(bars["session"] == bars["session"].iloc[r]) & (bars.index > r) & bars["traded"]]
        price[r] = bars["open"].iloc[day[0]] if len(day) else bars["close"].iloc[r]
    return price


def test_fills_are_the_next_traded_open_or_the_last_close() -> None:
    bars = bars_of(3, seed=1, untraded=0.3)
    timeline = Timeline.of(features_of(bars), TICK)
    assert timeline.price_P[timeline.point_N + 1] == pytest.approx(fills(bars))


def test_perfect_foresight_earns_what_it_earns_by_hand() -> None:
    bars = bars_of(4, seed=2, untraded=0.1)
    features, price = features_of(bars), fills(bars)
    h = 6  # 30 minutes
    ahead = np.zeros((len(bars), 2))
    expected = costs = 0.0
    for day in range(4):
        last = (day + 1) * BARS - 1
        r = day * BARS
        while r < last:
            if not bars["traded"].iloc[r]:
                r += 1
                continue
            leave = price[r + h] if r + h <= last else bars["close"].iloc[last]
            ahead[r, 1] = np.sign(leave - price[r]) * 1e-4
            contracts = bars["close"].iloc[0] / bars["close"].iloc[r]
            if ahead[r, 1]:
                expected += contracts * abs(leave - price[r]) / bars["close"].iloc[0]
                costs += 2 * contracts * 1.5 * TICK / bars["close"].iloc[0]
                r += h
            else:
                r += 1
    done = backtest(forecasts_of(features, ahead), features, config(), EVALUATE, TICK)
    book = done.results["books"]["30m"]
    assert 4 * book["gross"]["value"] == pytest.approx(expected)
    assert 0 < 4 * book["cost"] <= costs + 1e-12  # a position that is kept on pays once
    assert done.trades.loc[done.trades["horizon"] == "30m", "profit_before_costs"].sum() == pytest.approx(expected)
    assert book["p_random"] == pytest.approx(1 / 21)
    assert done.results["books"]["15m"]["trades"] == 0


def test_an_up_and_a_down_trade_cost_both_sides_and_a_kept_position_is_not_traded_again() -> None:
    features = features_of(bars_of(1))
    timeline = Timeline.of(features, TICK)
    capital, session = float(features["close"].iloc[0]), timeline.session_N[:1]
    rows = np.array([0, 3, 6])
    one = all_trades(rows, np.array([1.0, 1.0, -1.0]), 3, timeline, capital)
    book = Book(held(one, len(timeline.price_P)), timeline, capital, session)
    a, b, c = one.size_K[0], one.size_K[1], -one.size_K[2]
    traded = a + abs(b - a) + (b + c) + c
    assert book.traded_S[0] == pytest.approx(traded * TICK / capital)
    assert book.gross_S[0] == pytest.approx(trade_profit(one, timeline, capital).sum())


def test_doubling_the_costs_subtracts_them_exactly() -> None:
    features = features_of(bars_of(5, seed=3))
    forecasts = forecasts_of(features, np.random.default_rng(0).normal(0, 1e-4, (len(features), 3)))
    once, twice = (
        backtest(forecasts, features, config(commission_ticks=c, slippage_ticks=s), EVALUATE, TICK)
        for c, s in ((0.5, 1.0), (1.0, 2.0))
    )
    pd.testing.assert_frame_equal(once.trades, twice.trades)
    assert twice.sessions["net"].to_numpy() == pytest.approx((once.sessions["net"] - once.sessions["cost"]).to_numpy())
    assert once.sessions["net"].to_numpy() == pytest.approx((once.sessions["gross"] - once.sessions["cost"]).to_numpy())


@pytest.mark.parametrize("positions", ["non_overlapping", "netted"])
def test_forecasts_that_know_nothing_lose_the_costs(positions: str) -> None:
    features = features_of(bars_of(300, seed=4))
    forecasts = forecasts_of(features, np.random.default_rng(5).normal(0, 1e-4, (len(features), 2)))
    done = backtest(forecasts, features, config(positions=positions), EVALUATE, TICK)
    for name in ("15m", "30m", "all"):
        book, rows = done.results["books"][name], done.sessions[done.sessions["book"] == name]
        error = rows["gross"].std() / np.sqrt(300)
        assert abs(book["net"]["value"] + book["cost"]) < 3 * error
        assert book["net"]["high"] < 0
        assert abs(book["random_signs"]["value"]) < 3 * error


def test_always_up_is_always_long_and_no_better() -> None:
    features = features_of(bars_of(20, seed=6, drift=0.02))
    book = backtest(constant(features), features, config(), EVALUATE, TICK).results["books"]["15m"]
    assert book["over_always_long"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert book["long_share"] == 1.0


def test_buy_and_hold_earns_from_the_first_fill_to_the_last_close_nights_included() -> None:
    bars = bars_of(5, seed=7)
    features = features_of(bars)
    done = backtest(constant(features), features, config(**FREE), EVALUATE, TICK)
    hold = done.sessions[done.sessions["book"] == "buy_and_hold"]
    assert hold["gross"].sum() == pytest.approx((bars["close"].iloc[-1] - bars["open"].iloc[1]) / bars["close"].iloc[0])
    assert hold["cost"].sum() == 0


@settings(max_examples=60, deadline=None)
@given(
    rows=st.sets(st.integers(0, 3 * BARS - 1), min_size=1, max_size=80),
    bars=st.sampled_from([1, 3, 6, 12, 48]),
    seed=st.integers(0, 5),
)
def test_positions_of_a_horizon_never_overlap_and_never_cross_a_session(rows: set[int], bars: int, seed: int) -> None:
    timeline = TIMELINES[seed % 2]
    row = np.array(sorted(rows))
    every = all_trades(row, np.random.default_rng(seed).choice([-1.0, 0.0, 1.0], len(row)), bars, timeline, 4000.0)
    kept = without_overlap(every)
    assert (kept.entry_K[1:] >= kept.exit_K[:-1]).all()
    assert (kept.exit_K <= timeline.end_N[kept.row_K]).all()
    assert (kept.exit_K - kept.entry_K <= bars).all()
    assert (kept.entry_K == timeline.point_N[kept.row_K] + 1).all()
    left_out = sorted(set(every.row_K) - set(kept.row_K))
    for r in left_out:  # each would have overlapped one that was kept
        entry = timeline.point_N[r] + 1
        assert ((kept.entry_K <= entry) & (entry < kept.exit_K)).any()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), bars=st.sampled_from([3, 6, 12]))
def test_the_net_of_overlapping_books_is_their_sum_and_costs_no_more(seed: int, bars: int) -> None:
    timeline, rng = TIMELINES[seed % 2], np.random.default_rng(seed)
    row = np.sort(rng.choice(3 * BARS, 50, replace=False))
    every = all_trades(row, rng.normal(size=50), bars, timeline, 4000.0)
    phases = [every.chosen(np.flatnonzero(every.row_K % bars == k)) for k in range(bars)]
    books = [Book(held(one, len(timeline.price_P)), timeline, 4000.0, SESSIONS) for one in phases]
    together = Book(held(every, len(timeline.price_P)), timeline, 4000.0, SESSIONS)
    assert together.gross_S == pytest.approx(np.sum([book.gross_S for book in books], axis=0), abs=1e-12)
    assert together.gross_S.sum() == pytest.approx(trade_profit(every, timeline, 4000.0).sum(), abs=1e-12)
    assert (together.traded_S <= np.sum([book.traded_S for book in books], axis=0) + 1e-12).all()
    mean = netted(books)
    assert bars * mean.gross_S == pytest.approx(together.gross_S, abs=1e-12)


TIMELINES = [Timeline.of(features_of(bars_of(3, seed=s, untraded=0.2)), TICK) for s in (0, 1)]
SESSIONS = np.unique(TIMELINES[0].session_N)


def test_targets_and_prices_after_a_decision_do_not_change_it() -> None:
    bars = bars_of(6, seed=8)
    features = features_of(bars)
    forecasts = forecasts_of(features, np.random.default_rng(1).normal(0, 1e-4, (len(features), 3)))
    before = backtest(forecasts, features, config(), EVALUATE, TICK).trades
    targets = {name: 9.0 for name in features.columns if name.startswith("target_")}
    pd.testing.assert_frame_equal(
        before, backtest(forecasts, features.assign(**targets), config(), EVALUATE, TICK).trades
    )
    cut = 4 * BARS + 20
    later = bars.copy()
    prices = ["open", "high", "low", "close", "raw_close"]
    later.loc[cut:, prices] = later.loc[cut:, prices] * 1.5
    after = backtest(forecasts, features_of(later), config(), EVALUATE, TICK).trades
    known = before["anchor"] < bars["ts"].iloc[cut]
    decided = ["horizon", "anchor", "entry_bar", "exit_bar", "contracts"]
    pd.testing.assert_frame_equal(before.loc[known, decided], after.loc[known.to_numpy(), decided])
    closed = before["exit_bar"] < bars["ts"].iloc[cut]
    pd.testing.assert_frame_equal(before[closed], after[closed.to_numpy()])
    assert (before["entry_bar"] > before["anchor"]).all()


def test_a_wider_interval_makes_a_smaller_position_and_a_small_median_none() -> None:
    rows = pd.DataFrame({"q10": [-0.002, -0.004, -0.001], "q50": [1e-4, -1e-4, 1e-5], "q90": [0.003, 0.006, 0.001]})
    assert exposure(rows, config(max_exposure=2.0)) == pytest.approx([1.0, -0.5, 2.0])
    assert exposure(rows, config(max_exposure=2.0, min_edge=0.011)) == pytest.approx([1.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=r"found no \['q90'\]: add the levels"):
        exposure(rows.drop(columns="q90"), config())


def test_no_position_is_held_over_a_roll_that_could_not_be_adjusted() -> None:
    bars = bars_of(1, seed=9)
    bars.loc[30:, ["open", "high", "low", "close", "raw_close"]] += 500.0
    bars.loc[30, "unadjusted"] = True
    features = features_of(bars)
    done = backtest(constant(features, horizons=5), features, config(**FREE), EVALUATE, TICK)
    moves = (done.trades["exit_price"] - done.trades["entry_price"]).abs()
    assert moves.max() < 100
    assert abs(done.sessions["gross"]).max() < 0.05  # buy-and-hold included


def test_adjusted_prices_pay_the_raw_ticks() -> None:
    features = features_of(bars_of(2))
    raw = features.assign(raw_close=features["close"] / 2)
    whole, half = (
        backtest(constant(features), frame, config(), EVALUATE, TICK).results["books"]["15m"]
        for frame in (features, raw)
    )
    assert half["cost"] == pytest.approx(2 * whole["cost"])


def test_an_unknown_forecast_or_anchor_is_an_error() -> None:
    features = features_of(bars_of(2))
    forecasts = constant(features).assign(forecast="model")
    with pytest.raises(ValueError, match=r"\['model'\], found 'magic': correct backtest.forecast"):
        backtest(forecasts, features, config(forecast="magic"), EVALUATE, TICK)
    with pytest.raises(ValueError, match="expected every anchor among the features, found 1"):
        backtest(forecasts, features.drop(index=5), config(), EVALUATE, TICK)


def test_the_equity_drawn_is_the_sum_of_the_sessions() -> None:
    features = features_of(bars_of(8, seed=3))
    done = backtest(constant(features), features, config(), EVALUATE, TICK)
    left = draw_equity(done.sessions, done.results).axes[0]
    drawn = {line.get_label(): line.get_ydata() for line in left.lines}
    net = done.sessions.loc[done.sessions["book"] == "all", "net"]
    assert drawn["after costs"] == pytest.approx(100 * net.cumsum().to_numpy())
    assert np.diff(drawn["buy and hold, same volatility"]).std() == pytest.approx(
        np.diff(drawn["after costs"]).std(), rel=0.5
    )
    assert max(map(len, done.results["text"].splitlines())) <= 80


def test_dust_is_no_position() -> None:
    trades = Trades(np.array([0, 1]), np.array([1, 2]), np.array([4, 5]), np.array([0.1, 0.2]))
    assert held(trades, 8)[5:].tolist() == [0.0, 0.0, 0.0]
    assert DUST < 1e-6


def test_forecasts_of_other_bars_at_the_same_stamps_are_refused() -> None:
    features, others = features_of(bars_of(3)), features_of(bars_of(3, seed=1))
    made = constant(features).assign(target=lambda rows: features.set_index("ts")["target_15m"][rows["ts"]].to_numpy())
    trade_walk_forward(made, features, config(), EVALUATE)
    later = made.assign(target=made["target"].where(made["ts"] < made["ts"].iloc[-5]))
    trade_walk_forward(later, features, config(), EVALUATE)  # outcomes that came after the forecasts
    with pytest.raises(ValueError, match=r"found other outcomes at 1[0-9][0-9] of 180 anchors 15m ahead: name their"):
        trade_walk_forward(made, others, config(), EVALUATE)
