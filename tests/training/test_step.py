"""One accumulated step is the step of one big batch."""

import copy

import pytest
import torch

from nqcast.training.device import Precision
from nqcast.training.loss_functions import CombinedQuantileLoss
from nqcast.training.step import Stepper, StepSettings

from .conftest import LEVELS, TinyLoader, TinyModel

CPU = Precision("fp32", torch.device("cpu"))


def stepper(model: torch.nn.Module, optimizer: torch.optim.Optimizer, clip: float = 1e9, seed: int = 0) -> Stepper:
    return Stepper(model, optimizer, CombinedQuantileLoss(LEVELS), CPU, StepSettings(clip, seed))


def join(batches: list[dict]) -> dict:
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


@pytest.mark.parametrize("sizes", [(10, 10), (16, 3), (1, 7, 12)])
def test_accumulation_equals_one_big_batch_with_unequal_masks(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = TinyModel(dropout=0.0).double()
    group = next(iter(TinyLoader(40, 40, None)))
    group = {name: values[: sum(sizes)].double() for name, values in group.items()}
    group["targets"][: sizes[0]] = torch.nan  # the first micro-batch keeps one target only
    group["targets"][0, 0] = 1e-3
    parts = [
        dict(zip(group, values, strict=True)) for values in zip(*(v.split(sizes) for v in group.values()), strict=True)
    ]
    twin = copy.deepcopy(model)
    for net, batches in ((model, parts), (twin, [group])):
        result = stepper(net, torch.optim.SGD(net.parameters(), lr=1.0))(batches, 0)
        assert result.applied
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_the_step_is_the_gradient_of_the_mean_loss_on_unit_scale() -> None:
    torch.manual_seed(0)
    model = TinyModel(dropout=0.0)
    batch = next(iter(TinyLoader(32, 32, None)))
    twin = copy.deepcopy(model)
    stepper(model, torch.optim.SGD(model.parameters(), lr=0.1))([batch], 0)
    unit = twin.body(batch["features"][:, -1]).view(-1, 2, 7)
    y, tau = (batch["targets"] / batch["scale"])[..., None], torch.tensor(LEVELS)
    losses = torch.where(y >= unit, tau * (y - unit), (1 - tau) * (unit - y))
    losses[torch.isfinite(y).expand_as(losses)].mean().backward()
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other - 0.1 * other.grad, rtol=1e-4, atol=1e-6)


class WideModel(TinyModel):
    """A tiny model that also says how wide it is."""

    def forward(self, *args, **kwargs) -> dict:
        output = super().forward(*args, **kwargs)
        return output | {"log_spread": self.body(args[0][:, 0])[:, :2]}


def test_realized_volatility_adds_its_weighted_loss_to_the_gradient_and_not_to_the_report() -> None:
    torch.manual_seed(0)
    model = WideModel(dropout=0.0)
    batch = next(iter(TinyLoader(32, 32, None)))
    batch["realized"] = torch.rand(32, 2) + 0.5  # also where no target is defined: not to be learnt from
    twin, plain = copy.deepcopy(model), copy.deepcopy(model)
    descent, loss = torch.optim.SGD(model.parameters(), lr=0.1), CombinedQuantileLoss(LEVELS)
    result = Stepper(model, descent, loss, CPU, StepSettings(1e9, realized_weight=3.0))([batch], 0)
    assert result.loss_sum == stepper(plain, torch.optim.SGD(plain.parameters(), lr=0.1))([batch], 0).loss_sum
    output, defined = twin(batch["features"], None, None, batch["scale"]), torch.isfinite(batch["targets"])
    error = (batch["targets"] / batch["scale"])[..., None] - output["quantiles"] / batch["scale"][..., None]
    tau = torch.tensor(LEVELS)
    pinball = torch.maximum(tau * error, (tau - 1) * error).mean(-1)
    width = output["log_spread"] + batch["realized"] / output["log_spread"].exp()
    (pinball + 3.0 * width)[defined].mean().backward()
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other - 0.1 * other.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("realized_weight", [0.0, 3.0])
def test_weights_of_horizons_weigh_all_that_is_minimised_and_not_the_report(realized_weight: float) -> None:
    torch.manual_seed(0)
    model = WideModel(dropout=0.0)
    batch = next(iter(TinyLoader(32, 32, None))) | {"realized": torch.rand(32, 2) + 0.5}
    alone = [batch | {"targets": batch["targets"].clone()} for _ in range(2)]
    for h, one in enumerate(alone):
        one["targets"][:, 1 - h] = torch.nan
    share = [float(torch.isfinite(one["targets"]).sum() / torch.isfinite(batch["targets"]).sum()) for one in alone]

    def moved(group: dict, weights: tuple[float, ...]) -> tuple[torch.Tensor, float]:
        net = copy.deepcopy(model)
        settings = StepSettings(1e9, realized_weight=realized_weight, horizon_weights=weights)
        descent, loss = torch.optim.SGD(net.parameters(), lr=1.0), CombinedQuantileLoss(LEVELS)
        result = Stepper(net, descent, loss, CPU, settings)([group], 0)
        pairs = zip(model.parameters(), net.parameters(), strict=True)
        return torch.cat([(one - other).detach().flatten() for one, other in pairs]), float(result.loss_sum)

    weighed, reported = moved(batch, (1.5, 0.5))
    first, second = (moved(one, (1.0,))[0] for one in alone)
    torch.testing.assert_close(weighed, 1.5 * share[0] * first + 0.5 * share[1] * second, rtol=1e-4, atol=1e-6)
    assert reported == moved(batch, (1.0,))[1]


def test_realized_volatility_that_is_missing_is_asked_for() -> None:
    model = TinyModel()
    descent, loss = torch.optim.SGD(model.parameters(), lr=0.1), CombinedQuantileLoss(LEVELS)
    with pytest.raises(ValueError, match="realized_weight=0"):
        batch = next(iter(TinyLoader(32, 32, None)))
        Stepper(model, descent, loss, CPU, StepSettings(1e9, realized_weight=1.0))([batch], 0)


def test_the_gradient_is_clipped_by_its_global_norm() -> None:
    torch.manual_seed(0)
    model = TinyModel(dropout=0.0)
    before = [p.detach().clone() for p in model.parameters()]
    result = stepper(model, torch.optim.SGD(model.parameters(), lr=1.0), clip=1e-3)(
        [next(iter(TinyLoader(32, 32, None)))], 0
    )
    moved = torch.stack([(p.detach() - b).norm() for p, b in zip(model.parameters(), before, strict=True)]).norm()
    assert result.grad_norm > 1e-2
    assert float(moved) == pytest.approx(1e-3, rel=1e-3)


def test_dropout_depends_on_seed_and_number_of_the_micro_batch_only() -> None:
    batch = next(iter(TinyLoader(32, 32, None)))
    losses = []
    for seed, index, noise in [(0, 5, 0), (0, 5, 99), (0, 6, 0), (1, 5, 0)]:
        torch.manual_seed(0)
        model = TinyModel(dropout=0.5)
        torch.manual_seed(noise)
        losses.append(
            float(stepper(model, torch.optim.SGD(model.parameters(), lr=0.0), seed=seed)([batch], index).loss_sum)
        )
    assert losses[0] == losses[1]
    assert len(set(losses)) == 3


def test_a_step_leaves_the_global_generator_where_it_was() -> None:
    model = TinyModel()
    state = torch.get_rng_state()
    stepper(model, torch.optim.SGD(model.parameters(), lr=0.1))([next(iter(TinyLoader(32, 32, None)))], 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_group_without_any_defined_target_changes_nothing_under_sgd() -> None:
    model = TinyModel()
    batch = next(iter(TinyLoader(32, 32, None)))
    batch["targets"] = torch.full_like(batch["targets"], torch.nan)
    before = copy.deepcopy(model.state_dict())
    result = stepper(model, torch.optim.SGD(model.parameters(), lr=1.0))([batch], 0)
    assert float(result.loss_sum) == 0.0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_non_finite_gradient_is_not_applied() -> None:
    model = TinyModel()
    batch = next(iter(TinyLoader(32, 32, None)))
    batch["features"] = batch["features"] * torch.inf
    before = copy.deepcopy(model.state_dict())
    assert not stepper(model, torch.optim.AdamW(model.parameters()))([batch], 0).applied
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="fp16 with a gradient scaler needs a CUDA device")
def test_an_overflow_in_fp16_skips_the_step_and_halves_the_loss_scale() -> None:
    device = torch.device("cuda")
    model = TinyModel(dropout=0.0).to(device)
    run = Stepper(
        model,
        torch.optim.AdamW(model.parameters()),
        CombinedQuantileLoss(LEVELS).to(device),
        Precision("fp16", device),
        StepSettings(1.0),
    )
    batch = {name: values.to(device) for name, values in next(iter(TinyLoader(32, 32, None))).items()}
    run.scaler.update(2.0**60)
    assert not run([batch], 0).applied
    assert run.scaler.get_scale() == 2.0**59


def test_an_infinite_loss_behind_a_finite_gradient_is_skipped() -> None:
    torch.manual_seed(0)
    model = TinyModel(dropout=0.0)
    batch = next(iter(TinyLoader(32, 32, None)))
    before = copy.deepcopy(model.state_dict())
    made = stepper(model, torch.optim.SGD(model.parameters(), lr=0.1))
    inner = made._loss_sum
    made._loss_sum = lambda *piece: tuple(loss + torch.tensor(float("inf")) for loss in inner(*piece))
    result = made([batch], 0)
    assert result.grad_norm < float("inf") and not result.applied
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_rehearsal_changes_neither_weights_nor_the_step_after_it() -> None:
    batch = next(iter(TinyLoader(32, 16, None)))
    ends = []
    for rehearsed in (False, True):
        torch.manual_seed(0)
        model = TinyModel()
        step = stepper(model, torch.optim.AdamW(model.parameters(), lr=1e-2))
        if rehearsed:
            assert step.rehearse(batch) > 0
        step([batch], 0)
        ends.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
