"""Weights seen from outside: another implementation agrees, hand-built ones are found, the forward is as before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from nqcast.model import MIGT_TVDT, ModelConfig
from nqcast.model import attention_weights as inside
from nqcast.model.attention_weights import attention_and_gates, attention_weights, gate_values, pool_weights
from nqcast.model.blocks import AttentionPool, SelfAttention, VariableBlock


def as_batch(batch: dict) -> dict:
    return {"features": batch["features"], "temporal_info": batch["clock"], "scale": batch["scale"]}


def deep(small: ModelConfig, **changes: object) -> MIGT_TVDT:
    """A model with two blocks of each kind and weights away from their start."""
    changed = {"n_time_blocks": 2, "n_variable_blocks": 2, "n_heads": 4, **changes}
    model = MIGT_TVDT(small.model_copy(update=changed), seed=3).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    return model


@pytest.mark.parametrize("kernel", ["bmm", "sdpa"])
def test_attention_weights_are_those_of_torchs_own_attention(kernel: str) -> None:
    torch.manual_seed(0)
    ours, theirs = SelfAttention(16, 4, kernel), nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)
    x, valid = torch.randn(3, 7, 16), torch.ones(3, 7, dtype=torch.bool)
    valid[1, :2] = False
    expected, weights = theirs(x, x, x, key_padding_mask=~valid, need_weights=True, average_attn_weights=False)
    assert torch.allclose(attention_weights(ours, x, valid), weights, atol=1e-6)
    assert torch.allclose(ours(x, valid), expected, atol=1e-5)


def test_weights_reproduce_the_output_of_the_pool_and_pads_have_none() -> None:
    torch.manual_seed(0)
    pool, x, valid = AttentionPool(8, 2, 5, recent_first=True), torch.randn(4, 5, 8), torch.ones(4, 5).bool()
    valid[2, :3] = False
    weights = pool_weights(pool, x, valid)
    by_hand = torch.stack([weights[..., a].unsqueeze(-1).mul(x).sum(1) for a in range(2)], dim=1)
    assert torch.allclose(pool.value(by_hand.flatten(1)), pool(x, valid), atol=1e-6)
    assert (weights[2, :3] == 0).all()
    assert torch.allclose(weights.sum(1), torch.ones(4, 2))


def test_a_hand_built_model_shows_the_attention_that_it_was_built_with(small: ModelConfig, batch: dict) -> None:
    model = MIGT_TVDT(small, seed=0).eval()
    wanted_P = torch.tensor([0.05, 0.05, 0.1, 0.1, 0.2, 0.5])
    wanted_V = torch.tensor([0.4, 0.3, 0.2, 0.1])
    with torch.no_grad():
        for pool, wanted in ((model.time_pool, wanted_P), (model.variable_pool, wanted_V)):
            pool.score_DA.zero_()
            pool.place_LA.copy_(wanted.log()[:, None].expand(-1, small.n_heads))
        for block in (*model.time_blocks, *model.variable_blocks):
            block.attention.qkv.weight[: 2 * small.d_model] = 0  # no query meets any key: all are looked at alike
            block.attention.qkv.bias[: 2 * small.d_model] = 0
        model.variable_blocks[0].gate.weight.zero_()
        model.variable_blocks[0].gate.bias.fill_(torch.tensor(0.8).logit())
    seen = attention_and_gates(model, as_batch(batch))
    assert torch.allclose(seen.time_BVP, wanted_P.expand(6, 4, 6), atol=1e-6)
    assert torch.allclose(seen.rollout_BVP, 0.5 * wanted_P.expand(6, 4, 6) + 0.5 / 6, atol=1e-6)
    assert torch.allclose(seen.variable_BV, wanted_V.expand(6, 4), atol=1e-6)
    assert torch.allclose(seen.attention_KBVV, torch.full((1, 6, 4, 4), 0.25), atol=1e-6)
    assert torch.allclose(seen.gate_KBVD, torch.full((1, 6, 4, small.d_model), 0.8), atol=1e-6)


def test_gates_lie_between_0_and_1_and_every_row_of_weights_sums_to_1(small: ModelConfig, batch: dict) -> None:
    seen = attention_and_gates(deep(small), as_batch(batch))
    assert seen.gate_KBVD.shape == (2, 6, 4, small.d_model)
    assert ((seen.gate_KBVD > 0) & (seen.gate_KBVD < 1)).all()
    for weights in (seen.time_BVP, seen.rollout_BVP, seen.attention_KBVV, seen.variable_BV):
        assert (weights >= 0).all()
        assert torch.allclose(weights.sum(-1), torch.ones(weights.shape[:-1]), atol=1e-5)
    assert (seen.time_BVP - seen.rollout_BVP).abs().max() > 1e-3


def test_a_variables_attention_over_time_is_read_off_its_own_window(small: ModelConfig, batch: dict) -> None:
    model, before = deep(small), as_batch(batch)
    after = {**before, "features": before["features"].clone()}
    after["features"][:, :, 2] = before["features"][:, :, 2].flip(1)
    first, second = attention_and_gates(model, before), attention_and_gates(model, after)
    changed = (first.time_BVP != second.time_BVP).flatten(2).any(-1).any(0)
    assert changed.tolist() == [False, False, True, False]


def test_looking_changes_no_number_and_leaves_no_hook(
    small: ModelConfig, batch: dict, clock: Callable[[int, int], dict[str, torch.Tensor]]
) -> None:
    model, arguments = deep(small), (batch["features"], None, batch["clock"], batch["scale"])
    with torch.no_grad():
        before = model(*arguments)["quantiles"]
        attention_and_gates(model, as_batch(batch))
        assert torch.equal(model(*arguments)["quantiles"], before)
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())


def test_a_model_without_gates_or_blocks_shows_none_and_training_mode_is_refused(
    small: ModelConfig, batch: dict
) -> None:
    assert attention_and_gates(deep(small, gate=False), as_batch(batch)).gate_KBVD.shape[0] == 0
    bare = attention_and_gates(deep(small, n_variable_blocks=0, n_time_blocks=0), as_batch(batch))
    assert bare.attention_KBVV.shape[0] == 0
    assert torch.equal(bare.time_BVP, bare.rollout_BVP)
    with pytest.raises(ValueError, match="evaluation mode"):
        attention_and_gates(deep(small).train(), as_batch(batch))
    with pytest.raises(ValueError, match="found one without"):
        gate_values(VariableBlock(8, 2, 8, 0.0, "bmm", gated=False), torch.zeros(1, 2, 8))


def test_weights_that_no_longer_follow_the_blocks_are_an_error(
    small: ModelConfig, batch: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "pool_weights", lambda pool, x, valid=None: pool_weights(pool, x.flip(1), valid))
    with pytest.raises(RuntimeError, match="no longer follows the blocks"):
        attention_and_gates(deep(small), as_batch(batch))
