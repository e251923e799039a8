"""What a run says of itself: flat names with short values and no secret, and what made it: code, command, data."""

import json
import logging
import re
import subprocess
from collections.abc import Iterator, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

from nqcast.redaction import REDACTED, is_secret_name, redact
from nqcast.storage.checkpoint import Checkpoint
from nqcast.storage.fingerprint import fingerprint
from nqcast.training.config import WITHOUT_EFFECT

log = logging.getLogger(__name__)

MAX_VALUE = 500  # characters of one parameter or tag
RECIPE_TAG = "nqcast.recipe"


def flatten_parameters(parameters: Mapping[str, object]) -> dict[str, str]:
    """Every leaf as its own text under its dotted name (`train.lr`), secrets redacted, long values cut with a note."""
    return {
        _name(path): REDACTED if any(map(is_secret_name, path)) else shorten(redact(_text(value)))
        for path, value in _leaves(parameters)
    }


def parameters_read(parameters: Mapping[str, str], inputs: set[str]) -> dict[str, str]:
    """The flat parameters that nodes with the `inputs` read: `params:train` stands for every `train.…`."""
    groups = {name.removeprefix("params:") for name in inputs if name.startswith("params:")}
    return {
        name: value
        for name, value in parameters.items()
        if "parameters" in inputs or any(name == group or name.startswith(f"{group}.") for group in groups)
    }


def flatten_metrics(name: str, data: object, headlines: Mapping[str, str] | None = None) -> dict[str, float]:
    """Every number in `data` under its path below `name` (`scores/model/15m/skill`); text and None are left out.

    A table (a frame or a list of records) takes its text columns into the path instead of row numbers. With
    `headlines` ({"test_skill": "table/model/*/skill"}) only the numbers at those paths, under those names: what stands
    for a star is appended (`test_skill_15m`), but for `mean`.
    """
    records = getattr(data, "to_dict", None)
    if records is not None and hasattr(data, "columns"):
        data = records("records")
    numbers = {
        path: float(value)
        for path, value in _leaves(_keyed_by_text(data))
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if headlines is None:
        return {_name((name, *path), separator="/"): value for path, value in numbers.items()}
    return {
        _name((headline, *_starred(pattern, path)), separator="_"): value
        for headline, pattern in headlines.items()
        for path, value in numbers.items()
        if fnmatchcase("/".join(path), pattern) and pattern.count("/") == len(path) - 1
    }


def shorten(text: str) -> str:
    """`text`, cut to MAX_VALUE characters with a note of its length."""
    if len(text) <= MAX_VALUE:
        return text
    note = f" … [cut, {len(text)} characters]"
    return text[: MAX_VALUE - len(note)] + note


def run_name(run_params: Mapping[str, object], begun: datetime) -> str:
    """The pipelines, what was changed on the command line, and when: `train learning_rate=0.001 · 28 Nov 13:19`."""
    changes = flatten_parameters(_mapping(run_params.get("runtime_params")))
    changed = [f"{name.rpartition('.')[2]}={value.rpartition('/')[2]}" for name, value in changes.items()]
    names = "all" if _pipelines(run_params) == "__default__" else _pipelines(run_params)
    return f"{' '.join([names, *changed])[:120]} · {begun:%d %b %H:%M}"


def run_tags(run_params: Mapping[str, object], version: str) -> dict[str, str]:
    """Tags from Kedro's description of a run."""
    names = _pipelines(run_params)
    tags = {
        "kedro.session_id": run_params.get("run_id") or run_params.get("session_id"),
        "kedro.pipeline": names,
        "kedro.env": run_params.get("env"),
        "kedro.runner": str(run_params.get("runner") or "").partition(" object at")[0].rpartition(".")[2],
        "nqcast.version": version,
        "mlflow.source.type": "PROJECT",
        "mlflow.source.name": "kedro run" if names == "__default__" else f"kedro run --pipelines {names}",
    }
    return {name: shorten(redact(str(value))) for name, value in tags.items() if value}


def git_tags(project: Path) -> dict[str, str]:
    """The commit and whether tracked files differ from it; nothing outside a checkout or without git."""
    commit = git(project, "rev-parse", "HEAD")
    if commit is None:
        return {}
    changes = git(project, "status", "--porcelain", "--untracked-files=no")
    return {"mlflow.source.git.commit": commit, "git.dirty": str(bool(changes)).lower()}


def data_tags(entry: str, facts: Mapping[str, str]) -> dict[str, str]:
    """Version and content hash of a catalog entry that the run read or wrote."""
    return {f"data.{entry}.{name}": facts[name] for name in ("version", "sha256") if name in facts}


def fingerprint_tags(data: object) -> dict[str, str]:
    """Fingerprints that a checkpoint's metadata carries."""
    return {"fingerprint": shorten(data.metadata.fingerprint)} if isinstance(data, Checkpoint) else {}


def source_of(data: object) -> str:
    """Where the bars come from that a table is made of; that travels with it."""
    attributes = getattr(data, "attrs", None)
    return redact(str(attributes.get("source", ""))) if isinstance(attributes, dict) else ""


def span(table: object) -> dict[str, str | int]:
    """Rows of a table of bars, and its first and last stamp in UTC; what is noted of it where it was not read again."""
    stamps = getattr(table, "get", lambda _: None)("ts")
    if stamps is None or not len(stamps):
        return dict(getattr(table, "attrs", {}).get("span", {}))
    first, last = (f"{stamps.iloc[i]:%Y-%m-%d %H:%M}" for i in (0, -1))
    return {"rows": len(stamps), "first": first, "last": last}


def recipe_fingerprint(parameters: Mapping[str, object]) -> str:
    """Name of what makes a forecaster from bars, whatever the bars: features, scale, model, training and levels."""
    train = {name: v for name, v in _mapping(parameters.get("train")).items() if name not in WITHOUT_EFFECT}
    parts = {name: parameters.get(name) for name in ("features", "scale", "model", "quantiles")}
    return fingerprint({**parts, "train": train})


def _leaves(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    if isinstance(value, Mapping) and (value or not path):
        for key, item in value.items():
            yield from _leaves(item, (*path, str(key)))
    else:
        yield path, value


def _keyed_by_text(data: object) -> object:
    if isinstance(data, list):
        rows = enumerate(data)
        return {_row_key(i, row): _keyed_by_text(row) for i, row in rows}
    return {key: _keyed_by_text(item) for key, item in data.items()} if isinstance(data, Mapping) else data


def _row_key(number: int, row: object) -> str:
    texts = [item for item in _mapping(row).values() if isinstance(item, str)]
    return "/".join(texts) or str(number)


def _starred(pattern: str, path: tuple[str, ...]) -> tuple[str, ...]:
    """What stands in `path` where `pattern` has stars; the mean of all is the metric itself."""
    pairs = zip(pattern.split("/"), path, strict=True)
    return tuple(part for wanted, part in pairs if "*" in wanted and part != "mean")


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _text(value: object) -> str:
    return json.dumps(value, default=str) if isinstance(value, dict | list | tuple) else str(value)


def _name(path: tuple[str, ...], separator: str = ".") -> str:
    """A name that MLflow takes: letters, digits, _ - . / and spaces, at most 250 characters."""
    return re.sub(r"[^\w\-. /]", "_", separator.join(path))[:250]


def _pipelines(run_params: Mapping[str, object]) -> str:
    names = run_params.get("pipeline_names")
    return ",".join(map(str, names)) if isinstance(names, list | tuple) and names else "__default__"


def git(project: Path, *arguments: str) -> str | None:
    """What git says of a folder; None outside a checkout or without git."""
    try:
        done = subprocess.run(
            ["git", "-C", str(project), *arguments], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("git %s: %s", arguments[0], error)
        return None
    return done.stdout.strip()
