"""The report's section on when the model fails: hours, volatility, weekdays, and its worst sessions."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nqcast.evaluation import metrics
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
