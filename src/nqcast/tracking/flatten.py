"""Parameters and metrics as flat names with short values, with every secret left out."""

import json
import re
from collections.abc import Iterator
from typing import Any

MAX_VALUE = 500  # characters of one parameter or tag
REDACTED = "[redacted]"

_SECRET_WORDS = {
    "password", "passwd", "pwd", "passphrase", "secret", "secrets", "token", "key", "apikey", "credential",
    "credentials", "auth", "authorization",
}  # fmt: skip
_USER_IN_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s@]+@")
_SECRET_IN_QUERY = re.compile(
    r"(?i)(?P<name>[?&;](?:[\w-]*(?:token|key|secret|password|signature|sig|auth)[\w-]*)=)[^&#\s]+"
)
_KNOWN_SHAPES = re.compile(
    r"\b(?:AKIA[0-9A-Z]{16}|(?:sk|db|ghp|gho|hf|xox[abp]|glpat)[-_][A-Za-z0-9_-]{16,}|Bearer\s+[\w.~+/=-]{8,})"
)


def flatten_parameters(parameters: dict[str, Any]) -> dict[str, str]:
    """Every leaf as its own text under its dotted name (`train.lr`), secrets redacted, long values cut with a note."""
    return {
        _name(path): REDACTED if any(map(is_secret_name, path)) else shorten(redact(_text(value)))
        for path, value in _leaves(parameters)
    }


def flatten_metrics(name: str, data: Any) -> dict[str, float]:
    """Every number in `data` under its path below `name` (`scores/model/15m/skill`); text and None are left out.

    A table (a frame or a list of records) takes its text columns into the path instead of row numbers.
    """
    if hasattr(data, "to_dict") and hasattr(data, "columns"):
        data = data.to_dict("records")
    found: dict[str, float] = {}
    for path, value in _leaves(_keyed_by_text(data)):
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[_name((name, *path), separator="/")] = float(value)
    return found


def is_secret_name(name: str) -> bool:
    """Whether a parameter of this name holds a secret: one of its words says so."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()
    return bool(_SECRET_WORDS & set(re.split(r"[^a-z0-9]+", words)))


def redact(text: str) -> str:
    """`text` without user names and passwords in URIs, secrets in queries and keys of well-known shapes."""
    text = _USER_IN_URI.sub(rf"\g<scheme>{REDACTED}@", text)
    text = _SECRET_IN_QUERY.sub(rf"\g<name>{REDACTED}", text)
    return _KNOWN_SHAPES.sub(REDACTED, text)


def shorten(text: str) -> str:
    """`text`, cut to MAX_VALUE characters with a note of its length."""
    if len(text) <= MAX_VALUE:
        return text
    note = f" … [cut, {len(text)} characters]"
    return text[: MAX_VALUE - len(note)] + note


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and (value or not path):
        for key, item in value.items():
            yield from _leaves(item, (*path, str(key)))
    else:
        yield path, value


def _keyed_by_text(data: Any) -> Any:
    if isinstance(data, list):
        rows = enumerate(data)
        return {_row_key(i, row): _keyed_by_text(row) for i, row in rows}
    return {key: _keyed_by_text(item) for key, item in data.items()} if isinstance(data, dict) else data


def _row_key(number: int, row: Any) -> str:
    texts = [item for item in row.values() if isinstance(item, str)] if isinstance(row, dict) else []
    return "/".join(texts) or str(number)


def _text(value: Any) -> str:
    return json.dumps(value, default=str) if isinstance(value, dict | list | tuple) else str(value)


def _name(path: tuple[str, ...], separator: str = ".") -> str:
    """A name that MLflow takes: letters, digits, _ - . / and spaces, at most 250 characters."""
    return re.sub(r"[^\w\-. /]", "_", separator.join(path))[:250]
