"""A forecast that was made, and how it reads: its fan as price paths for picture and page, its text for a terminal."""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nqcast.constants import BAR_MINUTES, EXCHANGE_TIMEZONE, SIMULATED
from nqcast.evaluation import metrics
from nqcast.evaluation.metrics import level_name, shown_levels
from nqcast.spacing import Spacing


@dataclass(frozen=True)
class Issued:
    """A forecast and what it was made from.

    forecast: one row per horizon and level (see `Forecaster.forecast`); recent: ts, raw_close and traded of the bars
    before it; session_close and newest (end of the newest bar), both UTC; calibrated: whether offsets were applied;
    short_of: how many sessions were known where the scale looks back further, 0 where it knew all;
    paths: `config.paths` joint paths, a row per path and horizon (path, horizon, target_time, log_return, price).
    """

    forecast: pd.DataFrame
    recent: pd.DataFrame
    session_close: pd.Timestamp
    newest: pd.Timestamp
    calibrated: bool
    paths: pd.DataFrame
    short_of: int = 0

    def notes(self) -> dict[str, str]:
        """Sentences on the bar that it starts from: `close` where that is not the newest, `age` where it is old."""
        issue_time = self.forecast["issue_time"].iloc[0]
        notes = {}
        if self.newest > issue_time:
            notes["close"] = (
                f"The bars end at {self.newest:%Y-%m-%d %H:%M} UTC, too near the close: the forecast is the last one "
                "of that session with every horizon."
            )
        age = pd.Timestamp.now(tz="UTC") - issue_time
        if age > pd.Timedelta(hours=1):
            old = f"{age.days:,} days" if age.days > 1 else f"{age // pd.Timedelta(hours=1)} hours"
            notes["age"] = f"Issued {old} ago: history, not the market (forecast.max_age_minutes refuses old bars)."
        return notes


def fan_paths(forecast: pd.DataFrame) -> pd.DataFrame:
    """Price at each level (columns) from the issue to the longest defined horizon, every five minutes (UTC index).

    Between horizons the log return is linear in √time, as the spread of a random walk is.
    """
    defined = forecast[forecast["return_quantile"].notna()]
    table = defined.pivot(index="target_time", columns="level", values="return_quantile").sort_index()
    issued, price = forecast["issue_time"].iloc[0], float(forecast["last_price"].iloc[0])
    minutes = np.concatenate([[0.0], (table.index - issued) / pd.Timedelta(minutes=1)])
    fine = np.arange(0.0, minutes[-1] + BAR_MINUTES, BAR_MINUTES)
    paths = {level: price * np.exp(np.interp(np.sqrt(fine), np.sqrt(minutes), [0.0, *table[level]])) for level in table}
    return pd.DataFrame(paths, index=issued + pd.to_timedelta(fine, unit="min"))


def past_price(recent: pd.DataFrame) -> pd.Series:
    """Raw closes of the traded bars at their ends (UTC index)."""
    traded = recent[recent["traded"].astype(bool)]
    ends = pd.DatetimeIndex(traded["ts"]) + Spacing.of(recent["ts"]).bar
    return pd.Series(traded["raw_close"].to_numpy(float), index=ends)


def bands_of(levels: Iterable[float]) -> list[tuple[float, float, str]]:
    """The intervals to draw, widest first: lower level, upper level and name; those nearest to 90, 80 and 50 %."""
    known = list(levels)
    percents = metrics.usual_intervals(known)
    ends = [(0.5 - percent / 200, 0.5 + percent / 200) for percent in percents]
    level = {end: known[metrics.level_index(known, end)] for pair in ends for end in pair}
    return [(level[low], level[high], f"{p:g} %") for (low, high), p in zip(ends, percents, strict=True)]


def heading(forecast: pd.DataFrame) -> str:
    """Contract, price and time of a forecast in one line; the product is named where the contract's text names it."""
    row = forecast.iloc[0]
    known = isinstance(row["contract"], str) and row["contract"] not in ("", "unknown")
    contract = row["contract"] if known else "price"
    contract = f"contract {contract}" if contract.isdigit() else contract
    return f"{contract} at {row['last_price']:,.2f}, forecast issued {row['issue_time']:%Y-%m-%d %H:%M} UTC"


def forecast_text(issued: Issued) -> str:
    """Heading, one line per horizon with its price quantiles, and what a reader has to know about them; 80 columns.

    Of many levels those are shown that are nearest to the usual ones.
    """
    forecast = issued.forecast
    table = forecast.pivot(index="target_time", columns="level", values="price_quantile").sort_index()
    table = table[shown_levels([float(level) for level in table.columns])]
    names = dict(zip(forecast["target_time"], forecast["horizon"], strict=True))
    lines = [heading(forecast), "", _line("", "until", [level_name(float(level)) for level in table.columns])]
    for target, prices in zip(pd.DatetimeIndex(table.index), table.to_numpy(), strict=True):
        local = target.tz_convert(EXCHANGE_TIMEZONE)
        cells = [f"{price:,.2f}" for price in prices] if np.isfinite(prices).all() else ["  the session closes first"]
        lines.append(_line(names[target], f"{local:%H:%M}", cells))
    return "\n".join([*lines, "", *(line for note in _notes(issued) for line in textwrap.wrap(note, 79))])


def summary(issued: Issued) -> dict[str, object]:
    """The forecast's circumstances as JSON-able values, with its `text`."""
    row = issued.forecast.iloc[0]
    return {
        "text": forecast_text(issued),
        "issue_time": row["issue_time"].isoformat(),
        "newest_bar_end": issued.newest.isoformat(),
        "session_close": issued.session_close.isoformat(),
        "last_price": float(row["last_price"]),
        "calibrated": issued.calibrated,
    }


def _line(horizon: str, until: str, cells: list[str]) -> str:
    return f"{horizon:>3} {until:>5}" + "".join(f"{cell:>10}" for cell in cells)


def _notes(issued: Issued) -> list[str]:
    zone = EXCHANGE_TIMEZONE.split("/")[-1]
    close = issued.session_close.tz_convert(EXCHANGE_TIMEZONE)
    source = issued.forecast.attrs.get("source", "")
    notes = [f"Bars of the {source}: no exchange has traded them."] if source.startswith(SIMULATED) else []
    notes += [f"Price quantiles in index points; times are {zone}'s; the session closes at {close:%H:%M}."]
    notes += issued.notes().values()
    if len(issued.paths):
        notes.append(_paths_note(issued.paths))
    if issued.short_of:
        notes.append(
            f"These bars and the checkpoint hold {issued.short_of} sessions, fewer than the scale looks back: the "
            "forecast may be some percent wider or narrower than those that were scored. Bring half a year of bars."
        )
    notes.append(
        "Calibrated on the validation split."
        if issued.calibrated
        else "The model's own quantiles, without calibration."
    )
    return notes + _online_note(issued.forecast)


def _online_note(forecast: pd.DataFrame) -> list[str]:
    """The outermost quantiles by the online calibration, in prices; nothing where there are none."""
    known = forecast[np.isfinite(forecast["price_quantile_online"])]
    if known.empty:
        return []
    ends = known.groupby("horizon", sort=False)["price_quantile_online"].agg(["min", "max"])
    shown = ", ".join(f"{name} {low:,.2f} to {high:,.2f}" for name, low, high in ends.itertuples())
    outer = " to ".join(level_name(float(level)) for level in (known["level"].min(), known["level"].max()))
    return [f"Calibrated online, by the outcomes since validation, {outer}: {shown}."]


def _paths_note(paths: pd.DataFrame) -> str:
    """How far paths go over the horizons that end inside the session."""
    reach = paths.groupby("path")["price"].agg(["min", "max"])
    low, high = reach["min"].quantile(0.05), reach["max"].quantile(0.95)
    return (
        f"Of {len(reach):,} joint paths 95 % stay above {low:,.2f} at every horizon, and 95 % below {high:,.2f}: the "
        "reach of a path, wider than any one horizon's quantiles."
    )
