"""Validation: one pass over the loader, sums on the device, names and skills at the end."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from nqcast.batches import Batch, outputs, parts, to_device
from nqcast.training.device import Precision
from nqcast.training.loss_functions import MetricSums
from nqcast.training.out_of_memory import OutOfMemoryError, explanation, is_out_of_memory


@torch.no_grad()
def validation_sums(
    model: nn.Module,
    batches: Iterable[Batch],
    precision: Precision,
    levels: Sequence[float],
    pieces: int = 1,
    stop: Callable[[], bool] = lambda: False,
) -> MetricSums | None:
    """Sums over the batches in evaluation mode, each through the model in so many `pieces`; None where there are none.

    Raises:
        InterruptedError: `stop`, which is asked before each batch, said so.
    """
    sums: MetricSums | None = None
    was_training = model.training
    model.eval()
    try:
        for batch in batches:
            if stop():
                raise InterruptedError
            for part in parts(to_device(batch, precision.device), pieces):
                q_hat_BHQ = _quantiles(model, part, precision)
                if sums is None:
                    sums = MetricSums.zeros(q_hat_BHQ.shape[1], q_hat_BHQ.shape[2], precision.device)
                sums.add(q_hat_BHQ, part["targets"], part.get("scale"), levels)
    finally:
        model.train(was_training)
    return sums


def _quantiles(model: nn.Module, batch: Batch, precision: Precision) -> Tensor:
    try:
        with precision.autocast():
            return outputs(model, batch)["quantiles"]
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    raise OutOfMemoryError(explanation(model, batch, pieces=1))


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
