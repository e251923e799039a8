"""Validation: one pass over the loader, sums on the device, names and skills at the end."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from nqcast.training.loss_functions import MetricSums
from nqcast.training.memory import OutOfMemoryError, explanation, is_out_of_memory, parts
from nqcast.training.precision import Precision, to_device
from nqcast.training.step import Batch, forecast


@torch.no_grad()
def validation_sums(
    model: nn.Module,
    loader: Iterable[Batch],
    precision: Precision,
    levels: Sequence[float],
    stop: Callable[[], bool] = lambda: False,
    splits: int = 1,
) -> MetricSums | None:
    """Sums over the loader in evaluation mode; None when `stop` interrupts it. Raises ValueError when it is empty.

    Each batch goes through the model in `splits` pieces.
    """
    sums: MetricSums | None = None
    was_training = model.training
    model.eval()
    try:
        for batch in loader:
            if stop():
                return None
            for part in parts(to_device(batch, precision.device), splits):
                q_hat_BHQ = _forecast(model, part, precision)
                if sums is None:
                    sums = MetricSums.zeros(q_hat_BHQ.shape[1], q_hat_BHQ.shape[2], precision.device)
                sums.add(q_hat_BHQ, part["targets"], part.get("scale"), levels)
    finally:
        model.train(was_training)
    if sums is None:
        raise ValueError("expected at least one validation window, found none; widen the validation split")
    return sums


def _forecast(model: nn.Module, batch: Batch, precision: Precision) -> Tensor:
    try:
        with precision.autocast():
            return forecast(model, batch)
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
