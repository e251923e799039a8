"""Batches of windows: what one holds, how it is cut, and the order in which a network takes its parts.

Shapes: B windows · T bars · F features · H horizons · Q levels · K predictors of the scale.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Protocol, Required, TypedDict, cast

import torch
from torch import Tensor, nn


class Batch(TypedDict, total=False):
    """Windows and what is known beside them. Training also needs the targets."""

    features: Required[Tensor]  # (B, T, F), in their own units
    targets: Tensor  # (B, H) in return units, NaN where undefined
    attention_mask: Tensor | None  # (B, T), True where a bar is real; without it all are
    temporal_info: dict[str, Tensor] | None  # integer clocks, each (B, T)
    scale: Tensor | None  # (B, H) in return units
    unit_quantiles: Tensor | None  # quantiles of y/scale: (H, Q) for all windows, or (B, H, Q)
    volatility: Tensor  # (B, K), in training deviations
    realized: Tensor  # (B, H), realized volatility over the horizon, in scales


class Batches(Protocol):
    """What training asks of a loader; one that also has `set_epoch(epoch)` or `numbered(numbers)` is asked by them."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...


def model_inputs(batch: Batch) -> tuple[Tensor | dict[str, Tensor] | None, ...]:
    """What a network takes of a batch, in the order of its arguments; None for what the batch has not.

    The scale's predictors come last, and only where there are some: a network without a place for them need not know.
    """
    inputs = (
        *(batch["features"], batch.get("attention_mask"), batch.get("temporal_info")),
        *(batch.get("scale"), batch.get("unit_quantiles")),
    )
    return inputs if batch.get("volatility") is None else (*inputs, batch["volatility"])


def outputs(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """What the model gives for a batch, with "quantiles" (B, H, Q) in return units."""
    return model(*model_inputs(batch))


def n_windows(batch: Batch) -> int:
    return len(batch["features"])


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`; free where they already are there."""

    def moved(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: moved(item) for name, item in value.items()}
        return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value

    return cast(Batch, moved(batch))


def rows_of(batch: Batch, rows: slice) -> Batch:

    def cut(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cut(key, item) for key, item in value.items()}
        shared = name == "unit_quantiles" and getattr(value, "ndim", 0) == 2  # one table serves all windows
        return value if shared or not isinstance(value, Tensor) else value[rows]

    return cast(Batch, {name: cut(name, value) for name, value in batch.items()})


def parts(batch: Batch, n: int) -> list[Batch]:
    """The batch in at most `n` pieces of whole windows, in order; [batch] for n = 1."""
    if n == 1:
        return [batch]
    total = n_windows(batch)
    size = -(-total // min(n, total))
    return [rows_of(batch, slice(start, start + size)) for start in range(0, total, size)]


def piece(batch: Batch, i: int, n: int) -> Batch:
    """Piece `i` of `n` nearly equal ones; one window without a defined target where there is no window left for it."""
    if n == 1:
        return batch
    total = n_windows(batch)
    start, stop = total * i // n, total * (i + 1) // n
    if start < stop:
        return rows_of(batch, slice(start, stop))
    empty = rows_of(batch, slice(0, 1))
    return {**empty, "targets": torch.full_like(empty["targets"], torch.nan)}


def numbered(loader: Batches, numbers: Iterable[int]) -> Iterator[Batch]:
    """Batches of these numbers, rising; a loader that has `numbered` itself need not draw the others."""
    own: Any = getattr(loader, "numbered", None)
    if own is not None:
        return iter(own(numbers))
    wanted = set(numbers)
    return (batch for number, batch in enumerate(loader) if number in wanted)


def groups(loader: Batches, start: int, size: int) -> Iterator[list[Batch]]:
    """Groups of `size` batches from number `start` on; the last one may be shorter."""
    batches = numbered(loader, range(start, len(loader)))
    while group := list(islice(batches, size)):
        yield group
