"""Files of lines that only grow, one JSON object a line: how one is added, and how they are read. Without Kedro."""

import json
import logging
import os
import secrets
import time
from pathlib import Path
from typing import IO

from nqcast.storage.errors import storage_errors
from nqcast.storage.json_values import Json, plain, read_object
from nqcast.storage.lock import one_writer
from nqcast.storage.place import Place, StorePath
from nqcast.storage.verified import sync_folder

log = logging.getLogger(__name__)


def append_record(path: Place, record: Json) -> None:
    """Append `record` as one line, which is on the disk once this returns; two processes may append at once.

    In a store, where nothing grows, every record is an object of its own below the name of the log; so it is in a
    folder that was copied from one.

    Raises:
        ValueError: `record` is not a dict of JSON values.
    """
    if not isinstance(record, dict):
        raise ValueError(f"expected one record (a dict), found {type(record).__name__}: append records one by one")
    line = json.dumps(plain(record, "the record"), ensure_ascii=False).encode() + b"\n"
    own = f"{time.time_ns()}-{secrets.token_hex(4)}.json"
    if isinstance(path, StorePath):
        (path / own).write_bytes(line, create=True)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        append_line(path / own if path.is_dir() else path, line)


def append_line(path: Path, line: bytes, *, durable: bool = True) -> None:
    """Append a line, or several whole ones, behind the last whole one; nothing but the cut for b"".

    What a killed writer left of a line was never acknowledged and is cut off first. The line survives the death of this
    process once this returns; where it is `durable`, a power cut too.

    Raises:
        StorageError: the folder is full or cannot be written.
    """
    with storage_errors(path, len(line)):
        is_new = not path.exists()
        with one_writer(path.parent), path.open("a+b") as file:
            file.truncate(_end_of_last_line(file))
            file.write(line)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        if is_new and durable:
            sync_folder(path.parent)


def read_records(path: Place) -> list[Json]:
    """All records of the log, oldest first; an unfinished last line is left out with a warning.

    Whichever of disk and store wrote it: the lines of the one file, then those of the files below its name.

    Raises:
        ValueError: another line is not a JSON object.
    """
    records = _read_lines(path) if path.is_file() else []
    inner: list[Place] = [*path.iterdir()] if isinstance(path, StorePath) or path.is_dir() else []
    for one in sorted(inner, key=str):
        records += [] if one.name.startswith(".") else _read_lines(one)  # a writer's lock
    return records


def _read_lines(path: Place) -> list[Json]:
    *lines, rest = path.read_bytes().split(b"\n")
    if rest:
        log.warning("%s: its last line is unfinished and left out (%d bytes)", path, len(rest))
    cure = "take that line out, or move the file aside"
    return [read_object(line, f"line {number} of {path}", cure) for number, line in enumerate(lines, start=1)]


def _end_of_last_line(file: IO[bytes]) -> int:
    """Offset just after the last newline."""
    end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - 4096)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
