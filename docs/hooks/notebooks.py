"""The notebooks as pages, executed: `make docs` runs each once and keeps it in build/notebooks until something changes.

Without NQCAST_NOTEBOOKS=execute a notebook that has not been executed yet is shown with its code alone, which says so.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File
from nbconvert import MarkdownExporter
from nbformat import NotebookNode

PROJECT = Path(__file__).resolve().parents[2]
KEPT = PROJECT / "build" / "notebooks"
UNEXECUTED = "*Shown without its results, which `make docs` adds.*\n\n"


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each notebook, and its pictures (called by mkdocs)."""
    for path in sorted((PROJECT / "notebooks").glob("*.ipynb")):
        notebook, executed = read(path)
        text, pictures = MarkdownExporter().from_notebook_node(notebook)
        for name, content in pictures["outputs"].items():
            place = f"notebooks/{path.stem}/{name}"
            files.append(File.generated(config, place, content=content))
            text = text.replace(f"]({name})", f"]({path.stem}/{name})")
        text = text if executed else text.replace("\n", f"\n\n{UNEXECUTED}", 1)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
    return files


def read(path: Path) -> tuple[NotebookNode, bool]:
    """The notebook and whether its results are in it."""
    kept = KEPT / f"{path.stem}-{fingerprint(path)}.ipynb"
    if kept.is_file():
        return nbformat.read(kept, as_version=4), True
    notebook = nbformat.read(path, as_version=4)
    if os.environ.get("NQCAST_NOTEBOOKS") != "execute":
        return notebook, False
    execute(notebook)
    KEPT.mkdir(parents=True, exist_ok=True)
    for old in KEPT.glob(f"{path.stem}-*.ipynb"):
        old.unlink()
    nbformat.write(notebook, kept)
    return notebook, True


def fingerprint(path: Path) -> str:
    """Changes with the notebook and with any line of the package."""
    digest = hashlib.sha256(path.read_bytes())
    for source in sorted((PROJECT / "src").rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def execute(notebook: NotebookNode) -> None:
    """Run every cell in a fresh kernel, in a folder of its own; an error in a cell ends the build."""
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.get("NQCAST_DATA"), os.environ.pop("MPLBACKEND", None)
        os.environ["NQCAST_DATA"] = str(Path(folder) / "data")
        try:
            place, quiet = {"metadata": {"path": folder}}, ["--IPKernelApp.log_level=40"]  # errors alone
            NotebookClient(notebook, timeout=600, startup_timeout=300, resources=place, extra_arguments=quiet).execute()
        finally:
            for name, value in zip(("NQCAST_DATA", "MPLBACKEND"), before, strict=True):
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
