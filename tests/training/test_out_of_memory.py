"""Out of memory: an estimate, and pieces that train the same."""

import copy
import logging
from collections.abc import Callable

import pytest
import torch

from nqcast.batches import parts
from nqcast.training import TrainConfig, Trainer
from nqcast.training.config import FREE_ON_RESUME
from nqcast.training.device import Precision
from nqcast.training.loss_functions import CombinedQuantileLoss
from nqcast.training.out_of_memory import OutOfMemoryError, bytes_per_window
from nqcast.training.step import Stepper, StepSettings

from .conftest import LEVELS, TinyLoader, TinyModel

CPU = Precision("fp32", torch.device("cpu"))


class Small(TinyModel):
    """Runs out of memory for more than `most` windows at once."""

    def __init__(self, most: int) -> None:
        super().__init__(dropout=0.0)
        self.most = most

    def forward(self, features: torch.Tensor, *rest: object, **named: object) -> dict:
        if len(features) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(features, *rest, **named)


def stepper(model: torch.nn.Module, halve: bool) -> Stepper:
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    return Stepper(model, optimizer, CombinedQuantileLoss(LEVELS), CPU, StepSettings(1e9, halve=halve))


def test_pieces_hold_every_window_once_and_leave_what_all_windows_share() -> None:
    batch = next(iter(TinyLoader(21, 21, None)))
    batch |= {"unit_quantiles": torch.zeros(2, 7), "temporal_info": {"bar_in_day": torch.arange(21)}, "note": "x"}
    pieces = parts(batch, 4)
    assert [len(piece["targets"]) for piece in pieces] == [6, 6, 6, 3]
    for name in ("features", "scale"):
        assert torch.equal(torch.cat([piece[name] for piece in pieces]), batch[name])
    assert torch.equal(torch.cat([piece["temporal_info"]["bar_in_day"] for piece in pieces]), torch.arange(21))
    assert all(piece["unit_quantiles"].shape == (2, 7) and piece["note"] == "x" for piece in pieces)


def test_halved_micro_batches_make_the_step_of_the_whole_one(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    group = list(TinyLoader(48, 24, None))
    small, roomy = Small(most=6), TinyModel(dropout=0.0)
    roomy.load_state_dict(small.state_dict())
    squeezed = stepper(small, halve=True)
    with caplog.at_level(logging.WARNING):
        result = squeezed(group, 0)
    whole = stepper(roomy, halve=False)(group, 0)
    assert squeezed.pieces == 4 and "4 pieces" in caplog.text
    torch.testing.assert_close(result.loss_sum, whole.loss_sum)
    for one, other in zip(small.parameters(), roomy.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_without_leave_to_halve_the_error_estimates_what_is_needed() -> None:
    model = Small(most=6)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(OutOfMemoryError, match=r"micro-batch of 24 windows.*MiB a window.*on_out_of_memory=halve"):
        stepper(model, halve=False)(list(TinyLoader(48, 24, None)), 0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(OutOfMemoryError, match="more than there is even for one window"):
        stepper(Small(most=0), halve=True)(list(TinyLoader(8, 8, None)), 0)


def test_other_errors_are_no_want_of_memory() -> None:
    group = [{**batch, "features": batch["features"][..., :3]} for batch in TinyLoader(8, 8, None)]
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        stepper(TinyModel(), halve=True)(group, 0)


def test_the_estimate_is_what_the_layers_keep_of_a_window() -> None:
    model = TinyModel(dropout=0.0).eval()
    batch = next(iter(TinyLoader(8, 8, None)))
    batch.pop("scale")
    assert bytes_per_window(model, batch) == 4 * (16 + 16)  # before and after the GELU; the input is there anyway


def test_the_pieces_go_on_after_a_resume(make_trainer: Callable[..., Trainer]) -> None:
    assert "on_out_of_memory" in FREE_ON_RESUME
    first = make_trainer(epochs=1)
    first.stepper.pieces = 4
    first.train()
    second = make_trainer(epochs=1, on_out_of_memory="halve")
    second.train()
    assert second.stepper.pieces == 4


def test_validation_names_the_want_of_memory_too(config: TrainConfig, make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer()
    trainer.model.__class__ = Small
    trainer.model.most = 3
    with pytest.raises(OutOfMemoryError, match="MiB a window"):
        trainer.train()
