"""The report: is the model better than the baselines, by how much, how sure, is it calibrated, when does it fail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from nqcast.constants import SIMULATED
from nqcast.evaluation import metrics
from nqcast.evaluation.comparison import Scores
from nqcast.evaluation.coverage import CoverageTests, all_coverage_tests
from nqcast.evaluation.frames import CONFORMAL, MODEL, ONLINE, rows_of
from nqcast.evaluation.scores import MEAN, Table, wide
from nqcast.report import figures, html
from nqcast.report.evidence import Evidence
from nqcast.report.explanation import HEADING, explanation_section
from nqcast.report.glossary import ALIASES, TERMS
from nqcast.report.sessions import (
    ceiling_table,
    coverage_by_part_table,
    failure_section,
    group_tables,
    sure_section,
    weakest,
)
from nqcast.storage.json_values import Json

_FAN = (
    "One session of the test split. Above: price, and forecasts issued every four hours. Below: the forecast at every "
    "bar and what came. Bands hold 90, 80 and 50 % of outcomes when calibrated."
)
_SKILL = "Skill over constants with session-bootstrap intervals."
_RELIABILITY = (
    "Share of outcomes at or below each quantile less its level. The grey band is where a calibrated forecast would "
    "lie; filled points are outside it."
)
_PIT = "Outcomes between neighbouring quantiles over what was forecast; 1 everywhere when calibrated."
_COVERAGE = "Share of outcomes inside the {main:g} % interval over the last sessions (20, or a third of a short test)."
_PHASES = "every h-th anchor, phases combined"
_TESTS = {"kupiec": "Kupiec", "christoffersen": "Christoffersen", "dynamic_quantile": "Dynamic quantile"}
_ONE_SIGN = (
    "the median has one sign at nearly every anchor, so the figure says how often the market rose, and nothing about "
    "a gift for direction. A median near zero is what an efficient market asks for; these forecasts say how wide, not "
    "where to."
)
ONE_SIGN = 0.005
"""Difference of directional accuracy and the share of rises below which the median's sign says nothing."""
_TRAINING = "Training and validation loss by epoch, and the learning rate."


def render_report(
    evidence: Evidence,
    scores: Scores,
    history: Sequence[Mapping[str, float]] = (),
    explanation: Json | None = None,
    run: Mapping[str, str] | None = None,
) -> str:
    """The report as one HTML page without outside resources.

    Args:
        evidence: the forecasts, their anchors and where they come from.
        scores: what `comparison.compare_forecasts` made of them, and test_uses.
        history: one dict per epoch of the training.
        explanation: what the network uses (`explain.explain`).
        run: circumstances of the run, such as its date and environment.
    """
    by_group = group_tables(evidence, scores["judged"])
    sections = {
        "In short": [_answers(evidence, scores, by_group), _circumstances(evidence, scores, run or {})],
        "How good": _how_good(evidence, scores),
        "How sure": sure_section(evidence, scores),
        "Is it calibrated": _calibration(evidence, scores),
        "When does it fail": failure_section(evidence, by_group),
        HEADING: explanation_section(explanation, evidence.anchors.horizons, evidence.source) if explanation else [],
        "What was trained on what": _origin(evidence, history),
        "What the numbers mean": [html.definitions(TERMS)],
    }
    drawn = [f"{evidence.source}: these bars are drawn from a seed; no exchange has traded them."]
    top = [html.box(drawn, "simulated")] if evidence.source.startswith(SIMULATED) else []
    sections = {name: parts for name, parts in sections.items() if parts}
    return html.page("Quantile forecasts of futures returns: evaluation", top, sections, ALIASES)


def _answers(evidence: Evidence, scores: Scores, by_group: Mapping[str, pd.DataFrame]) -> str:
    """The box that answers first: better or not, how much, calibrated, where it fails, how often one has looked."""
    uses = scores.get("test_uses", 1)
    return html.box(
        [
            *scores["headline"],
            weakest(by_group),
            f"This test split has been scored {uses} time{'s' if uses != 1 else ''}, this one included.",
        ],
        "answers",
    )


def _circumstances(evidence: Evidence, scores: Scores, run: Mapping[str, str]) -> str:
    """What was scored, on which bars, made by what."""
    data, first, last = evidence.metadata.data, *evidence.anchors.ts.iloc[[0, -1]]
    rows: dict[str, object] = {
        "Bars": evidence.source or "unnamed",
        "Span of the bars": f"{data.first or '–'} to {data.last or '–'} UTC",
        "Test split": f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC, {evidence.anchors.session.nunique()} "
        f"sessions, {len(evidence.anchors.ts):,} anchors",
        "Forecasts": f"{len(evidence.anchors.levels)} quantiles at {', '.join(evidence.anchors.horizons)}",
        "Checkpoint": f"{evidence.metadata.fingerprint}, epoch {evidence.metadata.epoch}",
    }
    return html.facts({**rows, **run})


def _how_good(evidence: Evidence, scores: Scores) -> list[str]:
    table, known = scores["table"], scores["table"][MODEL][MEAN]
    parts = [html.picture(figures.fan_chart(evidence.predictions, evidence.features, evidence.config), _FAN)]
    main = f"{metrics.main_interval(evidence.anchors.levels):g}"
    columns = [
        ("skill_constants", "Skill over constants, %", 100, 2),
        ("skill_time_of_day", "Skill over time of day, %", 100, 2),
        ("skill_seasonal_har", "Skill over seasonal har, %", 100, 2),
        ("mean_pinball", "Mean pinball loss, 1e-4 of log return (less is better)", 1e4, 3),
        ("crps", "CRPS, 1e-4 of log return (less is better)", 1e4, 3),
        (f"winkler_{main}", f"Winkler score of the {main} % interval, 1e-4 of log return (less is better)", 1e4, 2),
        (f"width_{main}", f"Mean width of the {main} % interval, 1e-4 of log return", 1e4, 2),
        (f"picp_{main}", f"Outcomes inside the {main} % interval, %", 100, 1),
    ]
    for column, caption, factor, digits in columns:
        if column in known:
            parts.append(html.table(html.titled(factor * wide(table, column)), caption, digits, MODEL))
    parts += [*_truth_tables(scores.get("truth")), *ceiling_table(scores["judged"])]
    drawn = [name for name in evidence.forecasts if name not in ("constants", CONFORMAL, ONLINE)]
    estimates = {name: evidence.skill(name, "constants") for name in drawn}
    parts.append(evidence.picture(figures.skill_by_horizon(estimates, evidence.anchors.horizons), _SKILL))
    return [*parts, *_direction(evidence)]


def _truth_tables(truth: Table | None) -> list[str]:
    """How near each forecast comes to the true quantiles, where a simulated market knows them."""
    if not truth:
        return []
    share, gap = (wide(truth, key) for key in ("learnable_share", "gap"))
    return [
        html.table(html.titled(100 * share), "Share of the learnable skill (constants 0, truth 100), %", 1, MODEL),
        html.table(html.titled(1e4 * gap), "Mean pinball loss above that of the truth, 1e-4 of log return", 3, MODEL),
    ]


def _direction(evidence: Evidence) -> list[str]:
    median = evidence.anchors.quantiles[..., metrics.level_index(evidence.anchors.levels, 0.5)]
    direction = metrics.median_direction(median, evidence.anchors.targets)
    frame = pd.DataFrame(direction, index=list(evidence.anchors.horizons)).rename(columns=lambda c: c.replace("_", " "))
    parts = [
        html.table(frame.rename(columns={"share up": "share of rises"}), "Direction, from the sign of the median", 3)
    ]
    same = np.abs(direction["directional_accuracy"] - direction["share_up"]) < ONE_SIGN
    if same.any():
        named = ", ".join(name for name, one in zip(evidence.anchors.horizons, same, strict=True) if one)
        parts.append(html.paragraph(f"At {named} the accuracy is the share of rises: {_ONE_SIGN}"))
    return parts


def _calibrated_rows(evidence: Evidence, scores: Scores) -> str:
    """Coverage errors of the raw, the offline and the online forecast, and what calibration did to the score."""
    names = evidence.anchors.level_names
    frame = pd.DataFrame(columns=[*names, "outside the widened band", "weighted interval score against raw, %"])
    for row, check in scores["calibration"].items():
        cells = [name for h, one in check.items() if h != MEAN for name in one["outside"]]
        outside = f"{len(cells)} of {len(names) * len(evidence.anchors.horizons)}"
        errors = [f"{100 * check[MEAN]['error'][name]:+.2f}" for name in names]
        frame.loc[row] = [*errors, outside, f"{100 * check[MEAN]['wis_over_raw']:+.2f}"]
    caption = (
        "Raw, offline (conformal) and online calibration: share of outcomes at or below each quantile less its level, "
        "points, mean over horizons; and how many levels of single horizons lie outside the band of the bootstrap over "
        "sessions, widened by 1 point"
    )
    return html.table(html.titled(frame), caption)


def _coverage_table(evidence: Evidence, scores: Scores) -> str:
    names = evidence.anchors.level_names
    rows = {name: [100 * row[MEAN][level] for level in names] for name, row in scores["table"].items()}
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=names)
    return html.table(html.titled(frame), "Outcomes at or below each quantile, %, mean over horizons", 1, MODEL)


def _calibration(evidence: Evidence, scores: Scores) -> list[str]:
    anchors, levels, horizons = evidence.anchors, evidence.anchors.levels, evidence.anchors.horizons
    position_N, config = rows_of(anchors.ts, evidence.features), evidence.config
    tests = all_coverage_tests(anchors, position_N, evidence.overlaps, config.phase_lag)
    names = anchors.level_names

    def by_level(value: Callable[[CoverageTests], object]) -> pd.DataFrame:
        return pd.DataFrame([[value(t) for t in row] for row in tests], index=list(horizons), columns=names)

    coverage = html.table(by_level(lambda t: 100 * t.coverage), "Outcomes at or below each raw quantile, %", 1)
    in_full = [
        html.table(by_level(lambda t, f=field: html.p_value(getattr(t, f))), f"{name} test, p-values ({_PHASES})", 3)  # type: ignore[misc]
        for field, name in _TESTS.items()
    ]
    in_full.append(html.table(by_level(lambda t: int(t.effective_n)), "Effective number of independent outcomes"))
    targets = np.isfinite(anchors.targets).sum(axis=0)
    counted = ", ".join(f"{name} {n:,}" for name, n in zip(horizons, targets, strict=True))
    main = metrics.main_interval(levels)
    reliability = figures.reliability_diagram(anchors, evidence.resamples, config.confidence)
    return [
        _calibrated_rows(evidence, scores),
        coverage_by_part_table(scores["judged"]),
        evidence.picture(reliability, _RELIABILITY),
        evidence.picture(figures.pit_histogram(anchors), _PIT),
        evidence.picture(figures.coverage_over_time(anchors, main), _COVERAGE.format(main=main)),
        _coverage_table(evidence, scores),
        coverage,
        html.paragraph(f"Outcomes that exist: {counted}."),
        html.folded("Tests of the raw quantiles, level by level", in_full),
    ]


def _origin(evidence: Evidence, history: Sequence[Mapping[str, float]]) -> list[str]:
    """Where the model comes from: the train split in a few rows, then every setting."""
    metadata, train = evidence.metadata, evidence.features["ts"].iloc[evidence.train]
    parts = [
        html.facts(
            {
                "Train anchors": f"{len(train):,}, {train.iloc[0]:%Y-%m-%d} to {train.iloc[-1]:%Y-%m-%d}",
                "Trained once more": f"on validation but its latest sessions too, up to {train.iloc[-1]:%Y-%m-%d}"
                if metadata.train.get("refit")
                else "no",
                "Content of the features": metadata.data.fingerprint,
                "Checkpoint": metadata.fingerprint,
                "Best epoch": metadata.epoch,
                "Version of nqcast": metadata.version,
            }
        )
    ]
    if history:
        parts.append(evidence.picture(figures.training_curves(history), _TRAINING))
    settings = {"model": metadata.model, "train": metadata.train, "scale": metadata.scale.get("config") or {}}
    rows = {f"{group}.{key}": str(v) for group, values in settings.items() for key, v in values.items()}
    return [*parts, html.folded(f"Origin of the model: all {len(rows)} settings", [html.facts(rows)])]
