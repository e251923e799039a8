"""Bars as they come in: a file that grows, or a folder into which files come."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from nqcast.market.text_file import read_text
from nqcast.market.vendor import KNOWN, as_raw_bars, is_bars, read_bars

_TEXT = (".csv", ".txt", ".tsv")
_HEAD = 200
"""Lines at a file's beginning that are read with its news: they tell how the numbers and stamps of it are written."""
_TAIL = 200
"""Bytes before the news, by which it is known whether the file was written anew."""
_LINE_ENDS = {codecs.BOM_UTF16_LE: b"\n\0", codecs.BOM_UTF16_BE: b"\0\n"}


class _Text(NamedTuple):
    """What is known of a text file that grows: its first lines, how many rows they are, where news begin, the end."""

    head: bytes = b""
    rows: int = 0
    end: int = 0
    last: bytes = b""


class Feed:
    """`poll()` gives the raw bars that were not there before; a text file that grows is read on from where it ended.

    Args:
        source: one file of bars, or a folder of them, in any form that `read_bars` takes. A line without its end, and a
            file that cannot be read yet, are left for the next poll. A text file whose last line is no longer where it
            was has been written anew: all of its rows are given once more.
        waits: False where there is no next poll, so that a file that cannot be read is an error at once.

    Raises:
        ValueError: there is nothing, or no file of bars by its ending.
    """

    def __init__(self, source: Path, *, waits: bool = True) -> None:
        if not source.exists():
            raise ValueError(f"expected a file or folder of bars to watch, found nothing at {source}: correct the path")
        if source.is_file() and not is_bars(source):
            raise ValueError(f"expected a file of bars to watch ({KNOWN}), found {source}: correct it")
        self.source, self._waits = source, waits
        self._seen: dict[Path, tuple[int, int]] = {}
        self._unread: dict[Path, tuple[int, int]] = {}
        self._rows: dict[Path, int] = {}
        self._text: dict[Path, _Text] = {}

    def poll(self) -> pd.DataFrame | None:
        """New rows of all files (ts, open, high, low, close, …), None where there are none."""
        found = [frame for path in self._files() if (frame := self._news(path)) is not None and len(frame)]
        return pd.concat(found, ignore_index=True) if found else None

    def close(self) -> None:
        """There is nothing to close: no file is open between two polls."""

    def _files(self) -> list[Path]:
        if self.source.is_file():
            return [self.source]
        files = (path for path in self.source.iterdir() if not path.name.startswith("."))
        return sorted(path for path in files if is_bars(path))

    def _news(self, path: Path) -> pd.DataFrame | None:
        state = path.stat()
        now = (state.st_size, state.st_mtime_ns)
        if self._seen.get(path) == now or not state.st_size:
            return None
        is_text = path.name.lower().endswith(_TEXT)
        try:
            frame = self._lines(path) if is_text else self._whole(path)
        except ValueError:
            before, self._unread[path] = self._unread.get(path), now
            arrives = before is None or (before != now and not is_text)  # text is read in whole lines however it grows
            if self._waits and arrives and path not in self._rows:
                return None
            raise
        self._seen[path] = now
        return frame

    def _whole(self, path: Path) -> pd.DataFrame:
        frame = read_bars(path)
        before = self._rows.get(path, 0)
        if len(frame) < before:
            raise _shorter(path)
        self._rows[path] = len(frame)
        return frame.iloc[before:]

    def _lines(self, path: Path) -> pd.DataFrame | None:
        known = self._text.get(path, _Text())
        with path.open("rb") as file:
            if path.stat().st_size < known.end:
                raise _shorter(path)
            file.seek(known.end - len(known.last))
            if file.read(len(known.last)) != known.last:
                known = _Text()
                file.seek(0)
            content = file.read()
        begin = known.head or content
        line_end = next((end for mark, end in _LINE_ENDS.items() if begin.startswith(mark)), b"\n")
        news = content[: content.rfind(line_end) + len(line_end)] if line_end in content else b""
        if not news.strip():
            return None
        try:
            frame = as_raw_bars(read_text(path, known.head + news)).iloc[known.rows :]
        except ValueError:  # 01/02/2016 alone: the lines before it say which is the day
            whole = path.read_bytes()[: known.end + len(news)]
            frame = as_raw_bars(read_text(path, whole)).iloc[self._rows.get(path, 0) if known.end else 0 :]
        if not known.end:
            head = line_end.join([*news.split(line_end)[:-1][:_HEAD], b""])
            known = _Text(head, len(read_text(path, head)))
            self._rows[path] = 0
        self._rows[path] += len(frame)
        self._text[path] = _Text(known.head, known.rows, known.end + len(news), news[-_TAIL:])
        return frame


def _shorter(path: Path) -> ValueError:
    return ValueError(f"expected {path} to grow, found it shorter: watch a file that is added to")
