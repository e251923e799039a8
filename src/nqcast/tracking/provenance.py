"""What made a run: code, session and data."""

import logging
import subprocess
from pathlib import Path
from typing import Any

from nqcast.storage.checkpoint import Checkpoint
from nqcast.storage.json_values import fingerprint
from nqcast.tracking.flatten import redact, shorten
from nqcast.training.config import FREE_ON_RESUME

log = logging.getLogger(__name__)

RECIPE_TAG = "nqcast.recipe"
_WITHOUT_EFFECT = FREE_ON_RESUME - {"epochs", "patience"}


def git_tags(project: Path) -> dict[str, str]:
    """The commit and whether tracked files differ from it; nothing outside a checkout or without git."""
    commit = _git(project, "rev-parse", "HEAD")
    if commit is None:
        return {}
    changes = _git(project, "status", "--porcelain", "--untracked-files=no")
    return {"mlflow.source.git.commit": commit, "git.dirty": str(bool(changes)).lower()}


def run_tags(run_params: dict[str, Any], version: str) -> dict[str, str]:
    """Tags from Kedro's description of a run."""
    names = run_params.get("pipeline_names") or ["__default__"]
    session = run_params.get("run_id") or run_params.get("session_id") or ""
    tags = {
        "kedro.session_id": session,
        "kedro.pipeline": ",".join(names),
        "kedro.env": run_params.get("env") or "",
        "kedro.runner": run_params.get("runner") or "",
        "nqcast.version": version,
        "mlflow.source.type": "PROJECT",
        "mlflow.source.name": f"kedro run --pipelines {','.join(names)}",
    }
    return {name: shorten(redact(str(value))) for name, value in tags.items() if value}


def data_tags(entry: str, facts: dict[str, str]) -> dict[str, str]:
    """Version and content hash of a catalog entry that the run read or wrote."""
    return {f"data.{entry}.{name}": facts[name] for name in ("version", "sha256") if name in facts}


def fingerprint_tags(data: Any) -> dict[str, str]:
    """Fingerprints that a checkpoint's metadata carries."""
    return {"fingerprint": shorten(data.metadata.fingerprint)} if isinstance(data, Checkpoint) else {}


def recipe_fingerprint(parameters: dict[str, Any]) -> str:
    """Name of what makes a forecaster from bars, whatever the bars: features, scale, model, training and levels."""
    train = {name: value for name, value in (parameters.get("train") or {}).items() if name not in _WITHOUT_EFFECT}
    parts = {name: parameters.get(name) for name in ("features", "scale", "model", "quantiles")}
    return fingerprint({**parts, "train": train})


def walk_forward_loss(scores: dict[str, Any]) -> tuple[float, str]:
    """The model's mean pinball loss over all folds, and what it was measured on; equal names are equal anchors.

    The constants' loss is part of the name: folds cut otherwise fit other constants.
    """
    table = scores["table"]
    anchors = f"{scores['anchors']}; constants {table['constants']['mean']['mean_pinball']:.12g}"
    return float(table["model"]["mean"]["mean_pinball"]), anchors


def _git(project: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(project), *arguments], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        log.debug("tracking: git %s: %s", arguments[0], error)
        return None
    return done.stdout.strip()
