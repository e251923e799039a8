"""What a tuning found: a table to read, and the best parameters as a file that `kedro run --config` takes."""

import json
import textwrap
from collections import Counter
from collections.abc import Mapping
from typing import NotRequired, TypedDict

import yaml

from nqcast.experiments.search_space import Value, by_group

SHOWN = 10  # rows of the table

Parameters = dict[str, Value]


class Row(TypedDict):
    """One trial; value is the least objective of its epochs, state one of complete, pruned and failed."""

    trial: int
    state: str
    value: float | None
    epochs: int
    seconds: float | None
    configured: bool
    parameters: Parameters
    error: NotRequired[str]


class Found(TypedDict):
    """What a study found: configured is the objective of the configured values, None where they were not tried."""

    study: str
    objective: str
    anchors: str
    trials: list[Row]
    best: Row
    configured: float | None
    text: str


def render_tuning(found: Found) -> str:
    """The best trials, the configured values among them, and what to run with the best; 80 columns but for commands."""
    trials, best, objective = found["trials"], found["best"], found["objective"]
    counts = Counter(_ended(row) for row in trials)
    counted = ", ".join(f"{counts[end]} {end}" for end in ("complete", "pruned", "failed", "cut short") if counts[end])
    tried = counts["complete"] + counts["pruned"]
    lines = [
        f"Tuning {found['study']}: {len(trials)} trials ({counted})",
        *textwrap.wrap(f"{objective} on {found['anchors']}; gain is over the configured values, %", 79),
        "",
        f"{'trial':>5}  {'state':<9}{objective:>16}{'gain':>8}{'epochs':>7}",
        *(line for row in _shown(trials) for line in _lines(row, found["configured"])),
        "",
        *textwrap.wrap(
            f"The best of {tried} is the best by luck too: its {objective} here is no estimate of what comes.", 79
        ),
        "To train with it:",
        "kedro run --pipelines train --params " + as_params(best["parameters"]),
    ]
    return "\n".join(lines)


def _ended(row: Row) -> str:
    """A trial that a stop or a kill cut short has failed without an error; another goes on in its place."""
    return "cut short" if row["state"] == "failed" and not row.get("error") else row["state"]


def _lines(row: Row, configured: float | None) -> list[str]:
    """A trial's figures, and below them its parameters."""
    value = row["value"] or 0.0
    gain = f"{100 * (1 - value / configured):+.2f}" if configured else "–"
    figures = f"{row['trial']:>5}  {row['state']:<9}{value:>16.6g}{gain:>8}{row['epochs']:>7}"
    parameters = ", ".join(f"{name}={short(value)}" for name, value in row["parameters"].items())
    return [
        figures + "  configured" * row["configured"],
        *textwrap.wrap(parameters, 79, initial_indent=" " * 7, subsequent_indent=" " * 7, break_on_hyphens=False),
    ]


def _shown(trials: list[Row]) -> list[Row]:
    """The best trials first, whole ones before pruned ones, with the configured values wherever they stand."""
    scored = [row for row in trials if row["value"] is not None and row["state"] != "failed"]
    ranked = sorted(scored, key=lambda row: (row["state"] != "complete", row["value"] or 0.0))
    return ranked[:SHOWN] + [row for row in ranked[SHOWN:] if row["configured"]]


def run_config(found: Found, environment: str) -> str:
    """YAML for `kedro run --pipelines train --config FILE`: the best parameters alone, and where they were tuned."""
    best, configured = found["best"], found["configured"]
    before = "" if configured is None else f"; the configured values: {configured:.6g}"
    lines = [
        f"# Trial {best['trial']} of study {found['study']}: {found['objective']} {best['value']:.6g}{before}",
        f"# on {found['anchors']}.",
        "# Use it:      kedro run --pipelines train --config THIS_FILE",
        "# Make it stay: copy what stands below `params:` into conf/local/parameters_tuned.yml",
    ]
    run = {"env": environment, "params": by_group(best["parameters"])}
    changes = yaml.safe_dump({"run": run}, sort_keys=False, default_flow_style=None)
    return "\n".join(lines) + "\n" + changes


def as_params(parameters: Mapping[str, Value]) -> str:
    """The parameters as `--params` takes them; lists, which it does not take, are left out."""
    return ",".join(f"{name}={_yaml(v)}" for name, v in parameters.items() if not isinstance(v, list | tuple))


def short(value: Value) -> str:
    """A value in a table."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _yaml(value: Value) -> str:
    """JSON is YAML, but for small numbers, which YAML 1.1 takes for numbers only with a point: 1.0e-05."""
    text = json.dumps(value)
    return f"{text.replace('e', '.0e', 1)}" if isinstance(value, float) and "e" in text and "." not in text else text
