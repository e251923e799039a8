"""The head's formula, its bounds, and quantiles that never cross."""

import math

import pytest
import torch

from nqcast.model.blocks import QuantileHead

LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [0.1, 10.0, 1e4])
def test_quantiles_never_cross_whatever_the_weights(seed: int, size: float) -> None:
    torch.manual_seed(seed)
    head = QuantileHead(8, 5, LEVELS, (3.0, 0.5, 2.0))
    with torch.no_grad():
        head.delta.weight.normal_(std=size)
        head.delta.bias.normal_(std=size)
    quantiles = head(torch.randn(200, 8), torch.randn(5, 7).sort(-1).values)[0]
    assert torch.isfinite(quantiles).all()
    assert (quantiles.diff(dim=-1) >= 0).all()


def test_the_log_scale_correction_scales_all_levels_and_is_bounded() -> None:
    head = QuantileHead(1, 1, LEVELS, (3.0, 0.02, 0.1))
    base = head(torch.zeros(1, 1), None)[0]
    for wanted in (-0.5, 0.5, 1e6):
        with torch.no_grad():
            head.delta.bias[0] = wanted
        expected = math.exp(3.0 * math.tanh(wanted / 3.0))
        torch.testing.assert_close(head(torch.zeros(1, 1), None)[0], base * expected)


def test_median_and_gaps_stay_within_their_limits() -> None:
    torch.manual_seed(0)
    head = QuantileHead(4, 1, LEVELS, (1e-6, 0.02, 0.1))
    base = head(torch.zeros(1, 4), None)[0][0, 0]
    with torch.no_grad():
        head.delta.weight.normal_(std=1e3)
    quantiles = head(torch.randn(100, 4), None)[0][:, 0]
    band = base[-1] - base[0]
    assert ((quantiles[:, 3] - base[3]).abs() <= 0.0201 * band).all()
    ratio = quantiles.diff(dim=-1) / base.diff()
    assert (ratio.log().abs() < 0.1001).all()
    assert ratio.log().abs().max() > 0.09  # the limits are reached, not merely kept
