"""One network over many symbols: each symbol has its own scale, base quantiles and feature moments; weights are shared.

From the shared weights each symbol goes on alone, and keeps what it learns where its validation is better. What comes
out is an ordinary checkpoint per symbol, so that forecasting, evaluation and export know nothing of pools. A symbol
that was never trained on gets one of the shared weights.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nqcast.constants import LEVELS
from nqcast.data.config import LoaderConfig, ScaleConfig, SplitConfig
from nqcast.data.data_module import NQDataModule
from nqcast.data.fingerprint import data_card
from nqcast.data.own_features import feature_names
from nqcast.data.pooled import MappedTable, PooledLoader, pooled_splits, write_table
from nqcast.data.scale import Scale
from nqcast.data.seasonal_har import MEMORY_SESSIONS, make_scale, scale_from_state
from nqcast.data.splits import anchor_rows, positions
from nqcast.fields import changed
from nqcast.model.config import ModelConfig
from nqcast.runs.recipe import agreed, choose
from nqcast.runs.run import Run
from nqcast.runs.train import train, train_inside
from nqcast.spacing import Spacing
from nqcast.storage.checkpoint import MEMBERS, Checkpoint, DataCard, Metadata
from nqcast.storage.fingerprint import fingerprint
from nqcast.storage.json_values import Json
from nqcast.training.config import TrainConfig
from nqcast.training.distributed.launch import processes_here

logger = logging.getLogger(__name__)

ALONE = "alone"  # folder of the runs that go on from the shared weights


@dataclass(frozen=True)
class Symbol:
    """A feature table by its reader, and the row of its instrument."""

    read: Callable[[], pd.DataFrame]
    instrument: dict[str, Any] | None = None


@dataclass(frozen=True)
class Member:
    """What is a symbol's own in a pool: scale, moments, base quantiles, anchors, and the table that it trains on."""

    own: Checkpoint  # tensors and metadata that its checkpoint has beside the shared ones
    splits: pd.DataFrame
    table: Path


@dataclass
class PooledData:
    """What `create_trainer` takes of a data module; the tables are in training units, so moments are 0 and 1."""

    train_loader: PooledLoader
    val_loader: PooledLoader
    unit_quantiles_HQ: np.ndarray
    feature_mean_F: np.ndarray
    feature_std_F: np.ndarray

    def setup(self) -> None:
        """Does nothing: loaders and moments are there from the start."""


@dataclass(frozen=True)
class PooledRun(Run):
    """A run on several symbols, weighted alike."""

    members: Mapping[str, Member]
    model: ModelConfig
    config: TrainConfig
    warm_start: Checkpoint | None = None

    @property
    def made_of(self) -> Json:
        """Fingerprint and splits of every symbol's table, and the settings of their scales."""
        symbols = {}
        for symbol, member in self.members.items():
            bounds = member.splits.groupby("split")["position"].agg(["min", "max", "count"]).to_dict()
            symbols[symbol] = {"data": member.own.metadata.data.fingerprint, "splits": bounds}
        first = next(iter(self.members.values()))
        return {"symbols": symbols, "scale": first.own.metadata.scale}

    @property
    def origin(self) -> Checkpoint:
        """What all is made of; scales are the symbols' own."""
        features = next(iter(self.members.values())).own.metadata.features
        return Checkpoint({}, self._metadata(DataCard(symbols=tuple(self.members)), {}, features))

    def data_module(self) -> PooledData:
        """Tables of all symbols, whose base quantiles are the mean of the symbols' own."""
        tables = [MappedTable(member.table, self.model.context) for member in self.members.values()]
        train_N, validation_N = (
            [positions(member.splits, name) for member in self.members.values()] for name in ("train", "validation")
        )
        size, drawn = self.config.batch_size, self.config.windows_per_epoch
        assert drawn != "auto", "the number of anchors has decided"
        bases = [member.own.tensors["model.head.base_HQ"] for member in self.members.values()]
        return PooledData(
            train_loader=PooledLoader(tables, train_N, size, self.config.seed, drawn),
            val_loader=PooledLoader(tables, validation_N, size),
            unit_quantiles_HQ=np.mean(bases, axis=0),
            feature_mean_F=np.zeros(self.model.n_features),
            feature_std_F=np.ones(self.model.n_features),
        )


class Pool(NamedTuple):
    """What training leaves: a checkpoint and the splits by symbol, the shared network's history, and that network.

    `shared` is a checkpoint of the first symbol by the weights that all symbols started from.
    """

    checkpoints: dict[str, Checkpoint]
    splits: dict[str, pd.DataFrame]
    history: list[Json]
    shared: Checkpoint


@dataclass(frozen=True)
class PoolRecipe:
    """Split, scale, model and training settings for any set of symbols."""

    split: SplitConfig
    scale: ScaleConfig
    model: ModelConfig
    train: TrainConfig
    quantiles: tuple[float, ...] = LEVELS

    def make(self, symbols: Mapping[str, Symbol], root: Path) -> Pool:
        """Train below `root`, all symbols as one and then each alone.

        One symbol's table is in memory at a time; what is trained on lies in files below `root` while it is needed.
        """
        if processes_here(self.train) * self.train.hosts > 1:
            raise ValueError(
                f"expected one process for a pool of symbols, found {processes_here(self.train) * self.train.hosts}: "
                "set train.devices=1"
            )
        if self.train.refit is True:
            raise ValueError("expected a pool of symbols to be trained once, found train.refit=true: set it to false")
        splits = pooled_splits({symbol: s.read for symbol, s in symbols.items()}, self.split)
        train_anchors = [frame[frame["split"] == "train"] for frame in splits.values()]
        scale = self.scale
        if scale.long_memory == "auto":  # one network takes one set of predictors: the shortest history decides
            enough = min(int(anchors["session"].nunique()) for anchors in train_anchors) >= MEMORY_SESSIONS
            scale = changed(scale, {"long_memory": enough})
        once, spacing = changed(self.train, {"refit": False}), Spacing.of(train_anchors[0]["ts"])
        model, loop = choose(self.model, once, sum(map(len, train_anchors)), spacing, scale.long_memory)
        with _tables(root, [*symbols, self.scale.model_dump_json(), self.split.model_dump_json()]) as folder:
            members = {
                symbol: _member(s, splits[symbol], folder / symbol, make_scale(scale, self.quantiles), model)
                for symbol, s in sorted(symbols.items())
            }
            first = next(iter(members.values())).own
            fitted = scale_from_state(first.part("scale"), first.metadata.scale)
            configs = agreed(model, loop, fitted, len(first.metadata.features))
            network, history = train(PooledRun(members, *configs), root)
            apart = root / ALONE / network.metadata.fingerprint  # a stopped one stands in no other pool's way
            alone = _alone(network, members, *configs, apart) if len(members) > 1 else {}
        checkpoints = {symbol: joined(alone.get(symbol, network), one.own, symbol) for symbol, one in members.items()}
        return Pool(checkpoints, splits, history, joined(network, first, next(iter(members))))


def _alone(
    network: Checkpoint, members: Mapping[str, Member], model: ModelConfig, config: TrainConfig, root: Path
) -> dict[str, Checkpoint]:
    """The networks of the symbols that go on better alone from the shared weights, by validation, with its settings.

    What is shared is learnt from all; a symbol that moves otherwise is not held to it (docs/log.md).
    """
    found, drawn = {}, config.windows_per_epoch
    assert drawn != "auto", "the number of anchors has decided"
    own = changed(config, {"windows_per_epoch": drawn and max(drawn // len(members), 1)})
    for symbol, member in members.items():
        run = PooledRun({symbol: member}, model, own, warm_start=network)
        logger.info("%s alone, from the shared weights", symbol)
        alone, _ = train_inside(run, root, symbol)
        if alone.metadata.epoch:
            data = replace(alone.metadata.data, pool=network.metadata.fingerprint)
            found[symbol] = replace(alone, metadata=replace(alone.metadata, data=data))
    return found


def _member(symbol: Symbol, splits: pd.DataFrame, table: Path, scale: Scale, model: ModelConfig) -> Member:
    features = symbol.read()
    fitted = scale.fit(features, positions(splits, "train"))
    module = _module(features, splits, fitted, model.at(fitted.spacing).context)
    write_table(module, table)
    return Member(own_parts(module, data_card(features, symbol.instrument)), splits, table)


def own_parts(module: NQDataModule, card: DataCard) -> Checkpoint:
    """Scale, base quantiles and feature moments of a symbol, as a checkpoint holds them."""
    arrays, scalars = module.scale.state()
    std_F = module.feature_std_F
    tensors = {f"scale.{name}": array for name, array in arrays.items()}
    tensors |= {
        "model.head.base_HQ": module.unit_quantiles_HQ.astype(np.float32),
        "model.norm.feature_mean_F": module.feature_mean_F.astype(np.float32),
        "model.norm.feature_std_F": np.where(std_F > 0, std_F, 1.0).astype(np.float32),
    }
    return Checkpoint(tensors, Metadata(data=card, scale=scalars, features=feature_names(module.features)))


def joined(network: Checkpoint, own: Checkpoint, symbol: str) -> Checkpoint:
    """An ordinary checkpoint: the network's weights, and what is the symbol's own in place of the pool's.

    Its data card names the symbol and the pool.
    """
    pool = network.metadata.data.pool or network.metadata.fingerprint
    data = replace(own.metadata.data, symbol=symbol, pool=pool)
    name = fingerprint([network.metadata.fingerprint, data.to_json(), own.metadata.scale])
    metadata = replace(network.metadata, data=data, scale=own.metadata.scale, fingerprint=name)
    tensors = dict(own.tensors)
    if network.members:
        numbers = range(network.members)
        tensors = {f"scale.{name}": array for name, array in own.part("scale").items()}
        tensors |= {f"{MEMBERS}{k}.{name}": array for k in numbers for name, array in own.part("model").items()}
    return Checkpoint(network.tensors | tensors, metadata)


def adopted(
    checkpoint: Checkpoint,
    features: pd.DataFrame,
    symbol: str,
    warmup_bars: int,
    instrument: dict[str, Any] | None = None,
) -> Checkpoint:
    """A checkpoint for a symbol that no network has seen: the shared weights of another symbol's checkpoint, and a
    scale, base quantiles and moments fitted on this symbol's own history, all of it.

    Raises:
        ValueError: the history is too short for a scale.
    """
    context, warmup = checkpoint.metadata.context, checkpoint.metadata.spacing.rows(warmup_bars)
    anchors = np.flatnonzero(anchor_rows(features, context, warmup))
    if len(anchors) < 100:
        raise ValueError(
            f"expected 100 bars of {symbol} with a target and {warmup} bars before them, found {len(anchors)}: "
            "bring a longer history"
        )
    rows = features.iloc[anchors]
    splits = pd.DataFrame({"position": anchors, "ts": rows["ts"].array, "session": rows["session"].array})
    scale_card = checkpoint.metadata.scale
    scale = make_scale(ScaleConfig(**scale_card["config"]), scale_card["levels"]).fit(features, anchors)
    module = _module(features, splits.assign(split="train"), scale, context)
    shared = {name: array for name, array in checkpoint.tensors.items() if name.startswith("model.")}
    return joined(replace(checkpoint, tensors=shared), own_parts(module, data_card(features, instrument)), symbol)


def _module(features: pd.DataFrame, splits: pd.DataFrame, scale: Scale, context: int) -> NQDataModule:
    return NQDataModule.from_frames(features, splits, scale, loader=LoaderConfig(context=context, volatility=True))


@contextmanager
def _tables(root: Path, made_of: list[str]) -> Iterator[Path]:
    """A folder for the tables of these settings, gone when they have been trained on."""
    folder = root / f".tables_{fingerprint(made_of)}"
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
