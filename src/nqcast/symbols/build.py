"""One symbol: from its file to its feature table, by the functions that serve a single market."""

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nqcast import __version__
from nqcast.data.config import FeaturesConfig
from nqcast.data.features import build_features
from nqcast.fields import changed
from nqcast.horizons import DEFAULT
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.vendor import read_bars
from nqcast.storage.fingerprint import fingerprint
from nqcast.storage.verified import sha256_of
from nqcast.symbols.foreign import instrument_of, own_features


@dataclass(frozen=True)
class SymbolTask:
    """What one worker is asked for; small, so that it travels. `fingerprint` tells file and settings apart."""

    symbol: str
    path: str
    fingerprint: str
    ingest: IngestConfig
    features: FeaturesConfig
    horizons: tuple[str, ...] = DEFAULT

    @property
    def partition(self) -> str:
        """Name of the result: the same file with the same settings gives the same name."""
        return f"{self.symbol}-{self.fingerprint}"


@dataclass(frozen=True)
class SymbolFeatures:
    """A feature table as the bytes of a parquet file (encoded where it was made, half the size), and its record."""

    frame: bytes
    record: dict[str, Any]


def tasks_of(
    files: Mapping[str, Path],
    ingest: IngestConfig,
    features: FeaturesConfig,
    instruments: Mapping[str, dict[str, Any]] | None = None,
    horizons: Sequence[str] = DEFAULT,
) -> list[SymbolTask]:
    """One task per symbol, in the order of their names; reads every file once to tell its content.

    A file whose name begins with a symbol of the table of instruments, or of the user's own rows, is of that
    instrument (EURUSD.parquet, eurusd_1m_2018.csv); any other is of the run's.
    """
    tasks = []
    for symbol, path in sorted(files.items()):
        row = instrument_of(symbol, instruments or {})
        chosen = (ingest, features)
        if row is not None and row.symbol != ingest.instrument.symbol:
            of_row = {"instrument": row, "tick": row.tick}
            chosen = changed(ingest, of_row), changed(features, {"tick": row.tick})
        names = tuple(horizons)
        tasks.append(SymbolTask(symbol, str(path), fingerprint_of(path, *chosen, names), *chosen, names))
    return tasks


def fingerprint_of(
    path: Path, ingest: IngestConfig, features: FeaturesConfig, horizons: tuple[str, ...] = DEFAULT
) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the file's content, the settings and this version."""
    settings = [__version__, ingest.model_dump(mode="json"), features.model_dump(mode="json", exclude={"own"})]
    settings += [feature.name for feature in own_features(features.own, ingest)]
    settings += [] if horizons == DEFAULT else [horizons]
    return fingerprint([sha256_of(path), *settings])


def features_of(raw: pd.DataFrame, task: SymbolTask) -> pd.DataFrame:
    """The feature table of bars at hand, by a task's settings."""
    return _built(raw, task)[0]


def _built(raw: pd.DataFrame, task: SymbolTask) -> tuple[pd.DataFrame, dict[str, Any]]:
    volume = task.ingest.volume and task.features.has_volume(raw)
    ingested = build_bars(raw, changed(task.ingest, {"volume": volume}))
    own = own_features(task.features.own, task.ingest)
    return build_features(ingested.bars, task.features, own, task.horizons), ingested.report


def build_symbol(task: SymbolTask) -> SymbolFeatures:
    """Read, check, aggregate and compute; ValueError where the file is refused, as for a single market."""
    started = time.perf_counter()
    table, report = _built(read_bars(task.path), task)
    buffer = io.BytesIO()
    table.to_parquet(buffer, engine="pyarrow", compression="zstd")
    record = {
        **{"symbol": task.symbol, "fingerprint": task.fingerprint, "file": Path(task.path).name},
        **{"instrument": task.ingest.instrument.model_dump(mode="json")},
        **{name: report[name] for name in ("rows_in", "bars", "quarantined", "rolls", "first_bar", "last_bar")},
        **{"doubts": len(report["doubts"]), "seconds": round(time.perf_counter() - started, 3)},
    }
    return SymbolFeatures(buffer.getvalue(), record)
