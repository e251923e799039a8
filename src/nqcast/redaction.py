"""What must reach neither a log nor a store: passwords, keys and the users of URIs are taken out of a text."""

import re

REDACTED = "[redacted]"

_SECRET_WORDS = {
    "password", "passwd", "pwd", "passphrase", "secret", "secrets", "token", "key", "apikey", "credential",
    "credentials", "auth", "authorization",
}  # fmt: skip
_IN_PROSE = {"secret", "secrets", "token", "key", "credential", "credentials", "auth"}  # `no such key: learning_rat`
_USER_IN_URI = re.compile(r"(?<![A-Za-z0-9+.-])(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/\s?#]+@")
_SECRET_IN_QUERY = re.compile(
    r"(?i)(?P<name>[?&;](?:[\w-]*(?:token|key|secret|password|signature|sig|auth)[\w-]*)=)[^&#\s]+"
)
_QUOTED, _BARE = r"'[^'\n]*'|\"[^\"\n]*\"", r"[^\s,;&'\"{}]+"
_VALUE = rf"(?P<value>{_QUOTED}|{_BARE})"
_ARGUMENT = re.compile(rf"(?<![\w.-])(?P<name>[\w.-]+)(?P<sign>[=:]){_VALUE}")
_WORDS = "|".join(sorted(_SECRET_WORDS, key=len, reverse=True))
_SPACED = re.compile(
    rf"(?im)(?<![\w.-])(?P<name>(?:[\w.-]*[_.-])?(?:{_WORDS}))(?P<sign>['\"]?\s*[=:]\s*(?:(?:Basic|Digest)\s+)?)"
    rf"(?P<value>{_QUOTED}|{_BARE}(?=\s*(?:$|[,;}}\])])))"  # in prose more words follow: `store.password: nothing …`
)
_OPTION = re.compile(rf"(?<![\w.-])(?P<name>--[\w-]+)(?P<sign>\s+){_VALUE}")
_KNOWN_SHAPES = re.compile(
    r"\b(?:AKIA[0-9A-Z]{16}|(?:sk|db|ghp|gho|github_pat|hf|xox[abp]|glpat)[-_][A-Za-z0-9_-]{16,}"
    r"|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+|Bearer\s+[\w.~+/=-]{8,})"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    re.DOTALL,
)


def is_secret_name(name: str) -> bool:
    """Whether a parameter of this name holds a secret: one of its words says so."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()
    return bool(_SECRET_WORDS & set(re.split(r"[^a-z0-9]+", words)))


def redact(text: str) -> str:
    """`text` without users and passwords in URIs, values of names such as password, and keys of well-known shapes.

    A value may stand behind `=` or `:`, in quotes, or behind an option (`--password …`).
    """
    text = _USER_IN_URI.sub(rf"\g<scheme>{REDACTED}@", _KNOWN_SHAPES.sub(REDACTED, text))
    text = _SECRET_IN_QUERY.sub(rf"\g<name>{REDACTED}", text)
    text = _OPTION.sub(_hidden_if_named, _ARGUMENT.sub(_hidden_if_named, text))
    return _SPACED.sub(lambda found: _hidden(found) if _is_no_prose(found) else found[0], text)


def without_secrets(text: str, arguments: list[str]) -> str:
    """`text` redacted, and without the values that a command's `arguments` give to names of secrets."""
    given = (found for argument in arguments for found in _ARGUMENT.finditer(argument))
    for value in {found["value"].strip("'\"") for found in given if is_secret_name(found["name"])} - {""}:
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", REDACTED, text)
    return redact(text)


def _hidden_if_named(found: re.Match[str]) -> str:
    return _hidden(found) if is_secret_name(found["name"]) else found[0]


def _is_no_prose(found: re.Match[str]) -> bool:
    return found["name"].lower() not in _IN_PROSE or found["sign"][0] in "'\""


def _hidden(argument: re.Match[str]) -> str:
    return f"{argument['name']}{argument['sign']}{REDACTED}"
