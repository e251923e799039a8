"""Validation: one pass over the loader, sums on the device, names and skills at the end."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nqcast.training.device import Precision, to_device
from nqcast.training.distributed.team import Team, numbered
from nqcast.training.loss_functions import MetricSums
from nqcast.training.out_of_memory import OutOfMemoryError, explanation, is_out_of_memory, parts
from nqcast.training.step import Batch, forecast


@torch.no_grad()
def validation_sums(
    model: nn.Module,
    loader: Iterable[Batch],
    precision: Precision,
    levels: Sequence[float],
    stop: Callable[[], bool] = lambda: False,
    splits: int = 1,
    team: Team | None = None,
) -> MetricSums | None:
    """Sums over the loader in evaluation mode; None when `stop` interrupts it. Raises ValueError when it is empty.

    Each batch goes through the model in `splits` pieces. The ranks of a team take every world-th batch each.
    """
    team = team or Team()
    was_training = model.training
    model.eval()
    try:
        if team.world == 1:
            sums = _sums(model, loader, precision, levels, stop, splits)
        else:
            sums = _shared_sums(model, loader, precision, levels, stop, splits, team)
    except InterruptedError:
        return None
    finally:
        model.train(was_training)
    if sums is None:
        raise ValueError("expected at least one validation window, found none; widen the validation split")
    return sums


def _sums(
    model: nn.Module,
    batches: Iterable[Batch],
    precision: Precision,
    levels: Sequence[float],
    stop: Callable[[], bool],
    splits: int,
) -> MetricSums | None:
    """Sums over the batches, None where there are none. Raises InterruptedError once `stop` says so."""
    sums: MetricSums | None = None
    for batch in batches:
        if stop():
            raise InterruptedError
        for part in parts(to_device(batch, precision.device), splits):
            q_hat_BHQ = _forecast(model, part, precision)
            if sums is None:
                sums = MetricSums.zeros(q_hat_BHQ.shape[1], q_hat_BHQ.shape[2], precision.device)
            sums.add(q_hat_BHQ, part["targets"], part.get("scale"), levels)
    return sums


def _shared_sums(
    model: nn.Module,
    loader: Any,
    precision: Precision,
    levels: Sequence[float],
    stop: Callable[[], bool],
    splits: int,
    team: Team,
) -> MetricSums | None:
    """The same by several ranks: each batch once, added in the order of one process."""
    n_batches = len(loader)
    own = list(range(team.rank, n_batches, team.world))
    sums: dict[int, MetricSums] = {}
    for number, batch in zip(own, numbered(loader, own), strict=True):
        of_batch = _sums(model, [batch], precision, levels, stop, splits)
        if of_batch is not None:
            sums[number] = of_batch
    return team.metric_sums(sums, n_batches)


def _forecast(model: nn.Module, batch: Batch, precision: Precision) -> Tensor:
    try:
        with precision.autocast():
            return forecast(model, batch)["quantiles"]
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    raise OutOfMemoryError(explanation(model, batch, splits=1))


def skills(
    values: Mapping[str, float], references: Mapping[str, Mapping[str, float | None]], horizons: Sequence[str]
) -> dict[str, float]:
    """Skill 1 − loss / reference loss per reference and horizon, and its mean over horizons.

    Args:
        values: metrics with loss_<horizon> in return units.
        references: name of a forecast -> {horizon: its loss on the same targets, return units}.
    """
    result: dict[str, float] = {}
    for name, losses in references.items():
        each = {horizon: _skill(values[f"loss_{horizon}"], losses[horizon]) for horizon in horizons}
        result[f"skill_{name}"] = sum(each.values()) / len(each)
        result |= {f"skill_{name}_{horizon}": skill for horizon, skill in each.items()}
    return result


def _skill(loss: float, reference: float | None) -> float:
    """NaN where there is no positive reference (None is how a NaN comes back from JSON)."""
    return 1.0 - loss / reference if reference else float("nan")
