"""Bars as they come in: a file that grows, or a folder into which files come."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd

from nqcast.market.vendor import as_raw_bars, read_bars

_TEXT = (".csv", ".txt")
_SUFFIXES = (*_TEXT, ".dbn", ".dbn.zst", ".parquet", ".pq", ".csv.gz", ".csv.zst")


class Feed:
    """`poll()` gives the raw bars that were not there before; a text file that grows is read on from where it ended.

    Args:
        source: one file of bars, or a folder of them, in any form that `read_bars` takes. A line without its end, and a
            file that cannot be read yet, are left for the next poll.
    """

    def __init__(self, source: Path) -> None:
        if not source.exists():
            raise ValueError(f"expected a file or folder of bars to watch, found nothing at {source}: correct the path")
        self.source = source
        self._seen: dict[Path, tuple[int, int]] = {}
        self._rows: dict[Path, int] = {}
        self._text: dict[Path, tuple[int, bytes]] = {}

    def poll(self) -> pd.DataFrame | None:
        """New rows of all files (ts, open, high, low, close, …), None where there are none."""
        found = [frame for path in self._files() if (frame := self._news(path)) is not None and len(frame)]
        return pd.concat(found, ignore_index=True) if found else None

    def close(self) -> None:
        """Nothing is held open."""

    def _files(self) -> list[Path]:
        if self.source.is_file():
            return [self.source]
        files = (path for path in self.source.iterdir() if not path.name.startswith("."))
        return sorted(path for path in files if path.name.lower().endswith(_SUFFIXES))

    def _news(self, path: Path) -> pd.DataFrame | None:
        state = path.stat()
        if self._seen.get(path) == (state.st_size, state.st_mtime_ns) or not state.st_size:
            return None
        frame = self._lines(path) if path.name.lower().endswith(_TEXT) else self._whole(path)
        if frame is not None:
            self._seen[path] = (state.st_size, state.st_mtime_ns)
        return frame

    def _whole(self, path: Path) -> pd.DataFrame | None:
        try:
            frame = read_bars(path)
        except ValueError:
            if path not in self._rows:  # not whole yet, or none at all: the first look at it has to succeed once
                self._rows[path] = 0
                return None
            raise
        before = self._rows.get(path, 0)
        self._rows[path] = len(frame)
        return frame.iloc[before:]

    def _lines(self, path: Path) -> pd.DataFrame | None:
        offset, header = self._text.get(path, (0, b""))
        with path.open("rb") as file:
            if path.stat().st_size < offset:
                raise ValueError(f"expected {path} to grow, found it shorter: watch a file that is added to")
            file.seek(offset)
            content = file.read()
        end = content.rfind(b"\n") + 1
        if not header:
            header, content, end, offset = _header(content, end)
        self._text[path] = (offset + end, header)
        if not content[:end].strip():
            return None
        text = io.StringIO((header + content[:end]).decode())
        separator = next((mark for mark in ";\t|" if mark in header.decode()), ",")
        return as_raw_bars(pd.read_csv(text, sep=separator, dtype={"contract": "str", "symbol": "str"}))


def _header(content: bytes, end: int) -> tuple[bytes, bytes, int, int]:
    """Header line, what follows it, how much of that are whole lines, and where that begins in the file."""
    size = content.find(b"\n") + 1
    return content[:size], content[size:], end - size, size
