"""Is the coverage of a forecast its level: bands over resampled sessions, errors, and their table as text.

Shapes: N anchors · S sessions · H horizons · Q levels · R resamples. An error is coverage less level, as a share.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from nqcast.evaluation import metrics
from nqcast.evaluation.frames import Forecasts
from nqcast.evaluation.metrics import Floats, level_name
from nqcast.evaluation.scores import MEAN
from nqcast.evaluation.significance import session_sums

TOLERANCE = 0.01  # what the band is widened by before a level counts as outside


class Check(TypedDict):
    """Coverage less level of each quantile and the band around 0 where it would lie by chance; see `coverage_check`."""

    error: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    outside: list[str]
    wis_over_raw: float


Checks = dict[str, Check]
"""{horizon or mean: check}."""


def coverage_draws(anchors: Forecasts, levels: Sequence[float], resamples_RS: NDArray[np.int64]) -> Floats:
    """Coverage over resampled sessions less the coverage itself, (R, H, Q)."""
    hits = metrics.below(anchors.quantiles, anchors.targets, levels)
    n, h, q = hits.shape
    hit_S = session_sums(hits.reshape(n, h * q), anchors.session)
    count_S = session_sums(np.isfinite(hits).astype(float).reshape(n, h * q), anchors.session)
    weights = np.apply_along_axis(np.bincount, 1, resamples_RS, minlength=len(hit_S)).astype(float)
    drawn = (weights @ hit_S) / (weights @ count_S) - hit_S.sum(axis=0) / count_S.sum(axis=0)
    return np.asarray(drawn.reshape(-1, h, q))


def coverage_band(
    anchors: Forecasts, levels: Sequence[float], resamples_RS: NDArray[np.int64], confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Half-widths (low, high), each (H, Q), of where a calibrated forecast's coverage error would lie.

    The coverage is drawn again over resampled sessions; its quantiles less the estimate give the band around nominal.
    """
    drawn = coverage_draws(anchors, levels, resamples_RS)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return -high, -low


def coverage_check(
    anchors: Forecasts,
    raw_NHQ: Floats,
    levels: Sequence[float],
    horizons: Sequence[str],
    resamples_RS: NDArray[np.int64],
    confidence: float = 0.95,
) -> Checks:
    """What one forecast owes, raw or calibrated, per horizon and in the mean over horizons.

    Args:
        anchors: outcomes and the forecast to check.
        raw_NHQ: the forecast before calibration, whose weighted interval score it should not worsen.

    Returns:
        {horizon: {error: {q05: coverage − level}, low, high: the band around 0 (the same shape), outside: levels whose
        error leaves the band widened by `TOLERANCE`, wis_over_raw: relative change of the weighted interval score}}.
    """
    hits = metrics.coverage_by_level(anchors.quantiles, anchors.targets, levels)
    error = _with_mean(hits - np.asarray(levels), axis=0)
    drawn = _with_mean(coverage_draws(anchors, levels, resamples_RS), axis=1)
    below, above = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    change = _with_mean(_score(anchors.quantiles, anchors, levels) / _score(raw_NHQ, anchors, levels) - 1, axis=0)
    names = [level_name(tau) for tau in levels]
    checks: Checks = {}
    for h, horizon in enumerate([*horizons, MEAN]):
        low, high = -above[h] - TOLERANCE, -below[h] + TOLERANCE
        outside = [name for name, e, a, b in zip(names, error[h], low, high, strict=True) if not a <= e <= b]
        columns = {"error": error[h], "low": -above[h], "high": -below[h]}
        named = {key: dict(zip(names, map(float, values), strict=True)) for key, values in columns.items()}
        own = named["error"], named["low"], named["high"]
        checks[horizon] = Check(error=own[0], low=own[1], high=own[2], outside=outside, wis_over_raw=float(change[h]))
    return checks


def _score(quantiles_NHQ: Floats, anchors: Forecasts, levels: Sequence[float]) -> Floats:
    """Mean weighted interval score (H,); where the levels do not pair, the mean pinball loss, which it is half of."""
    if not metrics.symmetric(levels):
        return metrics.mean_pinball(quantiles_NHQ, anchors.targets, levels)
    return metrics.mean_defined(metrics.weighted_interval_score(quantiles_NHQ, anchors.targets, levels))


def _with_mean(values: Floats, axis: int) -> Floats:
    return np.concatenate([values, values.mean(axis=axis, keepdims=True)], axis=axis)


def render_coverage(
    rows: Mapping[str, Floats], targets_NH: Floats, levels: Sequence[float], horizons: Sequence[str], heading: str
) -> str:
    """Coverage less level, points: the mean over horizons of each row, and the horizon that is furthest off.

    At most 80 columns: of many levels those are shown that are nearest to the usual ones.
    """
    names = [level_name(tau) for tau in levels]
    shown = [names.index(level_name(tau)) for tau in metrics.shown_levels(levels)]
    lines = [heading, " " * 17 + "".join(f"{names[i]:>7}" for i in shown) + " furthest off"]
    for row, quantiles in rows.items():
        error = 100 * (metrics.coverage_by_level(quantiles, targets_NH, levels) - np.asarray(levels))
        h, q = np.unravel_index(np.abs(error).argmax(), error.shape)
        cells = "".join(f"{value:>+7.2f}" for value in error.mean(axis=0)[shown])
        lines.append(f"  {row.replace('_', ' '):<15}{cells} {error[h, q]:+.1f} {horizons[h]} {names[q]}")
    return "\n".join(lines)


def render_checks(checks: Mapping[str, Checks], confidence: float = 0.95) -> str:
    """One sentence per row: levels outside their widened band, and what it did to the score."""
    return "\n".join(
        textwrap.fill(_check_sentence(row, check, confidence), 79, initial_indent="  ", subsequent_indent="    ")
        for row, check in checks.items()
    )


def _check_sentence(row: str, check: Checks, confidence: float) -> str:
    overall, single = check[MEAN], {h: one for h, one in check.items() if h != MEAN}
    change = 100 * overall["wis_over_raw"]
    cells = [f"{h} {name}" for h, one in single.items() for name in one["outside"]]
    count = sum(len(one["error"]) for one in single.values())
    return (
        f"{row.replace('_', ' ')}: overall at most {100 * max(map(abs, overall['error'].values())):.2f} points off; "
        f"outside the {confidence:.0%} session-bootstrap band widened by {100 * TOLERANCE:g} point: "
        f"{len(overall['outside'])} of {len(overall['error'])} levels overall, {len(cells)} of {count} by horizon"
        + (f" ({', '.join(cells)})" if cells else "")
        + (f"; weighted interval score {change:+.2f} % against raw" if change else "")
    )
