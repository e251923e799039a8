"""The report's section on when the model fails: hours, volatility, weekdays, and its worst sessions."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from nqcast.evaluation import metrics
from nqcast.evaluation.comparison import MODEL
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
from nqcast.evaluation.significance import session_sums
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
    forecasts = {name: evidence.forecasts[name] for name in dict.fromkeys(("constants", evidence.reference, MODEL))}
    parts = [html.table(frame, f"By {name}, mean over horizons") for name, frame in by_group.items()]
    first = evidence.horizons[0]
    anchors = evidence.anchors
    drawn = figures.pinball_by_time_of_day(forecasts, anchors.targets, anchors.ts, evidence.levels, 0, first)
    scale = figures.scale_against_realised(anchors, evidence.horizons)
    drawings = [
        html.picture(figures.with_source(drawn, evidence.source), _LOSS.format(first=first)),
        html.picture(figures.with_source(scale, evidence.source), _SCALE),
    ]
    return [*parts, _worst_sessions(evidence), *drawings]


def group_tables(evidence: Evidence, judged: Judged) -> dict[str, pd.DataFrame]:
    """What the model is worth in each part of the session, third of volatility, and weekday."""
    anchors, reference = evidence.anchors, evidence.reference
    names = dict.fromkeys(("constants", reference, *evidence.model_rows))
    forecasts = {name: evidence.forecasts[name] for name in names}
    main = metrics.main_interval(evidence.levels)
    groupings = {
        "part of the session (Chicago time)": session_part(anchors.ts),
        "volatility when the forecast was made": volatility_tercile(spread(forecasts[reference])),
        "weekday": weekday(anchors.session),
    }
    tables = {}
    for name, group in groupings.items():
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
        frame = pd.DataFrame(columns).loc[sorted(set(group), key=_group_order)]
        found = [judged["groups"][one] for one in frame.index if one in judged["groups"]]
        if len(found) == len(frame):  # weekdays are not among them
            frame[f"skill over {reference.replace('_', ' ')}, %"] = [100 * one["gain"] for one in found]
            frame.insert(3, "its interval", [f"{100 * one['low']:+.2f} … {100 * one['high']:+.2f}" for one in found])
        tables[name] = frame
    return tables


def _group_order(name: str) -> int:
    order = [*PARTS, *TERCILES, *WEEKDAYS]
    return order.index(name)


def _worst_sessions(evidence: Evidence) -> str:
    own, other = (session_sums(evidence.losses[name], evidence.anchors.session) for name in (MODEL, evidence.reference))
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
