"""torch.compile: the same numbers, names of weights untouched, and one clear line where nothing can be compiled."""

import logging
from pathlib import Path

import pytest
import torch
from tests.model.conftest import random_clock

from nqcast.model import MIGT_TVDT, ModelConfig
from nqcast.training import TrainConfig, Trainer
from nqcast.training.device import compile_regions

from .conftest import HORIZONS, TinyLoader

CPU = torch.device("cpu")


class Regions(torch.nn.Module):
    """Two equal parts and a layer that is not to be compiled."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(2))
        self.rest = torch.nn.Linear(4, 1)

    def regions(self) -> list[torch.nn.Module]:
        return list(self.parts)


def test_none_leaves_a_model_as_it_is() -> None:
    model = Regions()
    assert not compile_regions(model, "none", CPU)
    assert all(part._compiled_call_impl is None for part in model.parts)


def test_without_a_compiler_one_line_says_so_and_the_model_stays_eager(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    model = Regions()
    assert not compile_regions(model, "default", CPU)
    (message,) = caplog.messages
    assert "train.compile=default is left out" in message and "no C++ compiler" in message
    assert all(part._compiled_call_impl is None for part in model.parts)
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.slow
@pytest.mark.timeout(900)  # the compiler takes its time on a busy machine
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize(
    "blocks",
    [
        {"n_time_blocks": 1, "n_variable_blocks": 0},
        pytest.param({"n_time_blocks": 0, "n_variable_blocks": 1}, marks=pytest.mark.nightly),
    ],
)
def test_compiled_blocks_give_the_quantiles_and_gradients_of_eager_ones(blocks: dict[str, int]) -> None:
    """In training and in evaluation, with the weights' names as they were."""
    sizes = {"n_features": 2, "context": 16, "patch_length": 4, "dropout": 0.0, **blocks}
    features, clock = torch.randn(3, 16, 2), random_clock(3, 16)
    results = []
    for mode in ("none", "default"):
        model = MIGT_TVDT(ModelConfig(size="test", recent_bars=(1, 3), **sizes), seed=0)
        with torch.no_grad():
            model.head.delta.weight.normal_(generator=torch.Generator().manual_seed(1))
        names = list(model.state_dict())
        assert compile_regions(model, mode, CPU) == (mode != "none")
        assert list(model.state_dict()) == names
        quantiles = model(features, None, clock)["quantiles"]
        quantiles.square().sum().backward()
        with torch.no_grad():
            evaluated = model.eval()(features, None, clock)["quantiles"]
        results.append((quantiles.detach(), evaluated, {name: p.grad for name, p in model.named_parameters()}))
    eager, compiled = results
    torch.testing.assert_close(compiled[0], eager[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(compiled[1], eager[1], rtol=1e-4, atol=1e-5)
    for name, gradient in eager[2].items():
        torch.testing.assert_close(compiled[2][name], gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["none", "default"])
def test_a_trainer_compiles_the_blocks_of_its_model_where_that_is_asked_for(mode: str, tmp_path: Path) -> None:
    model = MIGT_TVDT(ModelConfig(size="test"), seed=0)
    config = TrainConfig(compile=mode, device="cpu", horizons=HORIZONS)
    Trainer(model, config, TinyLoader(4, 2, None), TinyLoader(4, 2, None), tmp_path, "cpu")
    assert [block._compiled_call_impl is not None for block in model.regions()] == [mode == "default"] * 2
