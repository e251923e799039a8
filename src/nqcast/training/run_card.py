"""run.json: what the run of a directory is made of and whether it has ended; asked before another run begins."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nqcast.stopping import TrainingInterruptedError
from nqcast.storage.json_values import Json, read_object
from nqcast.storage.lock import is_held
from nqcast.storage.verified import replace_file
from nqcast.training.loggers import METRICS_NAME
from nqcast.training.resume import differing_keys

logger = logging.getLogger(__name__)

CARD = "run.json"
UNFINISHED, FINISHED, FAILED = "unfinished", "finished", "failed"


class OtherRunUnfinishedError(ValueError):
    """The latest run was stopped before its end and is not the one asked for."""


def refuse_other_unfinished(root: Path, directory: Path, content: Json) -> None:
    """Raise OtherRunUnfinishedError, naming the differing keys, where a new run would leave a stopped one behind.

    Only the latest run below `root` is asked, only where it has trained and no process works on it, and only when
    `directory` holds no run yet: an earlier run of the same content goes on, or is already done.
    """
    cards = [card for card in root.glob(f"*/{CARD}") if card.parent != directory]
    if (directory / CARD).exists() or not cards:
        return
    latest = max(cards, key=_touched)
    saved = _read(latest)
    trained = [path for path in latest.parent.glob("checkpoint_epoch_*") if path.name != "checkpoint_epoch_0000"]
    if saved.get("status") in (FINISHED, FAILED) or not trained or is_held(latest.parent):
        return
    differences = differing_keys(_flat(saved.get("content", {})), _flat(json.loads(_dump(content))), frozenset())
    raise OtherRunUnfinishedError(
        f"expected to go on with the unfinished run in {latest.parent}, found differences: {'; '.join(differences)}; "
        "set them back to go on with it, or start anew with --params train.resume=never"
    )


@contextmanager
def recorded(directory: Path, content: Json) -> Iterator[None]:
    """Keep run.json: unfinished from here on, finished when the block ends well, failed when it raises.

    A stop or a kill leaves it unfinished.
    """
    _write(directory, content, UNFINISHED)
    try:
        yield
    except TrainingInterruptedError:
        raise
    except Exception:
        try:
            _write(directory, content, FAILED)
        except OSError as error:  # a full disk is what has failed: its own message matters more
            logger.warning("%s could not be brought up to date: %s", directory / CARD, error)
        raise
    _write(directory, content, FINISHED)


def _write(directory: Path, content: Json, status: str) -> None:
    replace_file(directory / CARD, _dump({"status": status, "content": content}).encode())


def _dump(value: object) -> str:
    return json.dumps(value, indent=1, sort_keys=True, default=str)


def _read(card: Path) -> Json:
    try:
        return read_object(card.read_bytes(), card)
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read, so that its run counts as unfinished: %s", card, error)
        return {}


def status_of(directory: Path) -> str | None:
    """What the directory's card says of its run; None without one."""
    status = _read(directory / CARD).get("status") if (directory / CARD).exists() else None
    return None if status is None else str(status)


def _touched(card: Path) -> int:
    """Latest change of a run's card or metrics, in nanoseconds."""
    return max(path.stat().st_mtime_ns for path in (card, card.with_name(METRICS_NAME)) if path.exists())


def move_aside(directory: Path) -> None:
    """Move an earlier run's files into replaced_NNN, so that nothing is lost and nothing is mixed."""
    old = [*directory.glob("checkpoint_*"), *directory.glob(METRICS_NAME)]
    if not old:
        return
    numbers = [int(found[1]) for path in directory.iterdir() if (found := re.fullmatch(r"replaced_(\d+)", path.name))]
    aside = directory / f"replaced_{max(numbers, default=0) + 1:03d}"
    aside.mkdir()
    for path in old:
        path.rename(aside / path.name)
    logger.info("the earlier run was moved to %s", aside)


def _flat(value: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(value, dict):
        return {prefix.removesuffix("."): value}
    return {name: leaf for key, item in value.items() for name, leaf in _flat(item, f"{prefix}{key}.").items()}
