"""Losses against scikit-learn, numpy and known distributions; metrics against their definitions."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.metrics import mean_pinball_loss

from nqcast.training import CombinedQuantileLoss, MetricSums, PinballLoss, metric_values
from nqcast.training.loss_functions import interval_columns, level_name, realized_loss

LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
HORIZONS = ("15m", "30m", "60m", "2h", "4h")


def draw(seed: int = 0, n: int = 400) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    predictions = 1e-3 * torch.randn(n, 5, 7, generator=g).sort(-1).values
    targets = 1e-3 * torch.randn(n, 5, generator=g)
    targets[torch.rand(n, 5, generator=g) < 0.2] = torch.nan
    return predictions, targets


@pytest.mark.parametrize("level", LEVELS)
def test_pinball_equals_scikit_learns(level: float) -> None:
    predictions, targets = draw()
    known = torch.isfinite(targets)
    for h in range(5):
        y, q = targets[known[:, h], h].numpy(), predictions[known[:, h], h, 2].numpy()
        own = PinballLoss([level])(torch.tensor(q)[:, None], torch.tensor(y))
        assert float(own) == pytest.approx(mean_pinball_loss(y, q, alpha=level), rel=1e-5)


def test_the_mean_weighs_every_defined_target_alike() -> None:
    predictions, targets = draw()
    y, q, tau = targets.double().numpy()[..., None], predictions.double().numpy(), np.array(LEVELS)
    losses = np.where(y >= q, tau * (y - q), (1 - tau) * (q - y))
    expected = np.nanmean(losses)
    assert float(PinballLoss(LEVELS)(predictions, targets)) == pytest.approx(expected, rel=1e-5)


def test_gradient_descent_on_the_loss_finds_the_quantiles_of_a_normal_law() -> None:
    torch.manual_seed(0)
    loss, q = PinballLoss(LEVELS), torch.zeros(7, requires_grad=True)
    optimizer = torch.optim.SGD([q], lr=1.0)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.985)
    for _ in range(400):
        y = 2.0 + 3.0 * torch.randn(4096)
        (7 * loss(q.expand(4096, 7), y)).backward()
        q.grad *= 10
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    np.testing.assert_allclose(q.detach(), norm.ppf(LEVELS, 2.0, 3.0), atol=0.08)


@pytest.mark.parametrize("level", [0.05, 0.5, 0.9])
def test_the_best_constant_is_the_empirical_quantile(level: float) -> None:
    y = torch.tensor(np.random.default_rng(0).standard_t(4, 501), dtype=torch.float64)
    grid = y.sort().values
    losses = [float(PinballLoss([level])(c.expand(501, 1), y)) for c in grid]
    assert abs(float(grid[int(np.argmin(losses))]) - np.quantile(y, level)) < 0.05


def test_undefined_targets_give_neither_loss_nor_gradient() -> None:
    predictions, targets = draw()
    predictions.requires_grad_(True)
    parts = CombinedQuantileLoss(LEVELS, 0.5, 0.1)(predictions, targets)
    parts["total"].backward()
    gone = ~torch.isfinite(targets)
    assert (predictions.grad[gone] == 0).all()
    assert (predictions.grad[~gone] != 0).any(-1).all()
    nothing = PinballLoss(LEVELS)(predictions.detach(), torch.full_like(targets, torch.nan))
    assert float(nothing) == 0.0


def test_the_combined_loss_is_the_weighted_sum_of_its_parts() -> None:
    predictions, targets = draw()
    crossed = predictions[..., [1, 0, 2, 3, 4, 5, 6]]
    parts = CombinedQuantileLoss(LEVELS, crossing_weight=2.0, sharpness_weight=0.3)(crossed, targets)
    assert set(parts) == {"total", "pinball", "crossing", "sharpness"}
    total = parts["pinball"] + 2.0 * parts["crossing"] + 0.3 * parts["sharpness"]
    torch.testing.assert_close(parts["total"], total)
    known = torch.isfinite(targets)
    swap = (predictions[..., 1] - predictions[..., 0])[known].mean() / 6
    torch.testing.assert_close(parts["crossing"], swap)
    torch.testing.assert_close(parts["sharpness"], (crossed[..., 5] - crossed[..., 1])[known].mean())
    plain = CombinedQuantileLoss(LEVELS)(crossed, targets)
    assert torch.equal(plain["total"], plain["pinball"])


def test_swapped_arguments_are_refused() -> None:
    predictions, targets = draw()
    with pytest.raises(ValueError, match="targets' shape and one value per level"):
        PinballLoss(LEVELS)(targets, predictions)


def test_metrics_equal_their_definitions_in_numpy() -> None:
    predictions, targets = draw()
    scale = 1e-3 * (1 + torch.rand(400, 5, generator=torch.Generator().manual_seed(5)))
    sums = MetricSums.zeros(5, 7, "cpu")
    for rows in torch.arange(400).split(77):  # uneven batches: sums, never means of batch means
        sums.add(predictions[rows], targets[rows], scale[rows], LEVELS)
    values = metric_values(sums, LEVELS, HORIZONS)
    y, q, s = (t.double().numpy() for t in (targets, predictions, scale))
    known, tau = np.isfinite(y), np.array(LEVELS)
    loss = np.where(y[..., None] >= q, tau * (y[..., None] - q), (1 - tau) * (q - y[..., None]))
    assert values["val_loss"] == pytest.approx(np.nanmean(loss / s[..., None]), rel=1e-9)
    assert values["val_loss_returns"] == pytest.approx(np.nanmean(loss), rel=1e-9)
    assert values["loss_2h"] == pytest.approx(np.nanmean(loss[:, 3]), rel=1e-9)
    assert values["loss_q90"] == pytest.approx(np.nanmean(loss[..., 5]), rel=1e-9)
    assert values["loss_q90_4h"] == pytest.approx(np.nanmean(loss[:, 4, 5]), rel=1e-9)
    assert values["coverage_q05"] == pytest.approx((y[known] <= q[known][:, 0]).mean())
    assert values["coverage_q95_15m"] == pytest.approx((y[known[:, 0], 0] <= q[known[:, 0], 0, 6]).mean())
    inside = (y >= q[..., 2]) & (y <= q[..., 4])
    assert values["picp_50"] == pytest.approx(inside[known].mean())
    assert values["picp_50_60m"] == pytest.approx(inside[known[:, 2], 2].mean())
    assert values["interval_80_mean"] == pytest.approx((q[..., 5] - q[..., 1])[known].mean())
    assert values["crossing_rate"] == 0.0


def test_get_metrics_agrees_with_the_loss_and_sees_crossings() -> None:
    predictions, targets = draw()
    crossed = predictions.clone()
    crossed[::4] = crossed[::4].flip(-1)
    loss = CombinedQuantileLoss(LEVELS)
    values = loss.get_metrics(crossed, targets)
    assert values["loss"] == pytest.approx(float(loss(crossed, targets)["pinball"]), rel=1e-5)
    assert values["crossing_rate"] == pytest.approx(0.25)
    one_horizon = loss.get_metrics(crossed[:, 2], targets[:, 2])
    assert one_horizon["loss"] == pytest.approx(values["loss_h3"])


def test_level_names_are_rounded_and_intervals_found_by_level() -> None:
    assert [level_name(level) for level in (0.29, 0.57, 0.95, 0.05)] == ["q29", "q57", "q95", "q05"]
    assert interval_columns((0.01, 0.1, 0.25, 0.5, 0.75, 0.9)) == {"80": (1, 5), "50": (2, 4)}
    assert interval_columns((0.1, 0.5, 0.9)) == {"80": (0, 2)}


def test_the_spread_that_minimises_the_realized_loss_is_the_mean_realized_volatility() -> None:
    generator = torch.Generator().manual_seed(0)
    v = torch.rand(4000, 1, generator=generator, dtype=torch.float64).add(0.2).square()
    log_spread = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    for _ in range(50):  # Newton: the second derivative is the mean of v / s
        loss = realized_loss(log_spread.expand_as(v), v).mean()
        (slope,) = torch.autograd.grad(loss, log_spread)
        with torch.no_grad():
            log_spread -= slope / (v / log_spread.exp()).mean()
    assert abs(float(log_spread.detach().exp()) - float(v.mean())) < 1e-9


def test_undefined_realized_volatility_gives_neither_loss_nor_gradient() -> None:
    log_spread = torch.zeros(2, 1, requires_grad=True)
    loss = realized_loss(log_spread, torch.tensor([[float("nan")], [2.0]]))
    loss.sum().backward()
    assert loss[0] == 0 and log_spread.grad is not None
    assert log_spread.grad.flatten().tolist() == [0.0, -1.0]
