"""Fans: forecast quantiles over one session of the price, how they breathe through the day, and from now on."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, DateFormatter, HourLocator
from matplotlib.figure import Figure

from nqcast.constants import EXCHANGE_TIMEZONE
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import horizons_in, levels_of
from nqcast.evaluation.metrics import Floats, level_name
from nqcast.forecast.text import bands_of, fan_paths, heading, past_price
from nqcast.horizons import horizons, in_order
from nqcast.report.figures.style import BANDS, BLACK, BLUE, GREY, VERMILION, days, finish, new_figure, with_source
from nqcast.spacing import Spacing

HOURS_BETWEEN_FANS = 4


def fan_chart(predictions: pd.DataFrame, features: pd.DataFrame, config: EvaluateConfig | None = None) -> Figure:
    """Fans over one session: above, the price with fans issued every four hours; below, one horizon at every bar.

    ``predictions`` is the predictions frame, ``features`` holds ts, session, raw_close, traded and realized_variance.
    The session is ``config.fan_session`` or, without it, the one of median realised variance among the full ones.
    ValueError when the session or the horizon has no forecasts.
    """
    config = config or EvaluateConfig()
    session = choose_session(predictions, features, config.fan_session)
    day = features[(features["session"] == session) & features["traded"].astype(bool)]
    forecasts = predictions[predictions["session"] == session]
    figure = new_figure(10.0, 6.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.1, 1])
    _price_panel(upper, day, forecasts)
    known = horizons_in(forecasts)
    _return_panel(lower, forecasts, config.fan_horizon or known[len(known) // 2])
    contract = str(day["contract"].iloc[0]) if "contract" in day and day["contract"].notna().any() else "price"
    title = f"{contract}, session of {session:%A %d %B %Y}"
    upper.set_title(title, loc="left", fontsize=12.5, fontweight="bold", parse_math=False)
    lower.xaxis.set_major_locator(HourLocator(byhour=range(0, 24, 2), tz=EXCHANGE_TIMEZONE))
    lower.xaxis.set_major_formatter(DateFormatter("%H:%M", tz=EXCHANGE_TIMEZONE))
    edge = pd.Timedelta(minutes=20)
    lower.set_xlim(*days([day["ts"].iloc[0] - edge, day["ts"].iloc[-1] + edge]))
    handles, labels = (a + b for a, b in zip(*(p.get_legend_handles_labels() for p in (upper, lower)), strict=True))
    order = [labels.index("price"), *(i for i, label in enumerate(labels) if label != "price")]
    figure.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="outside lower center",
        ncols=len(order),
        fontsize=9,
        frameon=False,
        columnspacing=1.4,
        handlelength=1.6,
    )
    return with_source(figure, features.attrs.get("source", ""))


def choose_session(predictions: pd.DataFrame, features: pd.DataFrame, wanted: str | None) -> pd.Timestamp:
    """The asked trading date, or that of median realised variance among sessions with nearly all their anchors."""
    counts = predictions.groupby("session")["ts"].nunique()
    if wanted is not None:
        session = pd.Timestamp(wanted)
        if session not in counts.index:
            first, last = counts.index.min(), counts.index.max()
            raise ValueError(
                f"expected a session with forecasts, {first:%Y-%m-%d} to {last:%Y-%m-%d}, found {wanted}: "
                "correct evaluate.fan_session"
            )
        return session
    full = counts.index[counts >= 0.9 * counts.quantile(0.9)]
    variance = features[features["session"].isin(full)].groupby("session")["realized_variance"].sum().sort_values()
    return pd.Timestamp(variance.index[(len(variance) - 1) // 2])


def _price_panel(axes: Axes, day: pd.DataFrame, forecasts: pd.DataFrame) -> None:
    bar = Spacing.of(day["ts"]).bar
    made = day["ts"] + bar
    price = pd.Series(day["raw_close"].to_numpy(), index=day["ts"])
    for k, ts in enumerate(_issue_times(forecasts["ts"])):
        fan = forecasts[forecasts["ts"] == ts].set_index("horizon")
        minutes = _minutes_inside(fan.index, (made.iloc[-1] - ts - bar) / pd.Timedelta(minutes=1))
        if minutes:
            rows, lasts = fan.loc[list(minutes)], list(minutes.values())
            _draw_fan(axes, ts + bar, float(price[ts]), rows, made.iloc[-1], lasts, k == 0)
    axes.plot(days(made), day["raw_close"].to_numpy(), color=BLACK, linewidth=1.1, label="price", zorder=4)
    finish(axes, y="Index points")


def _issue_times(ts: pd.Series) -> list[pd.Timestamp]:
    stamps = pd.DatetimeIndex(ts.unique()).sort_values()
    every = pd.Timedelta(hours=HOURS_BETWEEN_FANS)
    chosen = [stamps[0]]
    while (later := stamps[stamps >= chosen[-1] + every]).size:
        chosen.append(later[0])
    return chosen


def _minutes_inside(names: Iterable[str], left: float) -> dict[str, float]:
    """How long each horizon inside the session lasts, rising; the close, `left` minutes away, only as the longest."""
    known = horizons(in_order(names))
    found: dict[str, float] = {one.name: one.minutes for one in known if one.by_clock}
    if any(one.to_close for one in known) and left > max(found.values(), default=0):
        found["close"] = left
    return found


def _draw_fan(
    axes: Axes,
    issued: pd.Timestamp,
    price: float,
    fan: pd.DataFrame,
    end: pd.Timestamp,
    lasts: list[float],
    labelled: bool,
) -> None:
    """Quantile lines from the issue to the longest horizon, cut at the session's end; linear in √time between them."""
    minutes = np.array([0.0, *lasts])
    fine = np.linspace(0, min(minutes[-1], (end - issued) / pd.Timedelta(minutes=1)), 60)
    x = days(issued + pd.to_timedelta(fine, unit="min"))

    def line(level: float) -> Floats:
        returns = np.concatenate([[0.0], fan[level_name(level)].to_numpy(dtype=float)])
        return price * np.exp(np.interp(np.sqrt(fine), np.sqrt(minutes), returns))

    for (low, high, name), colour in zip(bands_of(levels_of(fan)), BANDS, strict=False):
        label = f"{name} interval" if labelled else None
        axes.fill_between(x, line(low), line(high), color=colour, linewidth=0, label=label, zorder=2)
    axes.plot(x, line(0.5), color=BLUE, linewidth=1, label="median forecast" if labelled else None, zorder=3)
    label = "forecast issued" if labelled else None
    axes.plot(x[:1], [price], "o", color="white", markeredgecolor=BLACK, markersize=5, label=label, zorder=5)


def _return_panel(axes: Axes, forecasts: pd.DataFrame, horizon: str) -> None:
    rows = forecasts[forecasts["horizon"] == horizon].sort_values("ts")
    if rows.empty:
        known = sorted(forecasts["horizon"].unique())
        raise ValueError(f"expected a forecast horizon of {known}, found {horizon!r}: correct evaluate.fan_horizon")
    rows = rows[rows["target"].notna()]
    made = rows["ts"] + Spacing.of(rows["ts"]).bar
    for (low, high, _), colour in zip(bands_of(levels_of(rows)), BANDS, strict=False):
        _stepped(axes, made, [100 * rows[level_name(tau)].to_numpy(dtype=float) for tau in (low, high)], colour)
    axes.axhline(0, color=GREY, linewidth=0.6)
    outcome = 100 * rows["target"].to_numpy(dtype=float)
    axes.plot(days(made), outcome, ".", color=VERMILION, markersize=3.2, label=f"outcome after {horizon}")
    finish(axes, x=f"Time the forecast is made ({EXCHANGE_TIMEZONE.split('/')[-1]})", y=f"{horizon} return, %")


def _stepped(axes: Axes, times: pd.Series, ends: Sequence[Floats], colour: str) -> None:
    """A band that is broken where forecasts are more than half an hour apart."""
    gap = times.diff() > pd.Timedelta(minutes=30)
    for _, part in pd.Series(np.arange(len(times))).groupby(gap.cumsum().to_numpy()):
        index = part.to_numpy()
        axes.fill_between(days(times.iloc[index]), ends[0][index], ends[1][index], color=colour, linewidth=0)


def draw_forecast(forecast: pd.DataFrame, recent: pd.DataFrame) -> Figure:
    """Recent price (ts, raw_close, traded) and the fan of `Forecaster.forecast` that goes on; exchange time."""
    figure = new_figure(10.0, 5.0)
    axes = figure.subplots()
    paths, price = fan_paths(forecast), past_price(recent)
    for (low, high, name), colour in zip(bands_of(map(float, paths.columns)), BANDS, strict=False):
        axes.fill_between(days(paths.index), paths[low], paths[high], color=colour, linewidth=0, label=name, zorder=2)
    axes.plot(days(paths.index), paths[0.5], color=BLUE, linewidth=1.2, label="median", zorder=3)
    axes.plot(days(price.index), price.to_numpy(), color=BLACK, linewidth=1.2, label="price", zorder=4)
    axes.axvline(float(days(paths.index)[0]), color=GREY, linewidth=0.8, linestyle=":")
    finish(axes, heading(forecast), f"{EXCHANGE_TIMEZONE.split('/')[-1]} time", "Index points")
    locator = AutoDateLocator(tz=EXCHANGE_TIMEZONE)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=EXCHANGE_TIMEZONE))
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    return with_source(figure, forecast.attrs.get("source", ""))
