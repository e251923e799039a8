"""What a run shows on its terminal: what is being done and since when; at its end its results, and where they are.

The exit status is what the results ask for.
"""

import datetime as dt
import io
import logging
import os
import platform
import re
import sys
import textwrap
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from tqdm import tqdm

from nqcast.constants import SIMULATED
from nqcast.stopping import RunAlarmed
from nqcast.storage.place import Place, place
from nqcast.tracking.facts import git


class AboveTheBars(logging.Handler):
    """Hands each record to another handler, whose lines so stand above the bars and not in them."""

    def __init__(self, shown: logging.Handler) -> None:
        super().__init__(shown.level)
        self.shown = shown

    def emit(self, record: logging.LogRecord) -> None:
        """Take the bars away, write, and draw them again."""
        with tqdm.external_write_mode():
            self.shown.handle(record)


class ProgressHook:
    """Names the node at work and when it began; what a node counts (epochs, folds, trials) stands below it.

    Nodes are no measure: one trains for an hour, five are done in a second.
    """

    def __init__(self) -> None:
        self._bar: tqdm | None = None
        self._shown = ""
        self._handlers: list[logging.Handler] = []

    @hook_impl
    def before_pipeline_run(self, pipeline: Pipeline) -> None:
        """Draw the line; `disable=None` keeps it quiet where the output is no terminal."""
        self._close()
        self._bar = tqdm(total=len(pipeline.nodes), bar_format="{desc}", disable=None, leave=False)
        if not self._bar.disable:
            self._handlers = logging.root.handlers
            logging.root.handlers = [AboveTheBars(handler) for handler in self._handlers]

    @hook_impl
    def before_dataset_loaded(self, node: Node) -> None:
        """Loading belongs to the node: the simulated market is drawn here."""
        self._show(node)

    @hook_impl
    def before_node_run(self, node: Node) -> None:
        self._show(node)

    @hook_impl(tryfirst=True)
    def after_pipeline_run(self) -> None:
        self._close()

    @hook_impl(tryfirst=True)
    def on_pipeline_error(self) -> None:
        self._close()

    def _show(self, node: Node) -> None:
        name = node.name.partition(":")[0].replace("_", " ")
        if self._bar is not None and name != self._shown:
            self._shown = name
            # drawn once for a node, so no clock that would stand still
            self._bar.set_description_str(f"{name}, since {time.strftime('%H:%M:%S')}")

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
        if self._handlers:
            logging.root.handlers, self._handlers = self._handlers, []


@dataclass
class _Shown:
    """What an entry wants to be read, and the node that made it."""

    entry: str
    node: str
    text: str
    headline: Sequence[str]


class SummaryHook:
    """Ends a run with its results to read, where they were written, and what it comes to in a few lines."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._saved: list[str] = []
        self._shown: list[_Shown] = []
        self._source, self._began = "", time.perf_counter()

    @hook_impl
    def after_catalog_created(self, catalog: DataCatalog) -> None:
        """Put the circumstances of the run beside its data: the report names them."""
        catalog["run_details"].save(run_details(self._environment, Path.cwd()))

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Remember the environment; from here on whatever is printed fits the terminal."""
        print_what_the_terminal_can()
        self._environment = str(context.env or "base")

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Start an empty list: one process may go through several runs."""
        self._start()

    @hook_impl
    def after_dataset_loaded(self, data: Any) -> None:
        """Remember where the bars come from."""
        self._source = _source_of(data) or self._source

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any, node: Node) -> None:
        """Remember what was written; an entry that carries a `text` wants to be read."""
        self._source = _source_of(data) or self._source
        if dataset_name not in self._saved:
            self._saved.append(dataset_name)
        if isinstance(data, dict) and isinstance(data.get("text"), str):
            self._shown.append(_Shown(dataset_name, node.name, data["text"], data.get("headline", ())))

    @hook_impl(trylast=True)
    def after_pipeline_run(self, catalog: DataCatalog, pipeline: Pipeline, run_params: dict[str, Any]) -> None:
        """Print the texts of what the run was for, what was written, and the last lines: nothing is said after them."""
        last = self._last(pipeline)
        if not self._saved and run_params.get("only_missing_outputs"):
            tell("Nothing to do: every output is there. Leave --only-missing-outputs out to make them anew.")
            return
        written = {name: path for name in self._saved if (path := _path_of(catalog, name))}
        project = Path(run_params["project_path"])
        lines = [line for one in last for line in ("", *self._read(one))]
        lines += ["", *where_written(written, project)] if written else []
        gone = pipeline.outputs() & {*self._saved} - written.keys() - {one.entry for one in self._shown}
        lines += [f"made, and gone with this run: {', '.join(sorted(gone))}"] if gone else []
        lines += ["", *(line for one in last for line in one.headline), self._took()]
        page = next((written[name] for name in _TO_OPEN if name in written), None)
        lines += [] if page is None else [f"open {_relative(page, project)}"]
        tell("\n".join(lines))

    def _read(self, shown: _Shown) -> list[str]:
        """The lines of a text that its headline will not say again; commands name the environment of this run."""
        command, named = "kedro run --pipelines", f"kedro run --env {self._environment} --pipelines"
        text = shown.text if self._environment == "base" else shown.text.replace(command, named)
        return [line for line in text.splitlines() if line not in shown.headline]

    def _last(self, pipeline: Pipeline) -> list[_Shown]:
        """The texts that no later text of the same run builds upon: those before them stand in their files."""
        behind = {
            earlier.name
            for one in self._shown
            for earlier in pipeline.to_nodes(one.node).nodes
            if earlier.name != one.node
        }
        return [one for one in self._shown if one.node not in behind]

    def _took(self) -> str:
        seconds = time.perf_counter() - self._began
        took = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
        the = "the " * self._source.startswith(SIMULATED)
        return f"Took {took}" + (f", on {the}{self._source}." if self._source else ".")


_TO_OPEN = (
    *("report", "forecast_page", "forecast_chart", "monitor_chart", "backtest_chart", "walk_forward_backtest_chart"),
    *("tuning_chart", "data_report"),
)


def run_details(environment: str, project: Path) -> dict[str, str]:
    """Date (UTC), environment, commit and versions of a run, as its report shows them."""
    return {
        "Made": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Environment": f"{environment}; Python {platform.python_version()} on {platform.machine()}",
        "Versions": ", ".join(f"{name} {version(name)}" for name in ("nqcast", "torch", "kedro")),
        "Git commit": git(project, "describe", "--always", "--dirty", "--exclude=*") or "not in a checkout",
    }


def where_written(written: Mapping[str, Place], project: Path) -> list[str]:
    """The names of what was written, folder by folder, at most 80 columns wide."""
    folders: dict[Place, list[str]] = {}
    for name, path in written.items():
        folders.setdefault(_layer(path), []).append(name)
    lines = ["what this run wrote, by the names of the catalog:"]
    for folder, names in folders.items():
        lines += textwrap.wrap(
            f"{_relative(folder, project)}: {', '.join(names)}", 79,
            initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False,
        )  # fmt: skip
    return lines


def _layer(path: Place) -> Place:
    """The folder of a data layer (04_feature …) that holds an artifact, whatever versions lie between."""
    return next((parent for parent in path.parents if re.match(r"\d\d_", parent.name)), path.parent)


def _source_of(data: Any) -> str:
    return str(data.attrs.get("source", "")) if isinstance(getattr(data, "attrs", None), dict) else ""


class AlarmHook:
    """Gives a complete run the exit status that its result asks for.

    An entry that is saved with an `exit_status` other than 0 wants to be noticed by whoever started the run: a
    scheduler reads no tables. Everything is written, shown and tracked first.
    """

    def __init__(self) -> None:
        self._status = 0

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Start without an alarm: one process may go through several runs."""
        self._status = 0

    @hook_impl
    def after_dataset_saved(self, data: Any) -> None:
        """Remember the gravest status that was saved."""
        status = data.get("exit_status") if isinstance(data, dict) else None
        if isinstance(status, int):
            self._status = max(self._status, status)

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Raise RunAlarmed once the run is over and its summary printed."""
        if self._status:
            raise RunAlarmed(self._status)


def _path_of(catalog: DataCatalog, name: str) -> Place | None:
    dataset = catalog.get(name)
    filepath = getattr(dataset, "_filepath", None)
    if dataset is None or filepath is None:
        return None
    resolve = getattr(dataset, "_get_load_path", None)
    return place(str(resolve() if resolve else filepath))


def _relative(path: Place, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def print_what_the_terminal_can() -> None:
    """Let a question mark stand for a character that the terminal does not know, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # no notebook's
            stream.reconfigure(errors="replace")


def tell(text: str) -> None:
    """Print `text`. A terminal that has gone, or a full disk behind it, costs the text alone."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it leaves
