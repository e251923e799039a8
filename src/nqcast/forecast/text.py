"""A forecast to read on a terminal."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd

from nqcast.constants import EXCHANGE_TIMEZONE, SIMULATED
from nqcast.evaluation.metrics import level_name, shown_levels
from nqcast.forecast.fan import heading
from nqcast.forecast.forecaster import Issued


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
