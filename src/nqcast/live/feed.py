"""Bars as they come in: a file that grows, or a folder into which files come."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from nqcast.market.text_file import has_header, read_text
from nqcast.market.vendor import KNOWN, as_raw_bars, is_bars, read_bars

_TEXT = (".csv", ".txt", ".tsv")


class Feed:
    """`poll()` gives the raw bars that were not there before; a text file that grows is read on from where it ended.

    Args:
        source: one file of bars, or a folder of them, in any form that `read_bars` takes. A line without its end, and a
            file that cannot be read yet, are left for the next poll. Text under a header between commas is read on from
            where it ended; what other text means the whole of it tells, so that it is read anew.

    Raises:
        ValueError: there is nothing, or no file of bars by its ending.
    """

    def __init__(self, source: Path) -> None:
        if not source.exists():
            raise ValueError(f"expected a file or folder of bars to watch, found nothing at {source}: correct the path")
        if source.is_file() and not is_bars(source):
            raise ValueError(f"expected a file of bars to watch ({KNOWN}), found {source}: correct it")
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
        return sorted(path for path in files if is_bars(path))

    def _news(self, path: Path) -> pd.DataFrame | None:
        state = path.stat()
        if self._seen.get(path) == (state.st_size, state.st_mtime_ns) or not state.st_size:
            return None
        frame = self._lines(path) if path.name.lower().endswith(_TEXT) else self._whole(path, read_bars)
        if frame is not None:
            self._seen[path] = (state.st_size, state.st_mtime_ns)
        return frame

    def _whole(self, path: Path, read: Callable[[Path], pd.DataFrame]) -> pd.DataFrame | None:
        try:
            frame = read(path)
        except ValueError:
            if path not in self._rows:  # not whole yet, or none at all: the first look at it has to succeed once
                self._rows[path] = 0
                return None
            raise
        before = self._rows.get(path, 0)
        if len(frame) < before:
            raise _shorter(path)
        self._rows[path] = len(frame)
        return frame.iloc[before:]

    def _lines(self, path: Path) -> pd.DataFrame | None:
        offset, header = self._text.get(path, (0, b""))
        with path.open("rb") as file:
            if path.stat().st_size < offset:
                raise _shorter(path)
            header = header or file.readline()
            if not has_header(header):
                return self._whole(path, _whole_lines)
            file.seek(offset or len(header))
            content = file.read()
        news = content[: content.rfind(b"\n") + 1]
        if news.strip():
            text = io.StringIO((header + news).decode())
            try:
                frame = as_raw_bars(pd.read_csv(text, dtype={"contract": "str", "symbol": "str"}))
            except ValueError:  # 01/02/2016 alone: the lines before it say which is the day
                return self._whole(path, _whole_lines)
            self._rows[path] = self._rows.get(path, 0) + len(frame)
        self._text[path] = ((offset or len(header)) + len(news), header)
        return frame if news.strip() else None


def _whole_lines(path: Path) -> pd.DataFrame:
    content = path.read_bytes()
    return as_raw_bars(read_text(path, content[: content.rfind(b"\n") + 1]))


def _shorter(path: Path) -> ValueError:
    return ValueError(f"expected {path} to grow, found it shorter: watch a file that is added to")
