"""The report: is the model better than the baselines, by how much, how sure, is it calibrated, when does it fail."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from nqcast.evaluation import groups, metrics
from nqcast.evaluation.calibration import CONFORMAL, ONLINE
from nqcast.evaluation.comparison import MODEL
from nqcast.evaluation.coverage import coverage_check
from nqcast.evaluation.coverage_tests import all_coverage_tests
from nqcast.evaluation.metrics import level_name
from nqcast.evaluation.scores import MEAN, describe_anchors, score_by_group, score_table
from nqcast.evaluation.significance import MINIMUM_DIFFERENCES, compare_losses, larger_p, session_sums
from nqcast.report import figures, html
from nqcast.report.evidence import Evidence
from nqcast.report.explanation import HEADING, explained
from nqcast.report.glossary import TERMS

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
_COVERAGE = "Share of outcomes inside the 80 % interval over the last 20 sessions."
_LOSS = "Mean pinball loss through the day at the shortest horizon."
_SCALE = "Mean absolute return against the forecast scale in twenty equal groups; on the line when the scale is right."
_TRAINING = "Training and validation loss by epoch, and the learning rate."


def render_report(evidence: Evidence) -> str:
    """The report as one HTML page without outside resources."""
    by_group = _group_tables(evidence)
    sections = {
        "In short": _answers(evidence, by_group),
        "How good": _how_good(evidence),
        "How sure": _how_sure(evidence),
        "Is it calibrated": _calibration(evidence),
        "When does it fail": _failures(evidence, by_group),
        HEADING: explained(evidence.explanation, evidence.horizons) if evidence.explanation else [],
        "What was trained on what": _origin(evidence),
        "What the numbers mean": [html.definitions(TERMS)],
    }
    sections = {name: parts for name, parts in sections.items() if parts}
    lead = f"Scored on {describe_anchors(evidence.anchors)}."
    return html.page("Quantile forecasts of futures returns: evaluation", lead, sections)


def _answers(evidence: Evidence, by_group: dict[str, pd.DataFrame]) -> list[str]:
    own, gain = evidence.skill(MODEL, "constants"), evidence.skill(MODEL, evidence.reference)
    reference = evidence.skill(evidence.reference, "constants")
    sure = "the interval excludes zero" if gain.low[-1] > 0 or gain.high[-1] < 0 else "the interval includes zero"
    covered = ", ".join(f"{name.replace('_', ' ')} {share:.1f} %" for name, share in _covered(evidence).items())
    uses = evidence.test_uses
    texts = [
        f"Better than constants? Mean skill {100 * own.value[-1]:.2f} %"
        f" [{100 * own.low[-1]:.2f}, {100 * own.high[-1]:.2f}].",
        f"Better than {evidence.reference.replace('_', ' ')} (mean skill {100 * reference.value[-1]:.2f} %)? "
        f"{100 * gain.value[-1]:+.2f} points [{100 * gain.low[-1]:+.2f}, {100 * gain.high[-1]:+.2f}]; {sure}.",
        f"Calibrated? Share of outcomes inside the {metrics.main_interval(evidence.levels):g} % interval: {covered}.",
        _weakest(by_group),
        f"How often was this test split scored? {uses} time{'s' if uses != 1 else ''}, this one included.",
    ]
    return [html.paragraph(text, "answer") for text in texts]


def _covered(evidence: Evidence) -> dict[str, float]:
    """Per cent of outcomes inside the main interval, of the model's raw and calibrated rows."""
    percent = metrics.main_interval(evidence.levels)
    inside = {
        name: metrics.inside(evidence.forecasts[name], evidence.anchors.targets, evidence.levels, percent)
        for name in evidence.model_rows
    }
    return {name: 100 * float(metrics.mean_defined(hits, axis=None)) for name, hits in inside.items()}


def _weakest(by_group: dict[str, pd.DataFrame]) -> str:
    skills = [frame["skill over constants, %"] for frame in by_group.values()]
    listed = ", ".join(f"{skill.idxmin()} ({skill.min():.1f} %)" for skill in skills)
    return f"When does it fail? Skill over constants is least in: {listed}."


def _how_good(evidence: Evidence) -> list[str]:
    table = score_table(evidence.forecasts, evidence.anchors.targets, evidence.levels, evidence.horizons)
    parts = [html.picture(figures.fan_chart(evidence.predictions, evidence.features, evidence.config), _FAN)]
    main = f"{metrics.main_interval(evidence.levels):g}"
    columns = [
        ("mean_pinball", "Mean pinball loss, 1e-4 of log return (less is better)", 1e4, 3),
        ("skill_constants", "Skill over constants, %", 100, 2),
        ("skill_time_of_day", "Skill over time of day, %", 100, 2),
        ("crps", "CRPS, 1e-4 of log return (less is better)", 1e4, 3),
        (f"winkler_{main}", f"Winkler score of the {main} % interval, 1e-4 of log return (less is better)", 1e4, 2),
        (f"width_{main}", f"Mean width of the {main} % interval, 1e-4 of log return", 1e4, 2),
    ]
    for column, caption, factor, digits in columns:
        if column in table:
            wide = table.pivot(index="forecast", columns="horizon", values=column)
            wide = wide.loc[list(evidence.forecasts), [*evidence.horizons, MEAN]] * factor
            parts.append(html.table(_titled(wide), caption, digits, MODEL))
    drawn = [name for name in evidence.forecasts if name not in ("constants", CONFORMAL, ONLINE)]
    estimates = {name: evidence.skill(name, "constants") for name in drawn}
    parts.append(html.picture(figures.skill_by_horizon(estimates, evidence.horizons), _SKILL))
    median = evidence.anchors.quantiles[..., metrics.level_index(evidence.levels, 0.5)]
    direction = metrics.median_direction(median, evidence.anchors.targets)
    frame = pd.DataFrame(direction, index=list(evidence.horizons)).rename(columns=lambda c: c.replace("_", " "))
    return [*parts, html.table(frame, "Direction, from the sign of the median", 3)]


def _how_sure(evidence: Evidence) -> list[str]:
    parts = []
    for name in evidence.forecasts:
        if name == MODEL:
            continue
        gain = evidence.skill(MODEL, name)
        columns = {"gain": 100 * gain.value[:-1], "from": 100 * gain.low[:-1], "to": 100 * gain.high[:-1]}
        frame = pd.DataFrame({**columns, **_diebold_mariano(evidence, name)}, index=list(evidence.horizons))
        caption = f"Model against {name.replace('_', ' ')}: gain in skill, points, its interval, Diebold–Mariano"
        parts.append(html.table(frame, caption, 3))
    return parts


def _diebold_mariano(evidence: Evidence, name: str) -> dict[str, list[str]]:
    """Columns of p-values of the model against another forecast; dashes where there are too few sessions to say."""
    if evidence.anchors.session.nunique() < MINIMUM_DIFFERENCES:
        return {"p that counts": ["–"] * len(evidence.horizons)}
    own, other = evidence.losses[MODEL], evidence.losses[name]
    lag = evidence.config.newey_west_lag
    pairs = compare_losses(own, other, evidence.anchors.session, evidence.horizon_bars, lag)
    return {
        "p sessions": [_p(pair[0].p_value) for pair in pairs],
        "p bars": [_p(pair[1].p_value) for pair in pairs],
        "p that counts": [_p(larger_p(pair)) for pair in pairs],
    }


def _calibrated_rows(evidence: Evidence) -> list[str]:
    """Coverage errors of the raw, the offline and the online forecast, and what calibration did to the score."""
    names = [level_name(tau) for tau in evidence.levels]
    frame = pd.DataFrame(columns=[*names, "outside the widened band", "weighted interval score against raw, %"])
    for row in evidence.model_rows:
        anchors = dataclasses.replace(evidence.anchors, quantiles=evidence.forecasts[row])
        check = coverage_check(
            anchors, evidence.anchors.quantiles, evidence.levels, evidence.horizons, evidence.resamples,
            evidence.config.confidence,
        )  # fmt: skip
        cells = [name for h, one in check.items() if h != MEAN for name in one["outside"]]
        outside = f"{len(cells)} of {len(names) * len(evidence.horizons)}"
        errors = [f"{100 * check[MEAN]['error'][name]:+.2f}" for name in names]
        frame.loc[row] = [*errors, outside, f"{100 * check[MEAN]['wis_over_raw']:+.2f}"]
    caption = (
        "Raw, offline (conformal) and online calibration: share of outcomes at or below each quantile less its level, "
        "points, mean over horizons; and how many levels of single horizons lie outside the band of the bootstrap over "
        "sessions, widened by 1 point"
    )
    return [html.table(_titled(frame), caption)]


def _calibration(evidence: Evidence) -> list[str]:
    anchors, levels, horizons = evidence.anchors, evidence.levels, evidence.horizons
    hits = metrics.below(anchors.quantiles, anchors.targets, levels)
    tests = all_coverage_tests(
        hits, anchors.quantiles, evidence.positions, levels, evidence.horizon_bars, evidence.config.phase_lag
    )
    names = [level_name(tau) for tau in levels]
    coverage = pd.DataFrame([[100 * t.coverage for t in row] for row in tests], index=list(horizons), columns=names)
    parts = [*_calibrated_rows(evidence), html.table(coverage, "Outcomes at or below each raw quantile, %", 1)]
    for field, caption in (("kupiec", "Kupiec"), ("christoffersen", "Christoffersen"), ("dynamic_quantile", "DQ")):
        frame = pd.DataFrame(
            [[_p(getattr(t, field)) for t in row] for row in tests], index=list(horizons), columns=names
        )
        parts.append(html.table(frame, f"{caption} test, p-values (every h-th anchor, phases combined)", 3))
    size = pd.DataFrame([[int(t.effective_n) for t in row] for row in tests], index=list(horizons), columns=names)
    parts.append(html.table(size, "Effective number of independent outcomes"))
    reliability = figures.reliability_diagram(anchors, levels, horizons, evidence.resamples, evidence.config.confidence)
    return [
        *parts,
        html.picture(reliability, _RELIABILITY),
        html.picture(figures.pit_histogram(anchors, levels, horizons), _PIT),
        html.picture(figures.coverage_over_time(anchors, levels, horizons, metrics.main_interval(levels)), _COVERAGE),
    ]


def _failures(evidence: Evidence, by_group: dict[str, pd.DataFrame]) -> list[str]:
    forecasts = {name: evidence.forecasts[name] for name in dict.fromkeys(("constants", evidence.reference, MODEL))}
    parts = [html.table(frame, f"By {name}, mean over horizons") for name, frame in by_group.items()]
    first = evidence.horizons[0]
    anchors = evidence.anchors
    drawn = figures.pinball_by_time_of_day(forecasts, anchors.targets, anchors.ts, evidence.levels, 0, first)
    scale = figures.scale_against_realised(anchors, evidence.horizons)
    return [*parts, _worst_sessions(evidence), html.picture(drawn, _LOSS), html.picture(scale, _SCALE)]


def _group_tables(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """What the model is worth in each part of the session, third of volatility, and weekday."""
    anchors, reference = evidence.anchors, evidence.reference
    names = dict.fromkeys(("constants", reference, *evidence.model_rows))
    forecasts = {name: evidence.forecasts[name] for name in names}
    main = metrics.main_interval(evidence.levels)
    low, high = metrics.interval(forecasts[reference], evidence.levels, main)
    splits = {
        "part of the session (Chicago time)": groups.session_part(anchors.ts),
        "volatility when the forecast was made": groups.volatility_tercile((high - low)[:, 0]),
        "weekday": groups.weekday(anchors.session),
    }
    tables = {}
    for name, group in splits.items():
        table = score_by_group(forecasts, anchors.targets, group, evidence.levels, evidence.horizons)
        means = table[table["horizon"] == MEAN].pivot(index="group", columns="forecast")
        own = means.xs(MODEL, axis=1, level="forecast")
        over_reference = metrics.skill(own["mean_pinball"], means["mean_pinball"][reference])
        columns = {
            "outcomes": own["n"].astype(int),
            "skill over constants, %": 100 * own["skill_constants"],
            f"skill over {reference.replace('_', ' ')}, %": 100 * over_reference,
            f"in the {main:g} % interval, %": 100 * own[f"picp_{main:g}"],
        } | {f"the same, {row.split('_')[1]}": 100 * means[f"picp_{main:g}"][row] for row in evidence.model_rows[1:]}
        tables[name] = pd.DataFrame(columns).loc[sorted(set(group), key=_group_order)]
    return tables


def _group_order(name: str) -> int:
    order = [*dict.fromkeys(part[0] for part in groups.SESSION_PARTS), *groups.TERCILES, *groups.WEEKDAYS]
    return order.index(name)


def _worst_sessions(evidence: Evidence, count: int = 5) -> str:
    own, other = (session_sums(evidence.losses[name], evidence.anchors.session) for name in (MODEL, evidence.reference))
    share = (own - other).sum(axis=1) / other.sum()
    dates = np.unique(evidence.anchors.session.to_numpy())
    worst = np.argsort(share)[::-1][:count]
    frame = pd.DataFrame(
        {"loss added, % of all": 100 * share[worst], "loss of the model, 1e-4": 1e4 * own.sum(axis=1)[worst]},
        index=[str(pd.Timestamp(dates[i]).date()) for i in worst],
    )
    caption = f"Sessions in which the model lost most against {evidence.reference.replace('_', ' ')}"
    return html.table(frame, caption, 3)


def _origin(evidence: Evidence) -> list[str]:
    metadata, train = evidence.metadata, evidence.features["ts"].iloc[evidence.train]
    rows = {
        "train anchors": f"{len(train):,}, {train.iloc[0]:%Y-%m-%d} to {train.iloc[-1]:%Y-%m-%d}",
        "checkpoint": metadata.fingerprint,
        "data": metadata.data.get("fingerprint", ""),
        "epoch": metadata.epoch,
        "model": ", ".join(f"{key} {value}" for key, value in metadata.model.items()),
        "scale": ", ".join(f"{k} {v}" for k, v in (metadata.scale.get("config") or {}).items()),
        "training": ", ".join(f"{key} {value}" for key, value in metadata.train.items()),
        "version": metadata.version,
    }
    frame = pd.DataFrame({"value": [str(value) for value in rows.values()]}, index=list(rows))
    parts = [html.table(frame, "Origin of the model")]
    if evidence.history:
        parts.append(html.picture(figures.training_curves(evidence.history), _TRAINING))
    return parts


def _titled(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rename(index=lambda name: str(name).replace("_", " "))


def _p(value: float) -> str:
    return "–" if np.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
