"""What a forecast may depend on, and where an untrained model starts."""

from collections.abc import Callable

import pytest
import torch

from nqcast.model import MIGT_TVDT, ModelConfig


def forecast(model: MIGT_TVDT, batch: dict, mask: torch.Tensor | None = None) -> torch.Tensor:
    with torch.no_grad():
        return model(batch["features"], mask, batch["clock"], batch["scale"])["quantiles"]


@pytest.mark.parametrize("size", ["test", "laptop"])
def test_an_untrained_model_returns_its_base_times_the_scale(size: str, clock: Callable) -> None:
    torch.manual_seed(0)
    model = MIGT_TVDT(ModelConfig(size=size))
    base = torch.randn(5, 7).sort(-1).values
    model.set_base(base, torch.zeros(24), torch.ones(24))
    scale = 1e-3 * torch.rand(8, 5) + 1e-4
    quantiles = model(torch.randn(8, 288, 24), None, clock(8, 288), scale)["quantiles"]
    torch.testing.assert_close(quantiles / scale[..., None], base.expand(8, 5, 7), rtol=0, atol=1e-6)


def test_unit_quantiles_of_a_batch_replace_the_base(small: ModelConfig, batch: dict) -> None:
    model = MIGT_TVDT(small)
    own = torch.randn(6, 5, 7).sort(-1).values
    quantiles = model(batch["features"], unit_quantiles=own)["quantiles"]
    torch.testing.assert_close(quantiles, own, rtol=0, atol=1e-6)


def test_the_predictors_of_the_scale_reach_the_forecast_and_none_is_their_mean(small: ModelConfig, batch: dict) -> None:
    torch.manual_seed(0)
    model = MIGT_TVDT(small.model_copy(update={"n_volatility": 3})).eval()
    with torch.no_grad():
        model.head.delta.weight.normal_(std=0.5)
    states = (torch.zeros(6, 3), torch.ones(6, 3))
    at_mean, moved = (model(batch["features"], volatility_BK=state)["quantiles"] for state in states)
    torch.testing.assert_close(model(batch["features"])["quantiles"], at_mean, rtol=0, atol=0)
    assert not torch.isclose(moved, at_mean).any()


def test_the_log_spread_is_by_how_much_the_band_is_wider_than_the_base(small: ModelConfig, batch: dict) -> None:
    torch.manual_seed(0)
    model = MIGT_TVDT(small.model_copy(update={"gap_limit": 0.0})).eval()
    with torch.no_grad():
        model.head.delta.weight.normal_(std=0.5)
    output = model(batch["features"])
    band = output["quantiles"][..., -1] - output["quantiles"][..., 0]
    base = model.head.base_HQ[:, -1] - model.head.base_HQ[:, 0]
    torch.testing.assert_close(output["log_spread"], torch.log(band / base), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("garbage", [0.0, 1e6, float("nan")])
def test_pads_never_reach_a_forecast(model: MIGT_TVDT, batch: dict, garbage: float) -> None:
    mask = torch.ones(6, 48, dtype=torch.bool)
    mask[:3, :13] = False
    changed = {**batch, "features": torch.where(mask[..., None], batch["features"], garbage)}
    changed["clock"] = {name: torch.where(mask, values, 1) for name, values in batch["clock"].items()}
    assert torch.equal(forecast(model, changed, mask), forecast(model, batch, mask))


def test_a_mask_of_all_real_bars_changes_nothing(model: MIGT_TVDT, batch: dict) -> None:
    mask = torch.ones(6, 48, dtype=torch.bool)
    torch.testing.assert_close(forecast(model, batch, mask), forecast(model, batch), rtol=1e-5, atol=0)


def test_valid_bars_do_reach_a_forecast_in_a_masked_window(model: MIGT_TVDT, batch: dict) -> None:
    mask = torch.ones(6, 48, dtype=torch.bool)
    mask[:, :16] = False
    for bar in (16, 30, 47):
        features = batch["features"].clone()
        features[:, bar] += 1.0
        assert not torch.equal(forecast(model, {**batch, "features": features}, mask), forecast(model, batch, mask))


def test_the_volatility_of_a_window_reaches_the_forecast(small: ModelConfig, model: MIGT_TVDT, batch: dict) -> None:
    without_recent = MIGT_TVDT(small.model_copy(update={"recent_width": 0})).eval()
    with torch.no_grad():
        without_recent.head.delta.weight.normal_(std=0.5)
        without_recent.token_gain.fill_(1.0)
    louder = {**batch, "features": 2.0 * batch["features"]}
    for each in (model, without_recent):
        change = forecast(each, louder) / forecast(each, batch) - 1.0
        assert change.abs().amax() > 0.01


def test_without_window_statistics_the_level_of_a_window_is_lost(small: ModelConfig, batch: dict) -> None:
    louder = {**batch, "features": 2.0 * batch["features"]}
    changes = []
    for kept in (True, False):
        each = MIGT_TVDT(
            small.model_copy(update={"recent_width": 0, "window_statistics": kept, "norm_eps": 1e-12}), seed=0
        ).eval()
        with torch.no_grad():
            each.head.delta.weight.normal_(std=0.5, generator=torch.Generator().manual_seed(2))
            each.token_gain.fill_(1.0)
        changes.append(float((forecast(each, louder) / forecast(each, batch) - 1.0).abs().amax()))
    assert changes[0] > 0.01
    assert changes[1] < 1e-4


def test_a_forecast_does_not_depend_on_the_other_windows_of_its_batch(model: MIGT_TVDT, batch: dict) -> None:
    others = {**batch, "features": batch["features"].clone()}
    others["features"][1:] = torch.randn(5, 48, 4, generator=torch.Generator().manual_seed(9))
    assert torch.equal(forecast(model, others)[0], forecast(model, batch)[0])


def test_a_seed_fixes_the_weights_and_leaves_the_global_generator_alone(small: ModelConfig) -> None:
    before = torch.get_rng_state()
    one, same, other = MIGT_TVDT(small, seed=5), MIGT_TVDT(small, seed=5), MIGT_TVDT(small, seed=6)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.age_PD, same.age_PD)
    assert not torch.equal(one.age_PD, other.age_PD)


def test_every_parameter_gets_a_gradient(model: MIGT_TVDT, batch: dict) -> None:
    model.train()
    quantiles = model(batch["features"], None, batch["clock"], batch["scale"])["quantiles"]
    (quantiles / batch["scale"][..., None]).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_norm_stats_are_the_windows_own_in_the_features_units(model: MIGT_TVDT, batch: dict) -> None:
    model.set_base(model.head.base_HQ, [1.0, 0.0, 3.0, 4.0], [1.0, 1e-7, 2.0, 0.5])
    stats = model(batch["features"])["norm_stats"]
    torch.testing.assert_close(stats["mean"][:, 2], batch["features"].mean(1)[:, 2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(stats["std"][:, 1], batch["features"].std(1, correction=0)[:, 1], rtol=1e-3, atol=0)


def test_set_base_refuses_what_cannot_be_a_base(model: MIGT_TVDT) -> None:
    good = model.head.base_HQ.clone()
    with pytest.raises(ValueError, match="rise with the level"):
        model.set_base(good.flip(-1), torch.zeros(4), torch.ones(4))
    with pytest.raises(ValueError, match="feature_mean_F"):
        model.set_base(good, torch.zeros(3), torch.ones(4))
    with pytest.raises(ValueError, match="unit_quantiles_HQ"):
        model.set_base(good * torch.nan, torch.zeros(4), torch.ones(4))
    assert torch.equal(model.head.base_HQ, good)


def test_a_constant_feature_is_harmless(model: MIGT_TVDT, batch: dict) -> None:
    model.set_base(model.head.base_HQ, [0.0, 0.0, 5.0, 0.0], [1.0, 1e-7, 0.0, 1.0])
    batch["features"][..., 2] = 5.0
    assert torch.isfinite(forecast(model, batch)).all()


def test_a_window_of_another_shape_is_refused(model: MIGT_TVDT) -> None:
    with pytest.raises(ValueError, match=r"\(batch, 48, 4\).*\(2, 48, 5\)"):
        model(torch.zeros(2, 48, 5))


def test_the_summary_adds_up(model: MIGT_TVDT) -> None:
    lines = model.summary().splitlines()
    counts = [int(line.split()[-1].replace(",", "")) for line in lines[1:]]
    assert counts[-1] == sum(counts[:-1]) == sum(p.numel() for p in model.parameters())


@pytest.mark.slow
def test_the_full_size_at_patch_1_takes_a_step_on_the_cpu(clock: Callable) -> None:
    torch.manual_seed(0)
    model = MIGT_TVDT(ModelConfig(size="full"))
    before = model.head.delta.weight.clone()
    quantiles = model(torch.randn(2, 288, 24), None, clock(2, 288))["quantiles"]
    (quantiles - 1.0).abs().mean().backward()
    torch.optim.AdamW(model.parameters(), fused=True).step()
    assert not torch.equal(model.head.delta.weight, before)
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_an_untrained_models_tokens_are_shut_out_and_can_be_let_in(small: ModelConfig, batch: dict) -> None:
    """A gain of 0 on weights of 0 would stay there for ever: the gain's own gradient must not be 0."""
    model = MIGT_TVDT(small, seed=0)
    output = model(batch["features"], None, batch["clock"], batch["scale"])["quantiles"]
    (output / batch["scale"][..., None]).square().sum().backward()
    assert float(model.token_gain.detach()) == 0.0
    assert model.token_gain.grad is not None and abs(float(model.token_gain.grad)) > 1e-6


def test_calendar_cycles_left_out_cannot_move_a_forecast(small: ModelConfig, batch: dict) -> None:
    torch.manual_seed(0)
    model = MIGT_TVDT(small.model_copy(update={"calendar": ("day_of_week",)})).eval()
    with torch.no_grad():
        model.token_gain.fill_(1.0)
    moved = {name: {**batch["clock"], name: 1 + (batch["clock"][name] + 2) % 6} for name in batch["clock"]}
    before = forecast(model, batch)
    unmoved = {name for name, clock in moved.items() if torch.equal(forecast(model, {**batch, "clock": clock}), before)}
    assert unmoved == {"day_of_month", "day_of_year"}


def test_without_tokens_the_newest_bars_alone_move_a_forecast(small: ModelConfig, batch: dict) -> None:
    torch.manual_seed(0)
    model = MIGT_TVDT(small.model_copy(update={"tokens": False})).eval()
    base = model(batch["features"])["quantiles"]
    torch.testing.assert_close(base, model.head.base_HQ.expand_as(base), rtol=0, atol=1e-6)
    with torch.no_grad():
        model.head.delta.weight.normal_(std=0.5)
    before = forecast(model, batch)
    for bar, moves in ((0, False), (35, False), (36, True), (47, True)):
        features = batch["features"].clone()
        features[:, bar] += 1.0
        assert torch.equal(forecast(model, {**batch, "features": features}), before) is not moves
