"""Whether bars can be believed: what is doubted about a file, and whether that ends the run."""

from __future__ import annotations

import logging
from typing import Any, TypedDict

from nqcast.market.config import IngestConfig
from nqcast.market.tables import read_table

logger = logging.getLogger(__name__)


class Doubt(TypedDict):
    """What is doubted, in how many places, and the words for it."""

    check: str
    count: int
    detail: str


def as_doubt(kind: str, count: int, **found: Any) -> Doubt:
    """A doubt of a kind of doubts.yml, in how many places, in its words with what was found in them."""
    return {"check": kind.partition("/")[0], "count": count, "detail": read_table("doubts")[kind].format(**found)}


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
