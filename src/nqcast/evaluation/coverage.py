"""Is the coverage of a forecast its level: bands over resampled sessions, tests phase by phase, and both as text.

Shapes: N anchors · S sessions · H horizons · Q levels · R resamples. An error is coverage less level, as a share.

The tests (Kupiec, Christoffersen, dynamic quantile) respect overlapping outcomes. A forecast h bars ahead shares its
outcome with the h − 1 anchors after it, so its hits are dependent even when it is perfect, and a test on all anchors
rejects it far too often. Every h-th anchor is free of overlap: each of the h phases (anchors whose row is k modulo h)
gives one valid test.

The stated rule: THE FIRST QUARTILE OF THE PHASES' P-VALUES COUNTS. Phases see overlapping outcomes, so their
p-values move together but not as one: a single phase wastes the others, the smallest p-value rejects too often, the
median too seldom (under 2 % of perfect forecasts at a nominal 5 %). The quartile was chosen by simulation, where it
rejects 2 to 7 % of perfect forecasts over levels, horizons of 1 to 48 bars and the three tests.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from nqcast.evaluation import metrics
from nqcast.evaluation.frames import Forecasts
from nqcast.evaluation.metrics import Floats, level_name
from nqcast.evaluation.scores import MEAN
from nqcast.evaluation.significance import Overlap, effective_sample_size, percentiles, session_sums, times_drawn

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


def coverage_draws(anchors: Forecasts, resamples_RS: NDArray[np.int64]) -> Floats:
    """Coverage over resampled sessions less the coverage itself, (R, H, Q)."""
    hits_NHQ = metrics.below(anchors.quantiles, anchors.targets, anchors.levels)
    hit_SHQ, count_SHQ = (session_sums(values, anchors.session) for values in (hits_NHQ, np.isfinite(hits_NHQ)))
    hit_RHQ, count_RHQ = (np.tensordot(times_drawn(resamples_RS), sums, 1) for sums in (hit_SHQ, count_SHQ))
    return np.asarray(hit_RHQ / count_RHQ - hit_SHQ.sum(axis=0) / count_SHQ.sum(axis=0))


def coverage_band(
    anchors: Forecasts, resamples_RS: NDArray[np.int64], confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Half-widths (low, high), each (H, Q), of where a calibrated forecast's coverage error would lie.

    The coverage is drawn again over resampled sessions; its quantiles less the estimate give the band around nominal.
    """
    low, high = percentiles(coverage_draws(anchors, resamples_RS), confidence)
    return -high, -low


def coverage_check(
    anchors: Forecasts, raw_NHQ: Floats, resamples_RS: NDArray[np.int64], confidence: float = 0.95
) -> Checks:
    """How far one forecast, raw or calibrated, is from its levels, per horizon and in the mean over horizons.

    Args:
        anchors: outcomes and the forecast to check.
        raw_NHQ: the forecast before calibration, whose weighted interval score it should not worsen.

    Returns:
        {horizon: {error: {q05: coverage − level}, low, high: the band around 0 (the same shape), outside: levels whose
        error leaves the band widened by `TOLERANCE`, wis_over_raw: relative change of the weighted interval score}}.
    """
    hits = metrics.coverage_by_level(anchors.quantiles, anchors.targets, anchors.levels)
    error = _with_mean(hits - np.asarray(anchors.levels), axis=0)
    below, above = percentiles(_with_mean(coverage_draws(anchors, resamples_RS), axis=1), confidence)
    change = _with_mean(_score(anchors.quantiles, anchors) / _score(raw_NHQ, anchors) - 1, axis=0)
    outside = (error < -above - TOLERANCE) | (error > -below + TOLERANCE)
    names = anchors.level_names

    def named(values_Q: Floats) -> dict[str, float]:
        return dict(zip(names, values_Q.tolist(), strict=True))

    return {
        horizon: Check(
            error=named(error[h]),
            low=named(-above[h]),
            high=named(-below[h]),
            outside=[name for name, one in zip(names, outside[h], strict=True) if one],
            wis_over_raw=float(change[h]),
        )
        for h, horizon in enumerate([*anchors.horizons, MEAN])
    }


def _score(quantiles_NHQ: Floats, anchors: Forecasts) -> Floats:
    """Mean weighted interval score (H,); where the levels do not pair, the mean pinball loss, which it is half of."""
    targets, levels = anchors.targets, anchors.levels
    if not metrics.symmetric(levels):
        return metrics.mean_pinball(quantiles_NHQ, targets, levels)
    return metrics.mean_defined(metrics.weighted_interval_score(quantiles_NHQ, targets, levels))


def _with_mean(values: Floats, axis: int) -> Floats:
    return np.concatenate([values, values.mean(axis=axis, keepdims=True)], axis=axis)


def render_coverage(rows: Mapping[str, Floats], anchors: Forecasts, heading: str) -> str:
    """Coverage less level, points: the mean over horizons of each row, and the horizon that is furthest off.

    At most 80 columns: of many levels those are shown that are nearest to the usual ones.
    """
    levels, names = anchors.levels, anchors.level_names
    shown = [names.index(level_name(tau)) for tau in metrics.shown_levels(levels)]
    lines = [heading, " " * 17 + "".join(f"{names[i]:>7}" for i in shown) + " furthest off"]
    for row, quantiles in rows.items():
        error = 100 * (metrics.coverage_by_level(quantiles, anchors.targets, levels) - np.asarray(levels))
        h, q = np.unravel_index(np.abs(error).argmax(), error.shape)
        cells = "".join(f"{value:>+7.2f}" for value in error.mean(axis=0)[shown])
        lines.append(f"  {row.replace('_', ' '):<15}{cells} {error[h, q]:+.1f} {anchors.horizons[h]} {names[q]}")
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


MINIMUM_ANCHORS = 20
PHASE_QUANTILE = 0.25


@dataclass(frozen=True)
class CoverageTests:
    """One level at one horizon: p-values by the phase rule (NaN where a phase is too short), and what they rest on."""

    coverage: float
    effective_n: float
    kupiec: float
    christoffersen: float
    dynamic_quantile: float


def kupiec(hits: ArrayLike, level: float) -> float:
    """p-value of Kupiec's (1995) likelihood ratio that hits come with probability ``level``; χ² with 1 degree."""
    hits = np.asarray(hits, dtype=float)
    k, n = hits.sum(), hits.size
    return float(stats.chi2.sf(2 * (_log_likelihood(k, n, k / n) - _log_likelihood(k, n, level)), 1))


def christoffersen(hits: ArrayLike, level: float) -> float:
    """p-value of Christoffersen's (1998) conditional coverage: right rate, no first-order clustering; χ², 2."""
    hits = np.asarray(hits, dtype=int)
    before, after = hits[:-1], hits[1:]
    ones = np.array([np.sum(after[before == state]) for state in (0, 1)], dtype=float)
    visits = np.array([np.sum(before == state) for state in (0, 1)], dtype=float)
    rates = np.divide(ones, visits, out=np.zeros(2), where=visits > 0)
    markov = sum(_log_likelihood(k, n, p) for k, n, p in zip(ones, visits, rates, strict=True))
    return float(stats.chi2.sf(max(2 * (markov - _log_likelihood(ones.sum(), visits.sum(), level)), 0.0), 2))


def dynamic_quantile(hits: ArrayLike, quantile: ArrayLike, level: float, lags: int = 4) -> float:
    """p-value of Engle and Manganelli's (2004) test that hit − level is explained by nothing known at the anchor.

    Regressors: a constant, ``lags`` earlier hits, and the forecast quantile itself. Statistic: the explained sum
    of squares over level·(1 − level); χ² with the rank of the regressors.
    """
    centred = np.asarray(hits, dtype=float) - level
    quantile = np.asarray(quantile, dtype=float)
    spread = quantile.std()
    standard = (quantile - quantile.mean()) / spread if spread > 0 else np.zeros_like(quantile)
    lagged = [centred[lags - k : centred.size - k] for k in range(1, lags + 1)]
    x = np.column_stack([np.ones(centred.size - lags), *lagged, standard[lags:]])
    y = centred[lags:]
    beta, _, rank, _ = np.linalg.lstsq(x, y, rcond=1e-10)
    return float(stats.chi2.sf(float(np.sum((x @ beta) ** 2)) / (level * (1 - level)), rank))


def coverage_tests(
    hits_N: ArrayLike, quantile_N: ArrayLike, position_N: ArrayLike, level: float, overlap: Overlap, lags: int = 4
) -> CoverageTests:
    """The three tests of one level at one horizon on every phase of its anchors, combined by the stated rule.

    ``hits_N`` is 1.0 at or below the quantile, 0.0 above, NaN undefined; ``position_N`` the anchors' rows in the
    features frame (a row is a bar inside a session), which decide the phase.
    """
    hits, quantile, position = (np.asarray(a) for a in (hits_N, quantile_N, position_N))
    defined = np.isfinite(hits)
    hits, quantile, position = hits[defined], quantile[defined], position[defined]
    phases = [position % overlap.bars == k for k in range(overlap.bars)]
    phases = [chosen for chosen in phases if chosen.sum() >= max(MINIMUM_ANCHORS, 5 * lags)]

    def by_rule(test: Callable[[Floats, Floats], float]) -> float:
        return float(np.quantile([test(hits[k], quantile[k]) for k in phases], PHASE_QUANTILE)) if phases else np.nan

    return CoverageTests(
        coverage=float(hits.mean()) if hits.size else np.nan,
        effective_n=effective_sample_size(hits, overlap.lag) if hits.size else 0.0,
        kupiec=by_rule(lambda hit, _: kupiec(hit, level)),
        christoffersen=by_rule(lambda hit, _: christoffersen(hit, level)),
        dynamic_quantile=by_rule(lambda hit, q: dynamic_quantile(hit, q, level, lags)),
    )


def all_coverage_tests(
    anchors: Forecasts, position_N: ArrayLike, overlaps: Sequence[Overlap], lags: int = 4
) -> list[list[CoverageTests]]:
    """`coverage_tests` of every horizon (outer list) and level (inner list)."""
    quantiles, hits = anchors.quantiles, metrics.below(anchors.quantiles, anchors.targets, anchors.levels)
    return [
        [
            coverage_tests(hits[:, h, i], quantiles[:, h, i], position_N, level, overlap, lags)
            for i, level in enumerate(anchors.levels)
        ]
        for h, overlap in enumerate(overlaps)
    ]


def _log_likelihood(ones: float, n: float, p: float) -> float:
    return float(special.xlogy(ones, p) + special.xlogy(n - ones, 1 - p))
