"""No accuracy is given away: half precision and compiled blocks end where eager single precision does."""

from pathlib import Path

import pytest
from tests.training import test_golden

from nqcast.training import TrainConfig

CONFIG = {
    "epochs": 3, "batch_size": 64, "learning_rate": 2e-3, "warmup_steps": 4, "t_0": 2, "horizons": ("5m",),
    "device": "cpu", "seed": 1,
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)  # the compiler takes its time on a busy machine
@pytest.mark.filterwarnings("ignore")  # the compiler's own
@pytest.mark.parametrize(
    "way",
    [
        pytest.param({"precision": "bf16"}, id="bf16"),
        pytest.param({"precision": "bf16", "compile": "default"}, id="bf16 compiled", marks=pytest.mark.nightly),
    ],
)
def test_validation_losses_agree_with_eager_fp32_within_a_thousandth(
    way: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(test_golden, "MODEL", test_golden.MODEL.model_copy(update={"dropout": 0.0}))
    plain, _, _ = test_golden.train(tmp_path / "plain", 1000, 500, TrainConfig(**CONFIG))
    found, _, _ = test_golden.train(tmp_path / "other", 1000, 500, TrainConfig(**CONFIG, **way))
    losses = [[record["val_loss"] for record in history] for history in (plain, found)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[0] != losses[1]  # they are other numbers
    assert losses[0][-1] < 0.999 * losses[0][0]
