"""The network as exporters want it, random windows for it, and how far a program may be from it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nqcast.constants import CLOCK
from nqcast.model.members import Network, first_of
from nqcast.spacing import Spacing

TOLERANCE = 1e-5  # of the scale
_CALENDAR_RANGES = ((0, 7), (1, 32), (1, 367))


class ExportedNetwork(nn.Module):
    """The model with positional tensors in and one tensor out, as other runtimes want it."""

    def __init__(self, model: Network) -> None:
        super().__init__()
        self.model = model

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs in their order."""
        names = ("features", "clock", "scale", "unit_quantiles")
        return (*names, "volatility") if self.model.config.n_volatility else names

    def forward(
        self,
        features_BTF: Tensor,
        clock_BTC: Tensor,
        scale_BH: Tensor,
        unit_quantiles_BHQ: Tensor,
        volatility_BK: Tensor | None = None,
    ) -> Tensor:
        """Quantiles (B, H, Q) in return units; `clock_BTC` holds the four integer clocks in the order of CLOCK."""
        clock = {name: clock_BTC[..., i] for i, name in enumerate(CLOCK)}
        return self.model(features_BTF, None, clock, scale_BH, unit_quantiles_BHQ, volatility_BK)["quantiles"]


def worst_gap(network: ExportedNetwork, program: Callable[..., Tensor]) -> float:
    """Largest difference of `program` from `network` over random windows in batches of 1, 3 and 64.

    In scales, or as a share of the quantile where that is larger than the scale: float32 carries seven digits.
    """
    worst = 0.0
    with torch.no_grad():
        for seed, size in enumerate((1, 3, 64), 1):
            inputs = window_inputs(network.model, size, seed)
            eager_BHQ = network(*inputs)
            unit_BHQ = torch.maximum(eager_BHQ.abs(), inputs[2][:, :, None])
            worst = max(worst, float(((program(*inputs) - eager_BHQ).abs() / unit_BHQ).max()))
    return worst


def window_inputs(model: Network, size: int, seed: int) -> tuple[Tensor, ...]:
    """A batch of random windows around the training set's moments, with all that `ExportedNetwork.inputs` names."""
    generator = torch.Generator().manual_seed(seed)
    c, one = model.config, first_of(model)
    noise_BTF = torch.randn(size, c.context, c.n_features, generator=generator)
    features_BTF = one.norm.feature_mean_F + noise_BTF * one.norm.feature_std_F
    ranges = ((0, Spacing(c.bar_minutes).slots), *_CALENDAR_RANGES)
    clock_BTC = torch.stack(
        [torch.randint(low, high, (size, c.context), generator=generator) for low, high in ranges], dim=-1
    )
    scale_BH = 1e-3 * (0.5 + torch.rand(size, c.n_horizons, generator=generator))
    inputs = (features_BTF, clock_BTC, scale_BH, one.head.base_HQ.expand(size, -1, -1).clone())
    return (*inputs, torch.randn(size, c.n_volatility, generator=generator)) if c.n_volatility else inputs
