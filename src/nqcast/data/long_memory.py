"""What the network knows of the months before a bar and of the clock ahead: causal columns without a unit.

A window of a day ends yesterday, and the averages of the scale have no sign. These columns reach back half a year, or
as many sessions as they are given: the longest take few values of their own in a decade, and name an era by them.
Returns and variances are divided by the diurnal profile first, so that a quiet night is no quiet market. A row uses the
rows up to it; where fewer than a column's reach lie before, it takes those that there are.
"""

from functools import cached_property

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from nqcast.data.announcements import since_and_until
from nqcast.data.config import KINDS
from nqcast.data.har import frozen_ewma
from nqcast.data.targets import realized_volatility
from nqcast.horizons import horizon, horizons_of
from nqcast.spacing import Spacing

Columns = dict[str, np.ndarray]

SESSION = 276  # bars; spans, parts and marks count those of five minutes, whose number is in a column's name
_SIGNED = (3, 12, 48, SESSION, 5 * SESSION, 20 * SESSION, 120 * SESSION)
_PLACES = (1, 5, 20, 120)  # sessions
_PARTS = {"asia": (204, 312), "europe": (24, 102), "us": (102, 180), "late": (180, 204)}  # slots, from and to
_MARKS = {"cash_open": 102, "cash_close": 180}  # slots that begin at 08:30 and at 15:00
_HARMONICS = 6
_OFFSET = 0.03  # of a bar's usual variance, added before a logarithm or a division
_SLOT_HALF_LIVES = (20, 80)  # sessions


def long_memory(features: pd.DataFrame, profiles_PS: np.ndarray, scale_NH: np.ndarray, reach: int = 120) -> Columns:
    """All columns by name, each (N,).

    Args:
        features: the feature table.
        profiles_PS: diurnal variance by source (realized, range, return) and slot.
        scale_NH: the classical model's scale of every row, whose earlier errors at this time of day are one column.
        reach: sessions; sums, averages and places over more are left out.
    """
    bars = _Bars(features, profiles_PS)
    groups = (_signed(bars, reach), _volatility(bars, reach), _places(bars, reach), _session_so_far(bars), _parts(bars))
    return {name: column for group in groups for name, column in group.items()} | _slots(bars, scale_NH) | _clock(bars)


class _Bars:
    """A feature table, deseasonalised, and the rows at which its sessions begin."""

    def __init__(self, features: pd.DataFrame, profiles_PS: np.ndarray) -> None:
        self.features, self.spacing = features, Spacing.of(features["ts"])
        self.slot = features["bar_in_day"].to_numpy()
        self.first = features["session_first"].to_numpy(bool)
        self.session = np.cumsum(self.first) - 1
        self.start = np.flatnonzero(self.first)[self.session]  # first row of each row's session
        self.realized_S, self.returns_S = profiles_PS[0], profiles_PS[2]
        self.active = ~features["halt"].to_numpy(bool) & (self.realized_S > 0)[self.slot]
        self.active &= (self.returns_S > 0)[self.slot]
        self.usual = np.where(self.active, self.realized_S[self.slot], 0.0)  # variance that a bar brings on average
        self.log_return = features["log_return"].to_numpy(np.float64)
        self.gap = np.where(self.first, features["open_return"].to_numpy(np.float64), 0.0)
        self.path = np.cumsum(self.log_return + self.gap)  # log price, rolls left out
        self.realized = features["realized_variance"].to_numpy(np.float64)

    def on_all_rows(self, values: np.ndarray) -> np.ndarray:
        """Values of the active rows, each carried on over the halt that follows."""
        return values[np.maximum(np.cumsum(self.active) - 1, 0)]

    @cached_property
    def z(self) -> np.ndarray:
        """Returns of the active rows in deviations of their slot."""
        return (self.log_return / np.sqrt(np.where(self.active, self.returns_S[self.slot], 1.0)))[self.active]

    @cached_property
    def variance(self) -> np.ndarray:
        """Realized variance over the slot's usual one; 0 where nothing is active."""
        return np.divide(self.realized, self.usual, out=np.zeros(len(self.usual)), where=self.active)

    @cached_property
    def level(self) -> np.ndarray:
        """Variance of the latest week over the usual one."""
        return self.average(self.variance, 5 * SESSION) + _OFFSET

    @cached_property
    def hour(self) -> float:
        """The variance that an hour of usual trading brings."""
        return self.spacing.rows(12) * float(self.realized_S.sum() / (self.realized_S > 0).sum())

    def average(self, values: np.ndarray, half_life: float, inside: np.ndarray | None = None) -> np.ndarray:
        """Exponential average over the active rows, or those `inside`, with a half-life in bars of five minutes."""
        return frozen_ewma(values, self.active if inside is None else inside, self.spacing.lasting(half_life))

    def half_log(self, values: np.ndarray) -> np.ndarray:
        return 0.5 * np.log(values + _OFFSET)


def _rolling_sum(values: np.ndarray, bars: int) -> np.ndarray:
    total = np.concatenate([[0.0], np.cumsum(values)])
    row = np.arange(1, len(values) + 1)
    return total[row] - total[np.maximum(row - bars, 0)]


def _count(n: int, bars: int) -> np.ndarray:
    return np.minimum(np.arange(1, n + 1), bars)


def _signed(bars: _Bars, reach: int) -> Columns:
    """Sum of returns over the root of their squares' sum; the share of squares below zero; the largest of them."""
    columns: Columns = {}
    square, below = bars.z**2, np.where(bars.z < 0, bars.z**2, 0.0)
    for span in (span for span in _SIGNED if span <= reach * SESSION):
        rows = bars.spacing.rows(span)
        count = _count(len(square), rows)
        total = _rolling_sum(square, rows) + _OFFSET * count
        columns[f"signed_{span}"] = _rolling_sum(bars.z, rows) / np.sqrt(total)
        if span > 3:
            columns[f"downside_{span}"] = (_rolling_sum(below, rows) + 0.5 * _OFFSET * count) / total - 0.5
        if 3 < span <= 5 * SESSION:
            largest = pd.Series(square).rolling(rows, min_periods=1).max().to_numpy()
            columns[f"largest_{span}"] = np.log(largest + _OFFSET) - np.log(total / count)
    return {name: bars.on_all_rows(column) for name, column in columns.items()}


def _volatility(bars: _Bars, reach: int) -> Columns:
    """Averages beyond those of the scale; how much the log of the latest half-hour's variance moved, and its trend."""
    slow = {
        f"variance_{sessions}": bars.half_log(bars.average(bars.variance, sessions * SESSION))
        for sessions in (60, 120)
        if sessions <= reach
    }
    recent = bars.half_log(bars.average(bars.variance, 6))[bars.active]
    columns: Columns = {}
    for span in (48, SESSION, 5 * SESSION, 20 * SESSION):
        rows = bars.spacing.rows(span)
        count = _count(len(recent), rows)
        mean = _rolling_sum(recent, rows) / count
        moved = _rolling_sum(recent**2, rows) / count - mean**2
        columns[f"volatility_of_volatility_{span}"] = bars.on_all_rows(np.sqrt(np.maximum(moved, 0.0)))
        columns[f"trend_{span}"] = bars.on_all_rows(recent - mean)
    return slow | columns


def _places(bars: _Bars, reach: int) -> Columns:
    """Place between the low and the high of some sessions, the fall from the high and the width of the range."""
    squares = bars.average(np.where(bars.active, bars.on_all_rows(bars.z**2), 0.0), 20 * SESSION)
    session = np.sqrt((squares + _OFFSET) * bars.returns_S.sum())  # a session's usual return of late
    columns: Columns = {}
    for sessions in (sessions for sessions in _PLACES if sessions <= reach):
        window = pd.Series(bars.path).rolling(bars.spacing.rows(sessions * SESSION), min_periods=1)
        high, low = window.max().to_numpy(), window.min().to_numpy()
        usual = session * np.sqrt(sessions)
        columns[f"place_{sessions}"] = (bars.path - low) / np.maximum(high - low, 1e-5) - 0.5
        columns[f"drawdown_{sessions}"] = np.log1p((high - bars.path) / usual)
        columns[f"width_{sessions}"] = np.log(0.1 + (high - low) / usual)
    return columns


def _session_so_far(bars: _Bars) -> Columns:
    """Variance and return since the opening, the opening gap, and the returns since the cash market's last marks."""
    row = np.arange(len(bars.slot)) + 1
    realized, usual = (np.concatenate([[0.0], np.cumsum(x)]) for x in (bars.realized, bars.usual))
    so_far, expected = (total[row] - total[bars.start] for total in (realized, usual))
    hour = bars.hour * bars.level
    before = bars.path[bars.start] - bars.log_return[bars.start]  # the opening price
    columns = {
        "session_variance": 0.5 * np.log((so_far + hour) / (expected * bars.level + hour)),
        "session_return": (bars.path - before) / np.sqrt(expected * bars.level + hour),
        "opening_gap": bars.gap[bars.start] / np.sqrt(hour),
        "session_age": np.log1p(row - 1 - bars.start),
    }
    for name, slot in _MARKS.items():
        ends = bars.spacing.rows(slot) - 1  # the bar at whose end it is
        mark = np.maximum.accumulate(np.where(bars.slot == ends, row - 1, 0))
        passed = (usual[row] - usual[mark + 1]) * bars.level + hour
        columns[f"since_{name}"] = (bars.path - bars.path[mark]) / np.sqrt(passed)
    return columns


def _parts(bars: _Bars) -> Columns:
    """Variance of the parts of the session, each frozen outside its own hours: of its last instance, and of five."""
    columns: Columns = {}
    for name, (begin, end) in _PARTS.items():
        since = (bars.slot - bars.spacing.rows(begin)) % bars.spacing.slots
        inside = bars.active & (since < bars.spacing.rows(end - begin))
        for sessions in (0.5, 5):
            average = bars.average(bars.variance, sessions * (end - begin), inside)
            columns[f"{name}_{sessions:g}"] = bars.half_log(average)
    return columns


def _slots(bars: _Bars, scale_NH: np.ndarray) -> Columns:
    """Realized volatility over the scale in the shortest horizon from this time of day, in the sessions before.

    Where labels stay inside their session, all of them had ended when this one began; others are taken later.
    """
    lag = horizon(horizons_of(bars.features.columns)[0]).sessions
    ratio = realized_volatility(bars.features)[:, 0] / scale_NH[:, 0]
    table = np.full((bars.session[-1] + 1, bars.spacing.slots), np.nan)
    table[bars.session, bars.slot] = ratio
    table = np.concatenate([np.full((lag, table.shape[1]), np.nan), table])[: len(table)]
    return {
        f"time_of_day_{half_life}": np.log(np.maximum(_before_each(table, half_life), 0.05))[bars.session, bars.slot]
        for half_life in _SLOT_HALF_LIVES
    }


def _before_each(table_SK: np.ndarray, half_life: float) -> np.ndarray:
    """Average (S, K) over the earlier rows, weights halved every `half_life` rows, NaN left out, half a 1 mixed in."""
    decay, known_SK = 0.5 ** (1.0 / half_life), np.isfinite(table_SK)
    total_SK, weight_SK = (_decayed(x, decay) for x in (np.where(known_SK, table_SK, 0.0), known_SK.astype(float)))
    return (total_SK + 0.5) / (weight_SK + 0.5)


def _decayed(values_SK: np.ndarray, decay: float) -> np.ndarray:
    """Sum of the earlier rows, each weighted by `decay` to the power of the rows between."""
    before_SK = np.concatenate([np.zeros((1, values_SK.shape[1])), values_SK[:-1]])
    return lfilter([1.0], [1.0, -decay], before_SK, axis=0)


def _clock(bars: _Bars) -> Columns:
    """Time of day, weekday, bars up to the known close, a half-day, the pause before the session, announcements."""
    features = bars.features
    angle = 2 * np.pi * bars.slot / bars.spacing.slots
    columns: Columns = {f"sine_{k}": np.sin(k * angle) for k in range(1, _HARMONICS + 1)}
    columns |= {f"cosine_{k}": np.cos(k * angle) for k in range(1, _HARMONICS + 1)}
    weekday = features["session"].dt.day_of_week.to_numpy()
    columns |= {f"weekday_{day}": (weekday == day).astype(float) for day in range(5)}
    left = features["bars_to_close"].to_numpy()
    columns["to_close"] = np.log1p(left)
    columns["half_day"] = (np.arange(len(left)) - bars.start + left < bars.spacing.rows(250)).astype(float)
    pause = np.log1p(features["gap_minutes"].to_numpy(np.float64))[bars.start]
    columns["pause"] = np.minimum(pause, np.log1p(60.0) + 5.0)
    for kind in KINDS:
        since, until = since_and_until(features["ts"], kind)
        columns[f"{kind}_until"] = np.clip(1.0 - until / 16.0, 0.0, 1.0)
        columns[f"{kind}_since"] = np.where(since < 8.0, np.exp(-since / 2.0), 0.0)
    return columns
