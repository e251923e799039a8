"""A folder of files by symbol: features of each, one network over all, its validation and forecasts by symbol.

symbol_files → one partition of symbol_features a symbol → pool_checkpoints → symbol_models, pool → symbol_forecasts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline

from nqcast.data.config import FeaturesConfig, ScaleConfig, SplitConfig
from nqcast.data.splits import positions
from nqcast.evaluation.config import EvaluateConfig
from nqcast.forecast.config import ForecastConfig
from nqcast.market.config import IngestConfig
from nqcast.market.vendor import read_bars
from nqcast.model.config import ModelConfig
from nqcast.storage.checkpoint import Checkpoint
from nqcast.symbols.schedule import PartitionsConfig, run_all
from nqcast.training.config import TrainConfig

logger = logging.getLogger(__name__)

SHARED = "shared"
Partitions = dict[str, Callable[[], dict[str, Any]]]

_LOGGED = ("symbol", "rows_in", "bars", "seconds")


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


def choose_symbols(
    symbol_features: Partitions,
    symbol_files: dict[str, Path],
    ingest: IngestConfig,
    features: FeaturesConfig,
    instruments: dict[str, Any],
    horizons: list[str],
) -> dict[str, Callable[[], dict[str, Any]]]:
    """The readers of these files' feature tables: of these settings and no others, whatever else the folder holds."""
    from nqcast.symbols.build import tasks_of

    tasks = tasks_of(symbol_files, ingest, features, instruments, horizons)
    return {task.symbol: symbol_features[task.partition] for task in tasks}


def train_pool(
    pool_tables: Partitions,
    run_directory: Path,
    split: SplitConfig,
    scale: ScaleConfig,
    model: ModelConfig,
    train: TrainConfig,
    quantiles: list[float],
) -> tuple[dict[str, Checkpoint], dict[str, pd.DataFrame], list[dict[str, Any]], Checkpoint]:
    """A checkpoint and the splits by symbol, the history of the shared network, and that network."""
    from nqcast.runs.pooled import PoolRecipe, Symbol

    symbols = {
        name: Symbol(lambda read=read: read()["frame"], read()["record"].get("instrument"))  # type: ignore[misc]
        for name, read in pool_tables.items()
    }
    return PoolRecipe(split, scale, model, train, tuple(quantiles)).make(symbols, run_directory)


def validate_symbols(
    pool_checkpoints: dict[str, Checkpoint],
    pool_splits: dict[str, pd.DataFrame],
    pool_tables: Partitions,
    finished_models: Partitions,
    config: EvaluateConfig,
    shared: Checkpoint,
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Each symbol's checkpoint with validation metrics and calibration, its line in the log; and the shared one.

    The shared network has learnt from all symbols and lends its weights to those that it has never seen.
    """
    from nqcast.evaluation.calibration import calibration_of
    from nqcast.forecast.predictor import predict_frame
    from nqcast.runs.train import validation_report

    for symbol, checkpoint in pool_checkpoints.items():
        metadata = checkpoint.metadata
        partition = partition_of(symbol, metadata.fingerprint)
        if partition in finished_models:
            yield {}, {"symbol": symbol, "partition": partition, "status": "skipped"}
            continue
        features, splits = pool_tables[symbol]()["frame"], pool_splits[symbol]
        train, validation = (positions(splits, name) for name in ("train", "validation"))
        metrics = validation_report(checkpoint, features, train, validation, config)
        frame = predict_frame(checkpoint, features, validation, config)
        calibration = calibration_of(frame, checkpoint, config).to_json()
        record = {"symbol": symbol, "pool": metadata.data.pool, "validation": metrics, "calibration": calibration}
        yield (
            {partition: {"frame": frame, "record": record, "checkpoint": checkpoint}},
            {"symbol": symbol, "partition": partition, "status": "finished"},
        )
    partition = partition_of(SHARED, shared.metadata.fingerprint)
    if partition not in finished_models:
        record = {"pool": shared.metadata.data.pool}
        lent = {partition: {"frame": pd.DataFrame(), "record": record, "checkpoint": shared}}
        yield lent, {"symbol": None, "partition": partition, "status": "finished"}


def describe_pool(
    pool_checkpoints: dict[str, Checkpoint], symbol_models: Partitions, shared: Checkpoint
) -> dict[str, Any]:
    """Partitions of each symbol and of the shared network, validation metrics, their means, and a table to read."""
    symbols = {}
    for symbol, checkpoint in pool_checkpoints.items():
        partition = partition_of(symbol, checkpoint.metadata.fingerprint)
        symbols[symbol] = {"partition": partition, **symbol_models[partition]()["record"]["validation"]}
    names = ("skill_seasonal_har", "skill_constants", "picp_80", "picp_50")
    every = {name: sum(row[name] for row in symbols.values()) / len(symbols) for name in names}
    rows = [*symbols.items(), ("all", every)]
    lines = [
        f"  {symbol:<12}{100 * row['skill_constants']:>+11.2f}{100 * row['skill_seasonal_har']:>+13.2f}"
        f"{100 * row['picp_80']:>9.1f}{100 * row['picp_50']:>8.1f}"
        for symbol, row in rows
    ]
    text = "\n".join([
        f"One network over {len(symbols)} symbols, on validation: skill over constants and over each\n"
        "symbol's own scale (%), and what the 80 % and 50 % intervals cover (%)",
        f"  {'symbol':<12}{'constants':>11}{'SeasonalHAR':>13}{'80 %':>9}{'50 %':>8}",
        *lines,
    ])  # fmt: skip
    lent = partition_of(SHARED, shared.metadata.fingerprint)
    return {"pool": shared.metadata.data.pool, "shared": lent, "symbols": symbols, "all": every, "text": text}


def forecast_symbols(
    symbol_files: dict[str, Path],
    pool: dict[str, Any],
    symbol_models: Partitions,
    config: ForecastConfig,
    ingest: IngestConfig,
    features: FeaturesConfig,
    instruments: dict[str, Any],
    split: SplitConfig,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A forecast from the newest bars of every file: by its own checkpoint, or by one made for a new symbol.

    Raises:
        ValueError: no file's bars carry a forecast; every reason is told.
    """
    from nqcast.forecast.loading import load
    from nqcast.forecast.text import forecast_text
    from nqcast.runs.pooled import adopted
    from nqcast.symbols.build import features_of, tasks_of

    frames, texts, refused = [], [], {}
    lent = pool.get("shared") or next(iter(pool["symbols"].values()))["partition"]  # before, all had the same weights
    known = symbol_models[lent]()["checkpoint"]
    grid = ingest.at(known.metadata.spacing)
    for task in tasks_of(symbol_files, grid, features, instruments, known.metadata.horizons):
        try:
            raw = read_bars(task.path)
            if task.symbol in pool["symbols"]:
                partition = symbol_models[pool["symbols"][task.symbol]["partition"]]()
                checkpoint, calibration = partition["checkpoint"], partition["record"]["calibration"]
            else:
                row = task.ingest.instrument.model_dump(mode="json")
                checkpoint = adopted(known, features_of(raw, task), task.symbol, split.warmup_bars, row)
                calibration = None
            issued = load(checkpoint, calibration, config, ingest=task.ingest).issue(raw)
        except ValueError as error:  # one file that is refused keeps no other from its forecast
            refused[task.symbol] = str(error)
            logger.warning("%s: no forecast: %s", task.symbol, error)
            continue
        new = "" if task.symbol in pool["symbols"] else ", new to the network"
        texts.append(f"{task.symbol}{new}\n{forecast_text(issued)}")
        frames.append(issued.forecast.assign(symbol=task.symbol))
    if not frames:
        raise ValueError(
            "expected bars that carry a forecast, found none: " + "; ".join(map(": ".join, refused.items()))
        )
    return pd.concat(frames, ignore_index=True), {"refused": refused, "text": "\n\n".join([*texts, pool["text"]])}


def partition_of(symbol: str, fingerprint: str) -> str:
    """Name of a symbol's model: other weights, data or settings give another."""
    return f"{symbol}-{fingerprint}"


_SETTINGS = ["params:ingest", "params:features", "params:instruments"]


def create_features_pipeline() -> Pipeline:
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


def create_pipeline() -> Pipeline:
    return (
        Pipeline(
            [
                Node(
                    choose_symbols,
                    inputs=["symbol_features", "symbol_files", *_SETTINGS, "params:horizons"],
                    outputs="pool_tables",
                    name="choose_symbols",
                ),
                Node(
                    train_pool,
                    inputs=[
                        *("pool_tables", "run_directory", "params:split", "params:scale"),
                        *("params:model", "params:train", "params:quantiles"),
                    ],
                    outputs=["pool_checkpoints", "pool_splits", "pool_history", "pool_network"],
                    name="train_pool",
                ),
                Node(
                    validate_symbols,
                    inputs=[
                        *("pool_checkpoints", "pool_splits", "pool_tables", "finished_models", "params:evaluate"),
                        "pool_network",
                    ],
                    outputs=["symbol_models", "model_log"],
                    name="validate_symbols",
                ),
                Node(
                    describe_pool,
                    inputs=["pool_checkpoints", "symbol_models", "pool_network"],
                    outputs="pool",
                    name="describe_pool",
                ),
            ]
        )
        + create_forecast_pipeline()
    )


def create_forecast_pipeline() -> Pipeline:
    return Pipeline(
        [
            Node(
                forecast_symbols,
                inputs=["symbol_files", "pool", "symbol_models", "params:forecast", *_SETTINGS, "params:split"],
                outputs=["symbol_forecasts", "symbol_forecasts_summary"],
                name="forecast_symbols",
            )
        ]
    )
