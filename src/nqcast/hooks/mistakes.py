"""Natural mistakes end in one line with the command that cures them, before anything runs."""

import os
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from kedro.config import MissingConfigException
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol, DatasetError, MemoryDataset
from kedro.pipeline import Pipeline

from nqcast.fields import did_you_mean
from nqcast.redaction import without_secrets
from nqcast.stopping import RunEndedError
from nqcast.storage.errors import StorageError
from nqcast.storage.place import place


class NotReadyError(ValueError):
    """A run lacks what another one makes."""


class MistakesHook:
    """Asks before the first node whether the run can work at all."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Refuse a run that lacks what another one makes.

        Raises:
            NotReadyError: an input that another pipeline makes has not been made, or a node that this run leaves out
                makes it in memory alone.
        """
        unkept = sorted(name for name in pipeline.inputs() if _is_unkept(name, catalog))
        if unkept:
            begin = ",".join(sorted(_beginning(unkept, catalog)))
            raise NotReadyError(
                f"expected {' and '.join(unkept)}, found a run that begins behind what makes it and keeps it in memory "
                f"alone: begin with --from-nodes {begin}; a finished training is read back"
            )
        missing = [name for name in sorted(pipeline.inputs()) if is_missing(name, catalog)]
        roads = {name: road for name in missing if (road := road_to(name, catalog))}
        if not roads:
            return
        name = max(roads, key=lambda name: len(roads[name]))  # the longest road makes the others on its way
        env, bars = run_params.get("env"), (run_params.get("runtime_params") or {}).get("bars")
        options = [f"--env {env}"] * bool(env) + [f"--pipelines {','.join(roads[name])}"]
        options += [f"--params {shlex.quote(f'bars={bars}')}"] * bool(bars and "ingest" in roads[name])
        command = " ".join(["kedro run", *options])
        raise NotReadyError(f"expected {name.removeprefix('last_')}, found none so far: `{command}` makes it")


def _is_unkept(entry: str, catalog: CatalogProtocol) -> bool:
    """Whether an entry is in memory alone, empty, and made by a node."""
    made = any(entry in one.all_outputs() for one in pipelines.values())
    return made and isinstance(catalog.get(entry), MemoryDataset | None) and not catalog.exists(entry)


def _beginning(entries: Iterable[str], catalog: CatalogProtocol) -> set[str]:
    """The names of the nodes with which a run must begin that makes these entries from what is kept."""
    found: set[str] = set()
    for node in {node for one in pipelines.values() for node in one.nodes if {*node.outputs} & {*entries}}:
        before = [name for name in node.inputs if _is_unkept(name, catalog)]
        found |= _beginning(before, catalog) if before else {node.name}
    return found


def is_missing(entry: str, catalog: CatalogProtocol) -> bool:
    """Whether nothing has been saved in an entry; a damaged one is there, and its own dataset says what is wrong."""
    return not catalog.exists(entry) and not place(str(getattr(catalog[entry], "_filepath", ""))).exists()


def road_to(entry: str, catalog: CatalogProtocol) -> list[str]:
    """The pipelines to run for an entry, those first that make what it lacks; empty where no pipeline makes it."""
    made = entry.removeprefix("last_")  # an entry under the name by which a refit reads what it will replace
    maker = next((name for name, one in pipelines.items() if name != "__default__" and made in one.all_outputs()), None)
    if maker is None:
        return []
    before = [name for name in sorted(pipelines[maker].inputs()) if name in catalog and is_missing(name, catalog)]
    return list(dict.fromkeys([*(step for name in before for step in road_to(name, catalog)), maker]))


def show_bad_input_in_one_line() -> None:
    """Let bad input and a full disk end in their message: they are no crash to debug.

    NQCAST_TRACEBACK=1 keeps the traceback; any other exception keeps it always.
    """
    if os.environ.get("NQCAST_TRACEBACK") or getattr(sys.excepthook, "is_short", False):
        return
    previous = sys.excepthook
    bad_input = (ValueError, DatasetError, StorageError, RunEndedError, MissingConfigException)

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, bad_input):
            text = without_secrets(in_words(error), sys.argv)
            text = f"error: {text}"
            text = _wrapped(text) if sys.stderr.isatty() else text
            sys.stderr.write(f"\n{text}\n(NQCAST_TRACEBACK=1 shows where it was raised)\n")
        else:
            previous(kind, error, trace)

    show.is_short = True  # type: ignore[attr-defined]
    sys.excepthook = show


def _wrapped(text: str) -> str:
    """The text broken between words, never in a path or a command's option, where a terminal would break anywhere."""
    width = max(shutil.get_terminal_size().columns - 1, 40)
    parts = (textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) for line in text.splitlines())
    return "\n".join("\n".join(part) for part in parts)


def in_words(error: BaseException) -> str:
    """The message; Kedro's own on environments and pipelines with what there is to choose from."""
    text = str(error)
    if isinstance(error, MissingConfigException) and (found := re.search(r"valid directory: (\S+)", text)):
        return _no_environment(Path(found[1]))
    if found := re.search(r"Failed to find the pipeline named '([^']*)'", text):
        names = sorted(set(pipelines) - {"__default__"})
        return f"expected the name of a pipeline, found {found[1]!r}: {did_you_mean(found[1], names, '--pipelines ')}"
    if found := re.search(r"does not contain nodes named \['([^']*)'", text):
        names = sorted({node.name for one in pipelines.values() for node in one.nodes})
        return f"expected the name of a node, found {found[1]!r}: {did_you_mean(found[1], names)}"
    return text


def _no_environment(folder: Path) -> str:
    if not (folder.parent / "base").is_dir():
        return (
            f"expected the configuration of the project, found no folder {folder.parent}: run the command in the "
            "project's folder, or name the configuration with --conf-source FOLDER"
        )
    names = sorted(one.name for one in folder.parent.iterdir() if one.is_dir() and one.name != "local")
    return f"expected an environment, found {folder.name!r}: {did_you_mean(folder.name, names, '--env ')}"
