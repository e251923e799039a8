"""Small models and windows of the sizes that the features really have."""

from collections.abc import Callable, Iterator

import pytest
import torch

from nqcast.model import MIGT_TVDT, ModelConfig


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """One thread: models this small gain nothing from more, and threads that wait for busy cores lose minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small() -> ModelConfig:
    return ModelConfig(size="test", n_features=4, context=48, patch_length=8, dropout=0.0)


@pytest.fixture
def model(small: ModelConfig) -> MIGT_TVDT:
    """A model whose head was given random weights, so that every path reaches the forecast."""
    torch.manual_seed(0)
    built = MIGT_TVDT(small).eval()
    with torch.no_grad():
        built.head.delta.weight.normal_(std=0.5)
        built.token_gain.fill_(1.0)
    return built


def random_clock(n: int, t: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random clocks within their ranges, each (n, t)."""
    g = torch.Generator().manual_seed(seed)
    ranges = {"bar_in_day": (0, 288), "day_of_week": (0, 7), "day_of_month": (1, 32), "day_of_year": (1, 367)}
    return {name: torch.randint(low, high, (n, t), generator=g) for name, (low, high) in ranges.items()}


@pytest.fixture
def clock() -> Callable[[int, int], dict[str, torch.Tensor]]:
    """Draws random clocks: clock(windows, bars)."""
    return random_clock


@pytest.fixture
def batch(small: ModelConfig) -> dict:
    """Six windows; the second variable is of size 1e-7."""
    g = torch.Generator().manual_seed(1)
    features = torch.randn(6, small.context, small.n_features, generator=g)
    features[..., 1] *= 1e-7
    scale = 1e-3 * torch.rand(6, small.n_horizons, generator=g) + 1e-4
    return {"features": features, "clock": random_clock(6, small.context), "scale": scale}
