"""Many symbols as one data set: splits by date for all at once, tables on disk, and a loader in which all weigh alike.

Shapes as everywhere: N rows or anchors · F features · H horizons · B batch.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nqcast.batches import Batch
from nqcast.constants import CLOCK, SPLITS
from nqcast.data.config import SplitConfig
from nqcast.data.data_module import NQDataModule
from nqcast.data.splits import anchor_mask, label_end, make_splits, starts_by_share
from nqcast.data.windows import EpochLoader, WindowTable
from nqcast.fields import changed
from nqcast.spacing import Spacing

Tables = Mapping[str, Callable[[], pd.DataFrame]]
"""Feature tables by symbol; a call reads one, so that only one is in memory at a time."""


def pooled_splits(tables: Tables, config: SplitConfig) -> dict[str, pd.DataFrame]:
    """Anchors of every symbol, divided at the same dates, so that no symbol's future is in another's past.

    Fractions count the trading dates on which any symbol has an anchor. To each symbol's own purge comes one across
    symbols: an anchor goes whose label ends at or after the first bar of any symbol's window in a later split.

    Returns:
        By symbol the frame of `make_splits`, with window_start and label_end (UTC) beside each anchor.

    Raises:
        ValueError: a symbol has no anchor in a split; it is named.
    """
    dated = config if config.by_date else _dated(tables, config)
    found = {symbol: _own_splits(symbol, read(), dated) for symbol, read in tables.items()}
    for later in SPLITS[1:]:
        first = min(frame.loc[frame["split"] == later, "window_start"].min() for frame in found.values())
        earlier = SPLITS[: SPLITS.index(later)]
        for symbol, frame in found.items():
            found[symbol] = frame[~(frame["split"].isin(earlier) & (frame["label_end"] >= first))]
    check_no_future(found)
    return {symbol: frame.reset_index(drop=True) for symbol, frame in found.items()}


def check_no_future(splits: Mapping[str, pd.DataFrame]) -> None:
    """Prove that every label of a split ends before any symbol's first window of the next split begins.

    Raises:
        ValueError: one does not, or a symbol has no anchor in a split.
    """
    for symbol, frame in splits.items():
        if missing := [name for name in SPLITS if not (frame["split"] == name).any()]:
            raise ValueError(f"expected anchors of {symbol} in every split, found none in {missing}: move the dates")
    every = pd.concat([frame.assign(symbol=symbol) for symbol, frame in splits.items()], ignore_index=True)
    for before, after in pairwise(SPLITS):
        last = every.loc[every["split"] == before].sort_values("label_end").iloc[-1]
        first = every.loc[every["split"] == after].sort_values("window_start").iloc[0]
        if last["label_end"] >= first["window_start"]:
            raise ValueError(
                f"expected every label of {before} to end before {after} begins, found one of {last['symbol']} that "
                f"ends at {last['label_end']} and a window of {first['symbol']} from {first['window_start']}: purge"
            )


def _dated(tables: Tables, config: SplitConfig) -> SplitConfig:
    """The split by dates that has the shares of `config`, counted over all symbols' trading dates with anchors."""
    days = [np.empty(0, dtype="datetime64[D]")]
    for read in tables.values():
        frame = read()
        days.append(np.unique(frame["session"].to_numpy().astype("datetime64[D]")[anchor_mask(frame, config)]))
    _, validation, test, _ = starts_by_share(np.concatenate(days), config)
    return changed(config, {"validation_start": validation.item(), "test_start": test.item()})


def _own_splits(symbol: str, features: pd.DataFrame, config: SplitConfig) -> pd.DataFrame:
    validation, test = config.validation_start, config.test_start
    assert validation is not None and test is not None, "a pool is divided by date"
    first, last = (features["session"].iloc[row].date() for row in (0, -1))
    if first >= validation or last < test:
        raise ValueError(
            f"expected bars of every symbol from before {validation}, where validation begins, to {test}, where the "
            f"test does, found those of {symbol} from {first} to {last}: put all years of a symbol into one file, or "
            "take it out of the folder"
        )
    try:
        splits = make_splits(features, config)
    except ValueError as error:
        raise ValueError(f"{symbol}: {error}") from error
    ts, position = features["ts"].array, splits["position"].to_numpy()
    starts, ends = position - (Spacing.of(features["ts"]).rows(config.context) - 1), label_end(features)[position]
    return splits.assign(window_start=ts.take(starts), label_end=ts.take(ends))


class MappedTable(WindowTable):
    """A window table whose tensors are files: a gather reads the pages it needs, and the rest stays on disk.

    Its features are in the symbol's own training units, (x − mean) / deviation, as the network's first step would make
    them: symbols of other volatility then look alike.
    """

    def __init__(self, folder: Path, context: int) -> None:
        self.context, self.device = context, torch.device("cpu")
        self.features_NF, self.targets_NH = _mapped(folder, "features"), _mapped(folder, "targets")
        self.clock_N4, self.scale_NH = _mapped(folder, "clock"), _mapped(folder, "scale")
        self.unit_quantiles = _mapped(folder, "unit_quantiles")
        self.n_rows = len(self.features_NF)
        names: tuple[Literal["volatility", "realized"], ...] = ("volatility", "realized")
        self.per_row = {name: _mapped(folder, name) for name in names if _file(folder, name).exists()}


def write_table(module: NQDataModule, folder: Path) -> None:
    """Write a set-up module's table as the files of a MappedTable."""
    table = module.table
    folder.mkdir(parents=True, exist_ok=True)
    mean_F = torch.as_tensor(module.feature_mean_F, dtype=torch.float32)
    std_F = torch.as_tensor(module.feature_std_F, dtype=torch.float32)
    assert table.scale_NH is not None and table.unit_quantiles is not None
    tensors: dict[str, Tensor] = {
        "features": (table.features_NF - mean_F) / torch.where(std_F > 0, std_F, torch.ones_like(std_F)),
        **{"targets": table.targets_NH, "clock": table.clock_N4, "scale": table.scale_NH},
        "unit_quantiles": table.unit_quantiles,
    }
    tensors |= {str(name): tensor for name, tensor in table.per_row.items()}
    for name, tensor in tensors.items():
        _file(folder, name).unlink(missing_ok=True)  # whoever has the old file mapped keeps it
        np.save(_file(folder, name), tensor.numpy())


class PooledLoader(EpochLoader):
    """Batches over several symbols, each with the same number of windows per epoch.

    Args:
        tables: one per symbol.
        anchors: rows of each table at which windows end.
        batch_size: windows per batch.
        seed: the order of epoch e is drawn from (seed, e); None gives every symbol's anchors in time order, thinned
            evenly to the number of the symbol that has fewest.
        windows_per_epoch: windows of all symbols together; None takes as many as there are anchors. A symbol with
            fewer anchors than its share gives some of them again.
    """

    def __init__(
        self,
        tables: Sequence[WindowTable],
        anchors: Sequence[np.ndarray],
        batch_size: int,
        seed: int | None = None,
        windows_per_epoch: int | None = None,
    ) -> None:
        self.tables, self.anchors, self.batch_size, self.seed = tables, anchors, batch_size, seed
        counts = [len(rows) for rows in anchors]
        total = sum(counts) if windows_per_epoch is None else windows_per_epoch
        self.per_symbol = min(counts) if seed is None else max(total // len(tables), 1)
        self.n_windows = self.per_symbol * len(tables)

    def order(self) -> np.ndarray:
        """Symbol and row of each window of this epoch (n, 2), in the order in which they are handed out."""
        rng = None if self.seed is None else np.random.default_rng([self.seed, self.epoch])
        chosen = [self._drawn(rows, rng) for rows in self.anchors]
        pairs = np.stack([np.repeat(np.arange(len(chosen)), self.per_symbol), np.concatenate(chosen)], axis=1)
        return pairs if rng is None else rng.permutation(pairs)

    def _drawn(self, rows: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        if rng is None:
            return rows[np.linspace(0, len(rows) - 1, self.per_symbol).round().astype(int)]
        rounds = [rng.permutation(rows) for _ in range(-(-self.per_symbol // len(rows)))]
        return np.concatenate(rounds)[: self.per_symbol]

    def numbered(self, numbers: Iterable[int]) -> Iterator[Batch]:
        """Batches of this epoch with these numbers; inside a batch windows stand symbol by symbol."""
        order = self.order()
        for number in numbers:
            part = order[number * self.batch_size : (number + 1) * self.batch_size]
            yield _joined([
                self.tables[symbol].gather(part[part[:, 0] == symbol, 1], full=True) for symbol in np.unique(part[:, 0])
            ])  # fmt: skip


def _joined(batches: list[Batch]) -> Batch:
    """One batch of several; unit quantiles, which a symbol may share among its rows, become one table per row."""
    every: list[dict[str, Any]] = [dict(batch) for batch in batches]
    names = [name for name in ("features", "targets", "scale", "volatility", "realized") if name in every[0]]
    found: dict[str, Any] = {name: torch.cat([batch[name] for batch in every]) for name in names}
    found["unit_quantiles"] = torch.cat([_per_row(batch["unit_quantiles"], len(batch["features"])) for batch in every])
    found["temporal_info"] = {name: torch.cat([batch["temporal_info"][name] for batch in every]) for name in CLOCK}
    return cast(Batch, found)


def _per_row(unit: Tensor, rows: int) -> Tensor:
    return unit if unit.dim() == 3 else unit.expand(rows, *unit.shape)


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.npy"


def _mapped(folder: Path, name: str) -> Tensor:
    # "c": private pages, since torch has no read-only tensors; nothing writes to them
    return torch.from_numpy(np.load(_file(folder, name), mmap_mode="c"))
