"""From a folder of files by symbol to a feature table per symbol.

symbol_files → one partition of features per symbol.
"""

import logging
from collections.abc import Iterator
from typing import Any

from kedro.pipeline import Node, Pipeline

from nqcast.data.config import FeaturesConfig
from nqcast.market.config import IngestConfig
from nqcast.symbols.schedule import PartitionsConfig, run_all

logger = logging.getLogger(__name__)


def build_symbol_features(
    symbol_files: dict[str, Any],
    finished_symbols: dict[str, Any],
    ingest: IngestConfig,
    features: FeaturesConfig,
    instruments: dict[str, Any],
    partitions: PartitionsConfig,
    horizons: list[str],
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each symbol as it ends: its partition, and its line in the log (finished, skipped or failed).

    Raises:
        ValueError: at the end, where symbols failed, with each one's reason; the others are saved by then.
    """
    from nqcast.symbols.build import build_symbol, tasks_of

    tasks = tasks_of(symbol_files, ingest, features, instruments, horizons)
    finished = [task for task in tasks if task.partition in finished_symbols]
    for task in finished:
        yield {}, {"symbol": task.symbol, "partition": task.partition, "status": "skipped"}
    failed = []
    for task, found in run_all([task for task in tasks if task not in finished], build_symbol, partitions):
        line = {"symbol": task.symbol, "partition": task.partition}
        if isinstance(found, Exception):
            failed.append(f"{task.symbol}: {found}")
            yield {}, {**line, "status": "failed", "error": str(found)}
            continue
        logger.info("%s: %s rows, %s bars, %s s", *(found.record[name] for name in _LOGGED))
        yield {task.partition: {"frame": found.frame, "record": found.record}}, {**line, "status": "finished"}
    if failed:
        raise ValueError(
            f"expected features of {len(tasks)} symbols, found {len(failed)} that failed; the others are saved and "
            f"are skipped when this runs again. {'; '.join(failed)}"
        )


_LOGGED = ("symbol", "rows_in", "bars", "seconds")


def create_pipeline() -> Pipeline:
    return Pipeline(
        [
            Node(
                build_symbol_features,
                inputs=[
                    *("symbol_files", "finished_symbols"),
                    *("params:ingest", "params:features", "params:instruments", "params:partitions"),
                    "params:horizons",
                ],
                outputs=["symbol_features", "symbol_log"],
                name="build_symbol_features",
            )
        ]
    )
