"""Whether bars can be believed: what is doubted about a file, and whether that ends the run."""

from __future__ import annotations

import logging
from typing import TypedDict

from nqcast.market.config import IngestConfig

logger = logging.getLogger(__name__)


class Doubt(TypedDict):
    """What is doubted, in how many places, and the words for it."""

    check: str
    count: int
    detail: str


def as_doubt(check: str, count: int, detail: str) -> Doubt:
    """What is doubted, in how many places, and the words for it."""
    return {"check": check, "count": count, "detail": detail}


def stop_or_warn(found: list[Doubt], config: IngestConfig) -> list[Doubt]:
    """The doubts, each said aloud; ValueError for the first of them where doubtful files are to stop."""
    for doubt in found:
        message = f"{doubt['check']}: {doubt['detail']}"
        if config.doubtful == "stop":
            raise ValueError(
                f"expected a file of bars that can be trusted, found {message}. Correct the file, or set "
                "ingest.doubtful=warn to use it all the same"
            )
        logger.warning("%s. The file is used all the same, as ingest.doubtful=warn asks", message)
    return found
