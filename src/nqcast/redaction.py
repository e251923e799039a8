"""What must reach neither a log nor a store: passwords, keys and the users of URIs are taken out of a text."""

import re

REDACTED = "[redacted]"

_SECRET_WORDS = {
    "password", "passwd", "pwd", "passphrase", "secret", "secrets", "token", "key", "apikey", "credential",
    "credentials", "auth", "authorization",
}  # fmt: skip
_USER_IN_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s@]+@")
_SECRET_IN_QUERY = re.compile(
    r"(?i)(?P<name>[?&;](?:[\w-]*(?:token|key|secret|password|signature|sig|auth)[\w-]*)=)[^&#\s]+"
)
_ARGUMENT = re.compile(r"(?P<name>[\w.-]+)(?P<sign>[=:])(?P<value>[^\s,;&'\"]+)")
_KNOWN_SHAPES = re.compile(
    r"\b(?:AKIA[0-9A-Z]{16}|(?:sk|db|ghp|gho|hf|xox[abp]|glpat)[-_][A-Za-z0-9_-]{16,}|Bearer\s+[\w.~+/=-]{8,})"
)


def is_secret_name(name: str) -> bool:
    """Whether a parameter of this name holds a secret: one of its words says so."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()
    return bool(_SECRET_WORDS & set(re.split(r"[^a-z0-9]+", words)))


def redact(text: str) -> str:
    """`text` without user names and passwords in URIs, values of `password=…`, and keys of well-known shapes."""
    text = _USER_IN_URI.sub(rf"\g<scheme>{REDACTED}@", text)
    text = _SECRET_IN_QUERY.sub(rf"\g<name>{REDACTED}", text)
    text = _ARGUMENT.sub(lambda found: _hidden(found) if is_secret_name(found["name"]) else found[0], text)
    return _KNOWN_SHAPES.sub(REDACTED, text)


def without_secrets(text: str, arguments: list[str]) -> str:
    """`text` redacted, and without the values that a command's `arguments` give to names of secrets."""
    given = (found for argument in arguments for found in _ARGUMENT.finditer(argument))
    for value in {found["value"] for found in given if is_secret_name(found["name"])}:
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", REDACTED, text)
    return redact(text)


def _hidden(argument: re.Match[str]) -> str:
    return f"{argument['name']}{argument['sign']}{REDACTED}"
