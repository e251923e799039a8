"""`python tests/text_files.py FILE…`: what every text file of the project keeps to; the hook of pre-commit."""

from __future__ import annotations

import re
import sys
from pathlib import Path

LARGEST = 1_000_000
_MERGE_MARK = re.compile(rb"^(<{7} |={7}$|>{7} )", re.MULTILINE)


def complaints(path: Path) -> list[str]:
    """What is wrong with one file, as sentences."""
    content = path.read_bytes()
    rules = {
        "expected one new line at the end": bool(content) and not re.search(rb"[^\n]\n\Z", content),
        "found blanks at the end of a line": re.search(rb"[ \t]$", content, re.MULTILINE) is not None,
        "found carriage returns": b"\r" in content,
        "found marks of an unfinished merge": _MERGE_MARK.search(content) is not None,
        f"found {len(content):,} bytes, more than {LARGEST:,}: data do not belong into git": len(content) > LARGEST,
    }
    return [f"{path}: {text}" for text, broken in rules.items() if broken]


if __name__ == "__main__":
    found = [text for name in sys.argv[1:] for text in complaints(Path(name))]
    sys.stderr.write("".join(f"{text}\n" for text in found))
    sys.exit(bool(found))
