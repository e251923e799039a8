"""A verdict that nobody can tune to: settings, code, bars and the question are written down first, then scored once."""

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import nqcast
from nqcast.data.fingerprint import fingerprint
from nqcast.experiments.config import ExperimentSettings, VerdictConfig
from nqcast.experiments.folds import plan_folds
from nqcast.storage.fingerprint import digest

VERDICT, WALK_FORWARD = "verdict", "walk_forward"


def registration(features: pd.DataFrame, settings: ExperimentSettings, config: VerdictConfig) -> dict[str, Any]:
    """What a verdict will be held to: question, settings, version and hash of the code, hash of the bars, sessions.

    Equal settings, code and bars have an equal `id`; the time of registration is no part of it.
    """
    folds = plan_folds(features, settings.split, config.folds)
    content = {
        "question": config.question,
        "settings": {**settings.model_dump(mode="json"), "verdict": config.model_dump(mode="json")},
        "version": nqcast.__version__,
        "code": code_hash(),
        "data": fingerprint(features),
        "sessions": [folds[0].dates["test_start"], folds[-1].dates["test_end"]],
    }
    name = digest(repr(sorted(content.items())).encode(), 16)
    return {"id": name, "registered": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), **content}


def code_hash() -> str:
    """First 16 hexadecimal digits of the SHA-256 of every source file and table of the package."""
    root = Path(nqcast.__file__).parent
    files = sorted(path for path in root.rglob("*") if path.suffix in {".py", ".csv", ".yml", ".cpp", ".h"})
    return digest((str(path.relative_to(root)).encode() + path.read_bytes() for path in files), 16)


def refuse_another(registered: Mapping[str, Any], found: Mapping[str, Any], uses: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError where `found` is not what was registered, or was scored before."""
    if differing := _differing(registered, found):
        raise ValueError(
            f"expected what was registered on {registered['registered']}, found another {', '.join(differing)}: "
            "take that back, or register anew and say why"
        )
    scored = [use["time"] for use in uses if use.get("registration") == registered["id"]]
    if scored:
        raise ValueError(
            f"expected a verdict that is asked once, found {registered['id']} scored on {scored[0]}: read "
            "verdict_scores, or register another question"
        )


def _differing(registered: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Names of what differs; inside the settings with their path, such as settings.train.epochs."""
    names = []
    for key, value in registered.items():
        if key in ("id", "registered") or found.get(key) == value:
            continue
        if isinstance(value, dict) and isinstance(found.get(key), dict):
            both = dict.fromkeys((*value, *found[key]))
            inner = _differing({k: value.get(k) for k in both}, found[key])
            names += [f"{key}.{name}" for name in inner]
        else:
            names.append(key)
    return names
