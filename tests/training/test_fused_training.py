"""Training by fused kernels: as accurate as by torch's operations, and as exactly repeatable."""

from pathlib import Path

import pytest
import torch
from tests.model.test_fused import needs_compiler
from tests.training import test_golden
from tests.training.test_arithmetic import CONFIG
from tests.training.test_trainer import stop_after_steps

from nqcast.model import MIGT_TVDT, ModelConfig, fuse
from nqcast.model.fused import encoder
from nqcast.training import TrainConfig, Trainer

pytestmark = needs_compiler
WIDE = {"d_model": 32, "d_ff": 64}  # the narrowest that the fused kernels take


def sized(kernels: str, dropout: float) -> ModelConfig:
    return test_golden.MODEL.model_copy(update={**WIDE, "kernels": kernels, "dropout": dropout})


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry per use of the fused operation over tokens."""
    seen: list[bool] = []
    original = encoder.Encoder.__call__

    def counted(self: encoder.Encoder, *inputs: object) -> torch.Tensor:
        seen.append(True)
        return original(self, *inputs)

    monkeypatch.setattr(encoder.Encoder, "__call__", counted)
    return seen


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_validation_losses_agree_with_torchs_within_a_thousandth(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[bool]
) -> None:
    losses = []
    for kernels, arithmetic in (("plain", "fp32"), ("auto", precision)):
        assert not calls
        monkeypatch.setattr(test_golden, "MODEL", sized(kernels, dropout=0.0))
        config = TrainConfig(**CONFIG, precision=arithmetic)
        history, _, _ = test_golden.train(tmp_path / kernels, 1000, 500, config)
        losses.append([record["val_loss"] for record in history])
    if not calls:
        assert precision == "bf16"
        pytest.skip("needs a processor with AVX512_BF16, such as Zen 4 or Sapphire Rapids")
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[0] != losses[1]  # they are other numbers
    assert losses[0][-1] < 0.999 * losses[0][0]


def test_a_run_that_was_stopped_ends_bit_equal(tmp_path: Path, calls: list[bool]) -> None:
    config = TrainConfig(**CONFIG)
    market = test_golden.leverage_market(600, seed=0)

    def trainer(name: str) -> Trainer:
        loaders = (test_golden.Windows(market, 48, 400, True), test_golden.Windows(market, 400, 590, False))
        return Trainer(fuse(MIGT_TVDT(sized("auto", dropout=0.3), seed=1)), config, *loaders, tmp_path / name, "cpu")

    whole = trainer("whole")
    whole.train()
    torch.manual_seed(999)
    first = stop_after_steps(trainer("parts"), 8)
    first.train()
    assert first.status == "stopped"
    second = trainer("parts")
    second.train()
    assert calls
    assert whole.history == second.history
    for name, weights in whole.model.state_dict().items():
        assert torch.equal(weights, second.model.state_dict()[name]), name
