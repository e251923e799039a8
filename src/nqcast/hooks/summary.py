"""What ends a run: its results to read, where they were written, and the exit status that they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from rich.console import Console

from nqcast.stopping import RunAlarmed


class SummaryHook:
    """Ends a run with its scores to read and the path of every artifact that it wrote."""

    def __init__(self) -> None:
        self._saved: list[str] = []
        self._texts: list[str] = []

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Start an empty list: one process may run several sessions."""
        self._saved, self._texts = [], []

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Remember what was written; an entry that carries a `text` wants to be read."""
        if dataset_name not in self._saved:
            self._saved.append(dataset_name)
        if isinstance(data, dict) and isinstance(data.get("text"), str):
            self._texts.append(data["text"])

    @hook_impl
    def after_pipeline_run(self, catalog: DataCatalog, run_params: dict[str, Any]) -> None:
        """Print the texts, then the table of artifacts."""
        console = Console()
        for text in self._texts:
            console.print(f"\n{text}\n", markup=False, highlight=False, soft_wrap=True)
        rows = [(name, path) for name in self._saved if (path := _path_of(catalog, name))]
        if not rows:
            return
        width = max(len(name) for name, _ in rows) + 2
        lines = [f"  {name:<{width}}{_relative(path, Path(run_params['project_path']))}" for name, path in rows]
        console.print("\n".join(["what this run wrote:", *lines]), markup=False, highlight=False, soft_wrap=True)


class AlarmHook:
    """Gives a complete run the exit status that its result asks for.

    An entry that is saved with an `exit_status` other than 0 wants to be noticed by whoever started the run: a
    scheduler reads no tables. Everything is written, shown and tracked first.
    """

    def __init__(self) -> None:
        self._status = 0

    @hook_impl
    def before_pipeline_run(self) -> None:
        """Start without an alarm: one process may run several sessions."""
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


def _path_of(catalog: DataCatalog, name: str) -> Path | None:
    dataset = catalog.get(name)
    filepath = getattr(dataset, "_filepath", None)
    if dataset is None or filepath is None:
        return None
    resolve = getattr(dataset, "_get_load_path", None)
    return Path(str(resolve() if resolve else filepath))


def _relative(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
