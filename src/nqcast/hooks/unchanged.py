"""Bars and features that a run would make again, from the same files, code and parameters, are kept."""

import datetime as dt
import logging
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.io import CatalogProtocol, DatasetError
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import AbstractRunner, SequentialRunner
from pydantic import BaseModel

import nqcast
from nqcast.datasets.verified import VerifiedDataset
from nqcast.market.checks.rows import AFTER_NOW
from nqcast.storage.fingerprint import digest, fingerprint
from nqcast.tracking.facts import source_of, span

logger = logging.getLogger(__name__)

CHAINS = ("ingest", "features")
"""Pipelines that a run may leave out, in their order."""

LEDGER = "made_of"
"""The catalog's entry that says of each chain's newest outputs what they were made of."""


class KeepingSession(KedroSession):
    """Kedro's session, whose runs leave out what is unchanged: no hook can take a node out of a run, a runner can."""

    def run(self, pipeline_name: Any = None, pipeline_names: Any = None, tags: Any = None,
            runner: AbstractRunner | None = None, **options: Any) -> dict[str, Any]:  # fmt: skip
        """Run as Kedro does, with the runner that leaves out what is unchanged."""
        return super().run(pipeline_name, pipeline_names, tags, KeepingRunner(runner or SequentialRunner()), **options)


class KeepingRunner(AbstractRunner):
    """Another runner, which is handed the pipeline without the chains that are kept."""

    def __init__(self, runner: AbstractRunner) -> None:
        super().__init__()
        self._runner = runner

    def __str__(self) -> str:
        return str(self._runner)

    def run(self, pipeline: Pipeline, catalog: Any, hook_manager: Any = None, run_id: str | None = None,
            only_missing_outputs: bool = False) -> dict[str, Any]:  # fmt: skip
        """Run what is not kept; `--only-missing-outputs` makes a choice of its own, and then nothing is left out."""
        kept = Kept(pipeline, catalog)
        rest = pipeline if only_missing_outputs else kept.rest()
        if hook_manager is not None:
            for read in kept.not_read(rest):
                hook_manager.hook.after_dataset_loaded(**read)
            hook_manager.register(kept)
        try:
            return self._runner.run(rest, catalog, hook_manager, run_id, only_missing_outputs)
        finally:
            if hook_manager is not None:
                hook_manager.unregister(kept)

    def _get_executor(self, max_workers: int) -> Any:
        return self._runner._get_executor(max_workers)

    def _run(self, *args: Any, **options: Any) -> None:
        self._runner._run(*args, **options)


class Kept:
    """What the chains of a run are made of, asked before it and noted once their outputs are whole.

    A chain is kept where the files, parameters, code and libraries by which it would be made have the name that the
    ledger has for it, and its outputs, read and verified, are those that the ledger knows. Anything else makes it anew.
    """

    def __init__(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        self._pipeline, self._catalog = pipeline, catalog
        self._chains = {name: chain for name in CHAINS if (chain := _whole_chain(name, pipeline)) is not None}
        self._ledger: dict[str, Any] = _loaded(catalog) if self._chains else {}
        self._names: dict[str, str | None] = {}
        self._unsaved = {name: set(self._outputs(chain)) for name, chain in self._chains.items()}
        self._read: dict[str, dict[str, Any]] = {name: {} for name in self._chains}

    def rest(self) -> Pipeline:
        """The pipeline without what is kept, which is said in one line each."""
        rest = self._pipeline
        if "params:rebuild" in self._catalog and self._catalog.load("params:rebuild"):
            return rest
        for name, chain in self._chains.items():
            others = rest - chain
            if not chain.inputs() & others.all_outputs() and self._is_unchanged(name, others):
                rest = others
                logger.info("%s as of %s unchanged: kept", name, self._ledger[name]["made"])
        return rest

    def not_read(self, rest: Pipeline) -> Iterator[dict[str, Any]]:
        """Arguments of `after_dataset_loaded` for loads that `rest` leaves out: an empty table with noted `attrs`."""
        for name, chain in self._chains.items():
            for node in (chain - rest).nodes:
                noted = self._ledger.get(name, {}).get("read", {})
                for dataset in [one for one in node.inputs if one in noted]:
                    table = pd.DataFrame()
                    table.attrs = noted[dataset]
                    yield {"dataset_name": dataset, "data": table, "node": node}

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any, node: Node) -> None:
        """Keep what names the bars that a chain reads, for the runs that will leave it out."""
        for name in node.tags & self._chains.keys():
            if dataset_name in self._chains[name].inputs() and (source := source_of(data)):
                self._read[name][dataset_name] = {"source": source, "span": span(data)}

    @hook_impl
    def before_dataset_loaded(self, node: Node) -> None:
        """Name what a chain is made of before its first node reads it: a file may change meanwhile."""
        for name in node.tags & self._chains.keys():
            self._name(name)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, node: Node) -> None:
        """Note the chain whose last output this is."""
        for name in node.tags & self._chains.keys():
            self._unsaved[name] -= {dataset_name}
            if not self._unsaved[name] and LEDGER in self._catalog:
                self._note(name)

    def _is_unchanged(self, name: str, others: Pipeline) -> bool:
        chain, noted = self._chains[name], self._ledger.get(name)
        outputs = self._outputs(chain)
        proved = chain.outputs() | others.inputs() & chain.all_outputs() <= outputs.keys()
        if not noted or not proved or noted["made_of"] != self._name(name):
            return False
        return bool(noted["outputs"] == {output: _content(output, dataset) for output, dataset in outputs.items()})

    def _note(self, name: str) -> None:
        outputs = self._outputs(self._chains[name])
        if self._name(name) is None or _waits_for_the_clock(outputs.get("data_report")):
            return
        self._ledger[name] = {
            "made_of": self._name(name),
            "outputs": {output: dataset.provenance(saved=True)["sha256"] for output, dataset in outputs.items()},
            "read": self._read[name],
            "made": f"{dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC",
        }
        self._catalog[LEDGER].save(self._ledger)

    def _name(self, name: str) -> str | None:
        """The name of all that a chain is made of; None where some of it has none, so that it is made anew."""
        if name not in self._names:
            inputs = sorted(self._chains[name].inputs())
            parts = {one: _content(one, self._catalog[one]) for one in inputs}
            unnamed = any(part is None for part in parts.values())
            self._names[name] = None if unnamed else fingerprint([parts, program()], 64)
        return self._names[name]

    def _outputs(self, chain: Pipeline) -> dict[str, VerifiedDataset]:
        datasets = {name: self._catalog.get(name) for name in chain.all_outputs()}
        return {name: dataset for name, dataset in datasets.items() if isinstance(dataset, VerifiedDataset)}


@cache
def program(root: Path = Path(nqcast.__file__).parent, places: tuple[str, ...] = tuple(sys.path)) -> str:
    """The name of this package's files, the libraries installed and Python: any of them may change a number."""
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    installed = sorted(folder.name for place in places for folder in Path(place).glob("*.dist-info"))
    named = (part for path in files for part in (str(path.relative_to(root)).encode(), path.read_bytes()))
    return digest([sys.version.encode(), repr(installed).encode(), *named])


def _whole_chain(name: str, pipeline: Pipeline) -> Pipeline | None:
    """The nodes of the pipeline `name` in a run that has all of them."""
    chain = pipeline.only_nodes_with_tags(name)
    return chain if chain.nodes and set(chain.nodes) == set(pipelines[name].nodes) else None


def _loaded(catalog: CatalogProtocol) -> dict[str, Any]:
    try:
        return dict(catalog.load(LEDGER)) if LEDGER in catalog and catalog.exists(LEDGER) else {}
    except DatasetError:
        return {}  # damaged: all is made anew


def _waits_for_the_clock(report: VerifiedDataset | None) -> bool:
    """Whether bars were made without rows whose stamps lay after now: a later run may take them."""
    return report is not None and AFTER_NOW in report.load()["quarantined_by_reason"]


def _content(name: str, dataset: Any) -> Any:
    """What names the content of an entry; None where nothing does, or where it does not verify."""
    content = getattr(dataset, "content", None)
    if content is not None:
        try:
            return content()
        except DatasetError:
            return None
    value = dataset.load() if name.startswith("params:") else None  # a table in memory has no name
    if getattr(value, "own", ()):
        return None  # features of the user's own are code, which may read anything
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
