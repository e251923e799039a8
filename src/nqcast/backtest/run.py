"""One backtest: a book per horizon and all of them netted, beside buy-and-hold, always long and random signs.

Shapes: K trades · S sessions · R resamples. Every profit is per session in shares of a fixed capital.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nqcast.backtest.config import BacktestConfig
from nqcast.backtest.text import render
from nqcast.backtest.trades import (
    Book,
    Ints,
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
from nqcast.evaluation.frames import rows_of
from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.significance import percentiles, stationary_bootstrap
from nqcast.horizons import horizon
from nqcast.spacing import Spacing
from nqcast.storage.json_values import Json

logger = logging.getLogger(__name__)

ALL, HOLD = "all", "buy_and_hold"
SESSIONS_PER_YEAR = 252


class Backtest(NamedTuple):
    """Trades (one row each), profits by session and book (one row each), and results as JSON-able values."""

    trades: pd.DataFrame
    sessions: pd.DataFrame
    results: Json


def backtest(
    forecasts: pd.DataFrame, features: pd.DataFrame, config: BacktestConfig, evaluate: EvaluateConfig, tick: float
) -> Backtest:
    """Trade a predictions frame on the bars that it was made from.

    Args:
        forecasts: ts, session, horizon, q10, q50, q90 per forecast, and `forecast` where it holds several.
        features: the feature table; only prices, sessions and what was traded are read.
        config: direction, size and costs.
        evaluate: how intervals are drawn (replications, mean block, confidence, seed).
        tick: smallest price step, in index points.

    Raises:
        ValueError: the frame lacks a level or the forecast that is asked for, or an anchor is not in the features.
    """
    rows = _inside_sessions(_chosen(forecasts, config.forecast))
    features = _spanned(features, rows)
    timeline, bar_minutes = Timeline.of(features, tick), Spacing.of(features["ts"]).minutes
    anchors = {name: rows_of(part["ts"], features) for name, part in rows.groupby("horizon", sort=False)}
    anchor_rows = np.unique(np.concatenate(list(anchors.values())))
    capital, sessions = float(timeline.close_N[anchor_rows[0]]), np.unique(timeline.session_N[anchor_rows])
    trades = {
        str(name): _trades(anchors[name], part, horizon(str(name)).bars(bar_minutes), timeline, capital, config)
        for name, part in rows.groupby("horizon", sort=False)
    }

    books_of = partial(_books, timeline=timeline, capital=capital, sessions=sessions)
    rng = np.random.default_rng(evaluate.seed)
    resamples = stationary_bootstrap(len(sessions), evaluate.mean_block, evaluate.bootstrap_replications, rng)
    books, long = books_of(trades), books_of({k: t.signed(np.ones(len(t.size_K))) for k, t in trades.items()})
    random = [
        {name: float(book.gross_S.mean()) for name, book in books_of(_random_signs(trades, rng)).items()}
        for _ in range(config.random_books)
    ]
    hold = _buy_and_hold(timeline, capital, sessions, int(anchor_rows[0]))
    results: Json = {
        "forecast": config.forecast,
        "positions": config.positions,
        "forecasts": len(rows),
        "sessions": {"count": len(sessions), "first": str(sessions[0]), "last": str(sessions[-1])},
        "side_ticks": config.side_ticks,
        "books": {
            name: _result(book, long[name], hold, [one[name] for one in random], config, resamples, evaluate)
            | _counts([trades[name]] if name in trades else list(trades.values()))
            for name, book in books.items()
        },
    }
    results["text"] = render(results, evaluate.confidence)
    by_session = _sessions_frame({**books, HOLD: hold}, config, features.attrs.get("source", ""))
    return Backtest(_trades_frame(trades, features, timeline, capital), by_session, results)


def _chosen(forecasts: pd.DataFrame, name: str) -> pd.DataFrame:
    if "forecast" not in forecasts.columns:
        return forecasts.sort_values("ts", kind="stable", ignore_index=True)
    rows = forecasts[forecasts["forecast"] == name]
    if rows.empty:
        raise ValueError(
            f"expected one of the forecasts {sorted(forecasts['forecast'].unique())}, found {name!r}: "
            "correct backtest.forecast"
        )
    return rows.sort_values("ts", kind="stable", ignore_index=True)


def _inside_sessions(rows: pd.DataFrame) -> pd.DataFrame:
    """The forecasts whose position is closed with its session or before; ValueError where none is."""
    over = [name for name in rows["horizon"].unique() if horizon(str(name)).sessions]
    if len(over) == rows["horizon"].nunique():
        raise ValueError(f"expected a horizon inside the session to trade, found {over} alone: add one, as 4h or close")
    if over:
        logger.warning("the horizons %s end over the break and are not traded", ", ".join(over))
    return rows[~rows["horizon"].isin(over)].reset_index(drop=True) if over else rows


def _spanned(features: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The sessions from the first forecast to the last."""
    inside = (features["session"] >= rows["session"].min()) & (features["session"] <= rows["session"].max())
    return features[inside.to_numpy()].reset_index(drop=True)


def _trades(
    row_N: Ints, part: pd.DataFrame, bars: int, timeline: Timeline, capital: float, config: BacktestConfig
) -> Trades:
    wanted = exposure(part, config)
    if config.positions == "netted":
        return all_trades(row_N, wanted / bars, bars, timeline, capital)
    return without_overlap(all_trades(row_N, wanted, bars, timeline, capital))


def _books(
    trades: Mapping[str, Trades], timeline: Timeline, capital: float, sessions: NDArray[np.datetime64]
) -> dict[str, Book]:
    """A book per horizon, and all of them netted."""
    n_points = len(timeline.price_P)
    books = {name: Book(held(one, n_points), timeline, capital, sessions) for name, one in trades.items()}
    return {**books, ALL: netted(list(books.values()))}


def _random_signs(trades: Mapping[str, Trades], rng: np.random.Generator) -> dict[str, Trades]:
    return {name: one.signed(rng.choice([-1.0, 1.0], len(one.size_K))) for name, one in trades.items()}


def _buy_and_hold(timeline: Timeline, capital: float, sessions: NDArray[np.datetime64], first_row: int) -> Book:
    """One capital's worth of contracts from the fill after the first anchor to the last close, nights included."""
    held_P = np.where(timeline.carried_P, 1.0, 0.0)
    held_P[: timeline.point_N[first_row] + 1] = 0.0
    held_P[-1] = 0.0
    return Book(held_P, timeline, capital, sessions)


def _result(
    book: Book,
    long: Book,
    hold: Book,
    random_gross: list[float],
    config: BacktestConfig,
    resamples_RS: NDArray[np.int64],
    evaluate: EvaluateConfig,
) -> Json:
    net_S, gross_S = book.net_S(config.side_ticks), book.gross_S
    long_S, hold_S = long.net_S(config.side_ticks), hold.net_S(config.side_ticks)
    spread, traded = float(net_S.std()), float(book.traded_S.sum())
    same_volatility = spread / float(hold_S.std()) if hold_S.std() > 0 else 0.0

    def with_interval(values_S: Floats) -> dict[str, float]:
        return interval_of(values_S[resamples_RS].mean(axis=1), float(values_S.mean()), evaluate.confidence)

    drawn = net_S[resamples_RS]
    yearly = np.sqrt(SESSIONS_PER_YEAR)
    sharpe = yearly * drawn.mean(axis=1) / np.maximum(drawn.std(axis=1), np.finfo(float).tiny)
    equity = np.concatenate([[0.0], np.cumsum(net_S)])
    as_good = sum(mean >= gross_S.mean() for mean in random_gross)
    return {
        "exposure": book.mean_exposure,
        "gross": with_interval(gross_S),
        "cost": float((gross_S - net_S).mean()),
        "net": with_interval(net_S),
        "total": float(net_S.sum()),
        "largest_fall": float((np.maximum.accumulate(equity) - equity).max()),
        "sharpe": interval_of(
            sharpe, yearly * float(net_S.mean()) / spread if spread > 0 else 0.0, evaluate.confidence
        ),
        "break_even_ticks": float(gross_S.sum()) / traded if traded > 0 else None,  # below 0: no costs would do
        "always_long": with_interval(long_S),
        "over_always_long": with_interval(net_S - long_S),
        "buy_and_hold_same_volatility": with_interval(same_volatility * hold_S),
        "buy_and_hold_same_exposure": with_interval(book.mean_exposure * hold_S),
        "over_buy_and_hold": with_interval(net_S - same_volatility * hold_S),
        "random_signs": interval_of(np.array(random_gross), float(np.mean(random_gross)), evaluate.confidence),
        "p_random": (1 + as_good) / (1 + len(random_gross)),
    }


def _counts(trades: Sequence[Trades]) -> dict[str, float]:
    sizes = np.concatenate([one.size_K for one in trades])
    return {"trades": len(sizes), "long_share": float((sizes > 0).mean()) if len(sizes) else 0.0}


def interval_of(drawn_R: Floats, value: float, confidence: float) -> dict[str, float]:
    """A value with the percentile interval of its draws."""
    low, high = percentiles(drawn_R, confidence)
    return {"value": value, "low": float(low), "high": float(high)}


def _trades_frame(
    trades: Mapping[str, Trades], features: pd.DataFrame, timeline: Timeline, capital: float
) -> pd.DataFrame:
    ts = features["ts"]
    frames = [
        pd.DataFrame(
            {
                "horizon": pd.array([name] * len(one.row_K), dtype="string"),
                "anchor": ts.iloc[one.row_K].to_numpy(),
                "entry_bar": ts.iloc[timeline.row_P[one.entry_K]].to_numpy(),
                "exit_bar": ts.iloc[timeline.row_P[one.exit_K]].to_numpy(),
                "contracts": one.size_K,
                "entry_price": timeline.price_P[one.entry_K],
                "exit_price": timeline.price_P[one.exit_K],
                "profit_before_costs": trade_profit(one, timeline, capital),
            }
        )
        for name, one in trades.items()
    ]
    return pd.concat(frames, ignore_index=True)


def _sessions_frame(books: Mapping[str, Book], config: BacktestConfig, source: str) -> pd.DataFrame:
    """One row per session and book, buy-and-hold (one capital's worth) among them; made from bars of `source`."""
    frames = [
        pd.DataFrame(
            {
                "book": pd.array([name] * len(book.sessions), dtype="string"),
                "session": book.sessions.astype("datetime64[ns]"),
                "gross": book.gross_S,
                "cost": config.side_ticks * book.traded_S,
                "net": book.net_S(config.side_ticks),
            }
        )
        for name, book in books.items()
    ]
    frame = pd.concat(frames, ignore_index=True)
    frame.attrs["source"] = source
    return frame
