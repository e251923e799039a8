"""The checks of monitoring as plain text, at most 80 columns."""

import textwrap
from collections.abc import Mapping
from typing import Any

import pandas as pd

MOST_LINES = 5  # of each family, the nearest to their limits


def render(checks: pd.DataFrame, report: Mapping[str, Any]) -> str:
    """What was judged, the checks of each family that come nearest to a limit, and what is crossed."""
    span = report["sessions"]
    heading = (
        f"Monitoring of checkpoint {report['checkpoint']}: {span['count']} sessions, {span['first']} to "
        f"{span['last']}, against training and validation until {report['trained_until']}. Data of the same "
        f"distribution would cross any of the {report['checks']} limits in {100 * report['false_alarms']:g} % of such "
        "runs."
    )
    parts = [textwrap.fill(heading, 79)]
    titles = {
        "feature drift": "Feature drift, stability index (0: as in training)",
        "coverage": "Coverage less level of each calibrated quantile, points",
        "skill": "Skill, %, against that of validation",
    }
    for family, title in titles.items():
        factor = 1.0 if family == "feature drift" else 100.0
        rows = checks[checks["family"] == family]
        nearest = rows.loc[closeness(rows).sort_values(ascending=False).index[:MOST_LINES]]
        count = int(rows["crossed"].sum())
        parts.append(f"{title}: {count} of {len(rows)} crossed")
        parts[-1] += "".join("\n" + _line(row, factor) for row in nearest.to_dict("records"))
    return "\n\n".join([*parts, _conclusion(report)])


def closeness(checks: pd.DataFrame) -> pd.Series:
    """How far each check has gone from what is expected to its limit: above 1 it is crossed."""
    up, down = checks["high"] - checks["expected"], checks["expected"] - checks["low"]
    gone = checks["value"] - checks["expected"]
    return pd.concat([gone / up, -gone / down], axis=1).max(axis=1)


def _line(row: Mapping[Any, Any], factor: float) -> str:
    low, high = (f"{factor * row[end]:.3f}" for end in ("low", "high"))
    if row["low"] == -float("inf"):
        limits = f"limit {high}"
    elif row["high"] == float("inf"):
        limits = f"limit {low}, expected {factor * row['expected']:.3f}"
    else:
        limits = f"limits {low} to {high}"
    mark = "CROSSED" if row["crossed"] else ""
    name = f"{row['name']} {row['horizon']}".strip()
    return f"  {name:<22}{factor * row['value']:>9.3f}   {limits:<36}{mark}".rstrip()


def _conclusion(report: Mapping[str, Any]) -> str:
    crossed = report["crossed"]
    if not crossed:
        return "No limit is crossed."
    named = ", ".join(crossed[:8]) + (f" and {len(crossed) - 8} more" if len(crossed) > 8 else "")
    return textwrap.fill(
        f"{len(crossed)} limit{'s are' if len(crossed) > 1 else ' is'} crossed: {named}. Look at the bars first "
        f"(data_report), then train again on newer ones. The run ends with status {report['exit_status']}.",
        79,
    )
