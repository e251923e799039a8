"""The report's sections that session losses fill: how sure a gain is, and when the model fails."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nqcast.evaluation import metrics
from nqcast.evaluation.comparison import Gains, Scores
from nqcast.evaluation.frames import MODEL
from nqcast.evaluation.judged import Judged
from nqcast.evaluation.scores import MEAN, score_by_group
from nqcast.evaluation.session_losses import (
    PARTS,
    TERCILES,
    WEEKDAYS,
    session_part,
    spread,
    volatility_tercile,
    weekday,
)
from nqcast.evaluation.significance import Interval
from nqcast.report import figures, html
from nqcast.report.evidence import Evidence

_LOSS = "Mean pinball loss through the day, {first} ahead."
_SCALE = "Mean absolute return against the forecast scale in twenty equal groups; on the line when the scale is right."


def weakest(by_group: Mapping[str, pd.DataFrame]) -> str:
    """The part of each grouping in which skill over constants is least, in one sentence."""
    skills = [frame["skill over constants, %"] for frame in by_group.values()]
    listed = ", ".join(f"{skill.idxmin()} ({skill.min():.1f} %)" for skill in skills)
    return f"When does it fail? Skill over constants is least in: {listed}."


def failure_section(evidence: Evidence, by_group: dict[str, pd.DataFrame]) -> list[str]:
    """The section on where the model fails, as fragments of HTML."""
    names, first = dict.fromkeys(("constants", evidence.reference, MODEL)), evidence.anchors.horizons[0]
    losses = {name: evidence.losses[name][:, 0] for name in names}
    drawn = figures.pinball_by_time_of_day(losses, evidence.anchors.ts, first)
    return [
        *(html.table(frame, f"By {name}, mean over horizons") for name, frame in by_group.items()),
        _worst_sessions(evidence),
        evidence.picture(drawn, _LOSS.format(first=first)),
        evidence.picture(figures.scale_against_realised(evidence.anchors), _SCALE),
    ]


def group_tables(evidence: Evidence, judged: Judged) -> dict[str, pd.DataFrame]:
    """What the model is worth in each part of the session, third of volatility, and weekday."""
    anchors, spread_N = evidence.anchors, spread(evidence.forecasts[evidence.reference])
    groupings = {
        "part of the session (Chicago time)": (session_part(anchors.ts), PARTS),
        "volatility when the forecast was made": (volatility_tercile(spread_N), TERCILES),
        "weekday": (weekday(anchors.session), WEEKDAYS),
    }
    return {name: _group_table(evidence, judged, *grouping) for name, grouping in groupings.items()}


def _group_table(
    evidence: Evidence, judged: Judged, group_N: NDArray[np.object_], order: Sequence[str]
) -> pd.DataFrame:
    """A row for each group, in this order."""
    reference, rows = evidence.reference, evidence.model_rows
    kept = {"constants": evidence.forecasts["constants"], reference: evidence.forecasts[reference], **rows}
    tables = score_by_group(kept, evidence.anchors, group_N)
    main = f"{metrics.main_interval(evidence.anchors.levels):g}"
    over, inside = f"skill over {reference.replace('_', ' ')}, %", f"in the {main} % interval, %"
    found: dict[str, dict[str, object]] = {}
    for group in filter(tables.__contains__, order):
        own, other = (tables[group][name][MEAN] for name in (MODEL, reference))
        judgement = judged["groups"].get(group)  # weekdays have none
        gain = metrics.skill(own["mean_pinball"], other["mean_pinball"]) if judgement is None else judgement["gain"]
        found[group] = {
            "outcomes": int(own["n"]),
            "skill over constants, %": 100 * own["skill_constants"],
            over: 100 * float(gain),
            **({} if judgement is None else {"its interval": _between(judgement)}),
            inside: 100 * own[f"picp_{main}"],
            **{f"the same, {row.split('_')[1]}": 100 * tables[group][row][MEAN][f"picp_{main}"] for row in [*rows][1:]},
        }
    return pd.DataFrame.from_dict(found, orient="index")


def _between(gain: Interval) -> str:
    return f"{100 * gain['low']:+.2f} … {100 * gain['high']:+.2f}"


def _worst_sessions(evidence: Evidence) -> str:
    own, other = (evidence.by_session[name] for name in (MODEL, evidence.reference))
    share = (own - other).sum(axis=1) / other.sum()
    dates = np.unique(evidence.anchors.session.to_numpy())
    worst = np.argsort(share)[::-1][:5]
    of_session = (own - other).sum(axis=1) / other.sum(axis=1)
    frame = pd.DataFrame(
        {"loss added, % of all sessions'": 100 * share[worst], "% of that session's": 100 * of_session[worst]},
        index=[str(pd.Timestamp(dates[i]).date()) for i in worst],
    )
    caption = f"Sessions in which the model lost most against {evidence.reference.replace('_', ' ')}"
    return html.table(frame, caption, 3)


_SESSIONS = "Gain over {}, session upon session, mean over horizons: a straight line is a gain that no single day made."


def sure_section(evidence: Evidence, scores: Scores) -> list[str]:
    """Gains over every other forecast, how likely they are by chance, and which sessions they come from."""
    judged, losses = scores["judged"], evidence.losses
    drawn = figures.gain_by_session(losses[MODEL], losses[evidence.reference], evidence.anchors.session)
    caption = _SESSIONS.format(evidence.reference.replace("_", " "))
    tested = any(one["p_value"] is not None for row in scores["gains"].values() for one in row.values())
    p_table = [_p_table(scores["gains"], judged)] if tested else []
    return [_gain_table(evidence), *p_table, *_session_tables(judged), evidence.picture(drawn, caption)]


def _gain_table(evidence: Evidence) -> str:
    gains = {name: evidence.skill(MODEL, name) for name in evidence.forecasts if name != MODEL}
    cells = {
        name: [
            f"{_points(v)}\n{_points(a)} … {_points(b)}" for v, a, b in zip(one.value, one.low, one.high, strict=True)
        ]
        for name, one in gains.items()
    }
    caption = (
        f"Gain of the model: its skill less the other's, points; below it the {evidence.config.confidence:.0%} "
        "session-bootstrap interval"
    )
    frame = pd.DataFrame.from_dict(cells, orient="index", columns=evidence.columns)
    return html.table(html.titled(frame), caption)


def _points(gain: float) -> str:
    """Three digits, so that a table of intervals is no wider than the page."""
    return f"{100 * gain:+.{2 if abs(gain) < 0.0995 else 1}f}"


def _p_table(gains: Gains, judged: Judged) -> str:
    corrected = judged["corrected_p"]
    cells = {
        name: {
            h: f"{html.p_value(one['p_value'])}\n{html.p_value(corrected.get(name, {}).get(h))}"
            for h, one in row.items()
        }
        for name, row in gains.items()
    }
    caption = (
        "Diebold–Mariano test of the same differences, p-values (the larger of sessions and bars); below it corrected "
        "for the number of horizons (Holm)"
    )
    return html.table(html.titled(pd.DataFrame.from_dict(cells, orient="index")), caption)


def _session_tables(judged: Judged) -> list[str]:
    """How many sessions a gain comes from, and which forecasts cannot be told from the best."""
    count, level = judged["n_sessions"], 1 - judged["confidence"]
    rows = {
        name: {
            "sessions won": f"{one[MEAN]['won']} of {one[MEAN]['sessions']}",
            "p of that": html.p_value(one[MEAN]["sign_p"]),
            "gain of the median session, %": 100 * one[MEAN]["median"],
            "trimmed gain, %": 100 * one[MEAN]["trimmed"],
        }
        for name, one in judged["sessions"].items()
    }
    caption = (
        f"The model's gain over each, session by session, mean over horizons, {count} sessions; % of the other's loss"
    )
    parts = [html.table(html.titled(pd.DataFrame.from_dict(rows, orient="index")), caption)]
    if not judged["confidence_set"]:
        return [*parts, html.paragraph(f"{count} sessions are too few for p-values and a model confidence set.")]
    sets = pd.DataFrame(judged["confidence_set"])
    caption = (
        f"Model confidence set, p-values: below {level:.2g} a forecast is worse than the best, others may be the best"
    )
    return [*parts, html.table(html.titled(sets), caption, 3, MODEL)]


def ceiling_table(judged: Judged) -> list[str]:
    """What an oracle would gain that knows the volatility to come, and how much of that the model takes."""
    rows = judged.get("ceiling", {})
    if not rows:
        return []
    cells = {
        f"perfect volatility over {judged['reference']}, % of its loss": [100 * one["gain"] for one in rows.values()],
        "the model's share of that, %": [100 * (np.nan if (s := one["share"]) is None else s) for one in rows.values()],
    }
    caption = "An oracle, which no forecast can be: scaling by the volatility that came"
    return [html.table(html.titled(pd.DataFrame.from_dict(cells, orient="index", columns=list(rows))), caption, 1)]


def coverage_by_part_table(judged: Judged) -> str:
    """Coverage less level of the raw and the calibrated rows in each part of the session."""
    rows = {
        f"{row}: {part}": {name: f"{100 * error:+.2f}" for name, error in levels.items()}
        for row, parts in judged["coverage_by_part"].items()
        for part, levels in parts.items()
    }
    caption = "The same by part of the session (Chicago time), every outcome counted once"
    return html.table(html.titled(pd.DataFrame.from_dict(rows, orient="index")), caption)
