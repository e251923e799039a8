"""A run's news on local disk: one folder per run, one JSON object a line, and how far it has been sent.

    spool/<run>/news.jsonl   the lines, in order; those of a run inside the run carry its key as `child`
    spool/<run>/files/       artifacts as they were when they were reported
    spool/<run>/state.json   what the store has acknowledged
    spool/<run>/.lock        held while the run or its sender lives

The lines are the single source: a live run, an outage and a replay send the same lines in the same way.
"""

import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Required, TypedDict, Unpack, cast

from nqcast.storage.append_only import append_line
from nqcast.storage.json_values import read_object
from nqcast.storage.lock import DirectoryBusyError, DirectoryLock, is_held
from nqcast.storage.place import Place, StorePath, copy_here
from nqcast.storage.verified import replace_file

log = logging.getLogger(__name__)


class Fields(TypedDict, total=False):
    """What a line may carry, by its kind.

    start: name, experiment, tags, time, and of the outermost run the uri without credentials, empty for the store
    beside the spool. params, tags, metrics: values; metrics also step and time, and where they came from a file its
    path and the offset behind them. artifact: file. dataset: name, digest, source, profile. model: file, name, promote,
    recipe. walk_forward: name, promote, recipe, loss, anchors. follow: file, a run directory's metrics, and curves, the
    names that are taken of it. end: status, time. Times are ms since 1970.
    """

    child: str
    time: int
    step: int
    name: str
    experiment: str
    tags: dict[str, str]
    values: dict[str, str] | dict[str, float]
    uri: str
    file: str
    at: int
    curves: list[str]
    digest: str
    source: str
    profile: dict[str, str | int]
    promote: str
    recipe: str
    loss: float
    anchors: str
    status: str


class Line(Fields, total=False):
    """One line of a spool."""

    kind: Required[str]


@dataclass
class SentState:
    """What the store `uri` has acknowledged: lines up to the byte `offset`, and the ids of runs that have not ended.

    runs: by the key of a nested run; the outermost one's key is empty, and it stands first.
    """

    offset: int = 0
    uri: str | None = None
    runs: dict[str, str] = field(default_factory=dict)


class Spool:
    """The folder of one run's news."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.news = folder / "news.jsonl"
        self._state_path = folder / "state.json"
        self._lock = DirectoryLock(folder)

    @classmethod
    def create(cls, root: Path, name: str) -> "Spool":
        """A new, empty spool below `root`, locked by this process."""
        folder = root / f"{re.sub(r'[^A-Za-z0-9.-]', '-', name)[:80]}-{secrets.token_hex(4)}"
        folder.mkdir(parents=True)
        spool = cls(folder)
        spool._lock.acquire()
        spool.news.touch()
        return spool

    @property
    def home(self) -> Path:
        """The tracking folder that the spool lies in; a copied folder finds its own store from here."""
        return self.folder.absolute().parents[1]

    def append(self, kind: str, **fields: Unpack[Fields]) -> None:
        """Add one line; it survives the death of this process once this returns."""
        line = json.dumps({"kind": kind, **fields}, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
        append_line(self.news, line, durable=False)

    def read(self, offset: int) -> Iterator[tuple[Line, int]]:
        """Whole lines from byte `offset` on, each with the offset after it; a garbled line is skipped by name."""
        with self.news.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                try:
                    found = read_object(line, self.news)
                except ValueError:
                    found = {}
                if "kind" in found:
                    yield cast(Line, found), offset
                else:
                    log.warning("%s: a garbled line before byte %d is skipped", self.news, offset)

    def keep(self, path: Place, *beside: Place) -> str:
        """Keep `path` (a file, or a folder and files to lie in it) as it is now; gives its name below `files/`.

        A hard link where possible: our datasets replace files and never write into them. What a store holds is fetched.
        """
        name = f"{secrets.token_hex(4)}/{path.name}"
        target = self.folder / "files" / name
        target.parent.mkdir(parents=True)
        _keep_one(path, target)
        for other in beside:
            _keep_one(other, target / other.name)
        return name

    def state(self) -> SentState:
        try:
            return SentState(**json.loads(self._state_path.read_bytes()))
        except (OSError, ValueError, TypeError):  # nothing sent yet, or unreadable: the store knows the run by its tag
            return SentState()

    def save_state(self, state: SentState) -> None:
        replace_file(self._state_path, json.dumps(asdict(state)).encode())

    def try_lock(self) -> bool:
        """Hold the spool; False where a living process does, this one included, or where it has just been sent."""
        if is_held(self.folder) or not self.news.exists():
            return False
        try:
            self._lock.acquire()
        except DirectoryBusyError:
            return False
        return True

    def unlock(self) -> None:
        self._lock.release()

    def remove(self) -> None:
        """Forget a run whose every line has been acknowledged."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.unlock()


def waiting_spools(root: Path) -> list[Spool]:
    """All spools below `root`, oldest first; a link is none, for it would be written to where it leads."""
    news = root.glob("*/news.jsonl")
    found = [one for one in news if one.is_file() and not (one.is_symlink() or one.parent.is_symlink())]
    return [Spool(news.parent) for _, news in sorted((_modified(news), news) for news in found)]


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # sent by another process in between
        return 0.0


def _keep_one(path: Place, target: Path) -> None:
    if isinstance(path, StorePath):
        copy_here(path, target)
    elif path.is_dir():
        shutil.copytree(path, target, copy_function=_link_or_copy)
    else:
        _link_or_copy(str(path), str(target))


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
    return target
