"""A run's news on local disk: one folder per run, one JSON object a line, and how far it has been sent.

    spool/<run>/news.jsonl   start, params, tags, metrics, artifact and end, in order; a nested run's with `child`
    spool/<run>/files/       artifacts as they were when they were reported
    spool/<run>/state.json   what the store has acknowledged
    spool/<run>/lock         held while the run or its sender lives

The lines are the single source: a live run, an outage and a replay send the same lines in the same way.
"""

import fcntl
import json
import logging
import os
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


@dataclass
class SentState:
    """What the store has acknowledged: lines up to the byte `offset`, of the run `run_id` in the store `uri`.

    children: run ids of the nested runs that have not ended, by key.
    """

    offset: int = 0
    run_id: str | None = None
    uri: str | None = None
    children: dict[str, str] = field(default_factory=dict)


class Spool:
    """The folder of one run's news."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.news = folder / "news.jsonl"
        self._state_path = folder / "state.json"
        self._writing = threading.Lock()
        self._held: int | None = None

    @classmethod
    def create(cls, root: Path, name: str) -> "Spool":
        """A new, empty spool below `root`, locked by this process."""
        folder = root / f"{re.sub(r'[^A-Za-z0-9.-]', '-', name)[:80]}-{secrets.token_hex(4)}"
        folder.mkdir(parents=True)
        spool = cls(folder)
        spool.try_lock()
        spool.news.touch()
        return spool

    def append(self, kind: str, **fields: Any) -> None:
        """Add one line; it survives the death of this process once this returns."""
        line = json.dumps({"kind": kind, **fields}, ensure_ascii=False).encode() + b"\n"
        with self._writing, self.news.open("ab") as file:
            file.write(line)

    def read(self, offset: int) -> Iterator[tuple[dict[str, Any], int]]:
        """Whole lines from byte `offset` on, each with the offset after it; a garbled line is skipped by name."""
        with self.news.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                try:
                    yield json.loads(line), offset
                except ValueError:
                    log.warning("%s: a garbled line before byte %d is skipped", self.news, offset)

    def keep_file(self, path: Path) -> str:
        """Keep `path` (a file or a folder) as it is now; gives its name below `files/`.

        A hard link where possible: our datasets replace files and never write into them.
        """
        name = f"{secrets.token_hex(4)}/{path.name}"
        target = self.folder / "files" / name
        target.parent.mkdir(parents=True)
        if path.is_dir():
            shutil.copytree(path, target, copy_function=_link_or_copy)
        else:
            _link_or_copy(str(path), str(target))
        return name

    def keep_beside(self, name: str, paths: list[Path]) -> None:
        """Keep files inside a folder that `keep_file` has kept under `name`."""
        for path in paths:
            _link_or_copy(str(path), str(self.folder / "files" / name / path.name))

    def state(self) -> SentState:
        try:
            return SentState(**json.loads(self._state_path.read_bytes()))
        except (OSError, ValueError, TypeError):  # nothing sent yet, or unreadable: the store knows the run by its tag
            return SentState()

    def save_state(self, state: SentState) -> None:
        temporary = self._state_path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(state)), encoding="utf-8")
        temporary.replace(self._state_path)

    def try_lock(self) -> bool:
        """Hold the spool; False where a living process does. The kernel frees a dead holder's lock."""
        descriptor = os.open(self.folder / "lock", os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._held = descriptor
        return True

    def unlock(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def remove(self) -> None:
        """Forget a run whose every line has been acknowledged."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.unlock()


def waiting_spools(root: Path) -> list[Spool]:
    """All spools below `root`, oldest first."""
    folders = [item for item in root.iterdir() if (item / "news.jsonl").exists()] if root.is_dir() else []
    return [Spool(folder) for folder in sorted(folders, key=lambda item: (item.stat().st_mtime, item.name))]


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
    return target
