"""The report's section on what the network uses."""

from collections.abc import Sequence

import pandas as pd

from nqcast.report import figures, html
from nqcast.storage.json_values import Json

HEADING = "What does the network use"

_IMPORTANCE = (
    "Rise of the loss when one feature's whole window is another anchor's from the same part of the session; filled "
    "points have a session-bootstrap interval that excludes zero."
)
_VARIABLES = (
    "Left: gate values of the variable blocks, how much of what the other features say a feature lets in. Middle: "
    "weight of each feature in the vector from which all horizons are forecast. Right: which feature (row) looks at "
    "which (column)."
)
_TIME = (
    "Weight of past bars by their age, over what equal weights would give: in the pool over time, and traced back "
    "through the time blocks (attention rollout), which mix patches before they are pooled."
)
_MEANS = (
    "Read permutation importance first. It is measured on the loss, and says what the network adds with a feature to "
    "what the hour tells; the scale beneath keeps its own inputs, so a feature that SeasonalHAR has used up may show "
    "nothing here. Features that say the same thing stand in for each other and look small. Small figures are normal: "
    "the network corrects a good scale."
)
_MEANS_NOT = (
    "Gates and attention are amounts of mixing, not effects: a large weight on what does not matter changes no "
    "forecast. They have no horizon, because one vector serves all of them. Nothing here says what moves the market."
)

_NO_TOKENS = "This network has no attention over the window (model.tokens=false), so there are no weights to show."


def explanation_section(explanation: Json, horizons: Sequence[str], source: str = "") -> list[str]:
    """Fragments of the section; empty where the network was not looked into (`evaluate.explain_anchors=0`)."""
    anchors = explanation["anchors"]
    if not anchors["count"]:
        return []
    where = f"{anchors['count']:,} validation anchors, evenly from {anchors['first'][:10]} to {anchors['last'][:10]}"
    importance = explanation["importance"]
    order = sorted(importance, key=lambda name: -importance[name]["mean"]["rise"])
    rises = {h: [100 * importance[name][h]["rise"] for name in order] for h in (*horizons, "mean")}
    measured = [
        html.paragraph(f"Looked at on {where}; the test split is not touched."),
        html.paragraph(_MEANS),
        html.picture(figures.with_source(figures.importance_by_feature(importance, horizons), source), _IMPORTANCE),
        html.table(pd.DataFrame(rises, index=order), "Rise of the loss when a feature is permuted, %", 3),
    ]
    if "time" not in explanation:
        return [*measured, html.paragraph(_NO_TOKENS)]
    variables = figures.variables_inside(
        explanation["gates"], explanation["variable_pool"], explanation["variable_attention"]
    )
    return [
        *measured,
        html.paragraph(_MEANS_NOT),
        html.picture(figures.with_source(variables, source), _VARIABLES),
        html.picture(figures.with_source(figures.attention_over_time(explanation["time"]), source), _TIME),
    ]
