"""Several networks that were trained alike, from other seeds, as one: their mean errs less than any of them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nqcast.model.config import ModelConfig
from nqcast.model.migt_tvdt import MIGT_TVDT, Output


class Members(nn.Module):
    """The mean of the networks' quantiles, level by level; all share the scale, so it is the mean of y/scale's too.

    The mean of rising quantiles rises. Networks are of one configuration and trained on the same anchors.
    """

    def __init__(self, networks: Sequence[MIGT_TVDT]) -> None:
        super().__init__()
        self.members = nn.ModuleList(networks)

    @property
    def first(self) -> MIGT_TVDT:
        """One of the networks, to look into."""
        network = self.members[0]
        assert isinstance(network, MIGT_TVDT)
        return network

    @property
    def config(self) -> ModelConfig:
        """The configuration of each."""
        return self.first.config

    def forward(self, *inputs: Tensor | dict[str, Tensor] | None) -> Output:
        """What `MIGT_TVDT.forward` takes and returns; quantiles and log spread are means."""
        found = [network(*inputs) for network in self.members]
        mean = {name: torch.stack([one[name] for one in found]).mean(dim=0) for name in ("quantiles", "log_spread")}
        return {"quantiles": mean["quantiles"], "log_spread": mean["log_spread"], "norm_stats": found[0]["norm_stats"]}


Network = MIGT_TVDT | Members
"""What a checkpoint's weights make: one network, or several as one."""


def first_of(network: Network) -> MIGT_TVDT:
    """The network itself, or the first of several."""
    return network.first if isinstance(network, Members) else network
