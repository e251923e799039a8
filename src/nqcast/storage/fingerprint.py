"""The one name of a content: the first hexadecimal digits of its SHA-256."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any


def digest(parts: bytes | Iterable[bytes], digits: int = 64) -> str:
    """The name of bytes, or of several pieces of them as if they were one."""
    found = hashlib.sha256()
    for part in [parts] if isinstance(parts, bytes) else parts:
        found.update(part)
    return found.hexdigest()[:digits]


def fingerprint(content: Any, digits: int = 16) -> str:
    """The name of a content by its JSON, keys in order."""
    return digest(json.dumps(content, sort_keys=True, default=str).encode(), digits)
