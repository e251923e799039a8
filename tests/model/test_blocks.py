"""Attention and pooling against the textbook formulas."""

import math

import pytest
import torch

from nqcast.model.blocks import AttentionPool, ResidualDropout, SelfAttention, TanhGelu, VariableBlock


def attend(attention: SelfAttention, x: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
    """One sequence and one head at a time, in float64."""
    x, width = x.double(), x.shape[-1]
    q, k, v = (x @ attention.qkv.weight.double().T + attention.qkv.bias.double()).split(width, dim=-1)
    heads = []
    for a in range(attention.n_heads):
        part = slice(a * width // attention.n_heads, (a + 1) * width // attention.n_heads)
        scores = q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(width // attention.n_heads)
        if valid is not None:
            scores = scores.masked_fill(~valid[:, None, :], -torch.inf)
        heads.append(scores.softmax(-1) @ v[..., part])
    return torch.cat(heads, -1) @ attention.out.weight.double().T + attention.out.bias.double()


@pytest.mark.parametrize("kernel", ["bmm", "sdpa"])
@pytest.mark.parametrize("masked", [False, True])
def test_both_kernels_compute_textbook_attention(kernel: str, masked: bool) -> None:
    torch.manual_seed(0)
    attention, x = SelfAttention(8, 2, kernel), torch.randn(3, 5, 8)
    valid = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]]).bool() if masked else None
    torch.testing.assert_close(attention(x, valid).double(), attend(attention, x, valid), rtol=1e-5, atol=1e-6)


def test_pooling_equals_attention_with_one_query_and_full_projections() -> None:
    torch.manual_seed(0)
    width, n_heads, x = 8, 2, torch.randn(3, 6, 8)
    query, key, value = torch.randn(n_heads, 4), torch.randn(n_heads, 8, 4), torch.randn(n_heads, 8, 8)
    pool = AttentionPool(width, n_heads, 6, recent_first=False)
    with torch.no_grad():
        pool.score_DA.copy_(torch.einsum("adk,ak->da", key, query))
        pool.value.weight.copy_(value.permute(2, 0, 1).reshape(width, -1))
        pool.value.bias.zero_()
    weights = torch.einsum("nld,adk,ak->nal", x, key, query).softmax(-1)
    expected = torch.einsum("nal,nld,ade->ne", weights, x, value)
    torch.testing.assert_close(pool(x), expected)


def test_half_of_the_time_pools_heads_start_sharp_on_the_newest_token() -> None:
    weights = AttentionPool(8, 4, 24, recent_first=True).place_LA.softmax(0)
    torch.testing.assert_close(weights[:, :2], torch.full((24, 2), 1 / 24))
    assert (weights[-1, 2:] > 0.6).all()


def test_a_closed_gate_shuts_attention_out() -> None:
    torch.manual_seed(0)
    block, x = VariableBlock(8, 2, 16, 0.0, "bmm"), torch.randn(2, 5, 8)
    with torch.no_grad():
        block.gate.weight.zero_()
        block.gate.bias.fill_(-100.0)
    torch.testing.assert_close(block(x), x + block.feed_forward(block.feed_norm(x)))


def test_a_block_without_a_gate_is_one_whose_gate_stands_open() -> None:
    torch.manual_seed(0)
    block, open_block = VariableBlock(8, 2, 16, 0.0, "bmm"), VariableBlock(8, 2, 16, 0.0, "bmm", gated=False)
    weights = {name: value for name, value in block.state_dict().items() if not name.startswith("gate")}
    open_block.load_state_dict(weights, strict=True)
    x = torch.randn(2, 5, 8)
    assert not torch.allclose(open_block(x), block(x))
    with torch.no_grad():
        block.gate.weight.zero_()
        block.gate.bias.fill_(100.0)
    torch.testing.assert_close(open_block(x), block(x))


def test_dropout_keeps_the_mean_shares_its_mask_over_tokens_and_rests_in_evaluation() -> None:
    torch.manual_seed(0)
    dropout, x = ResidualDropout(0.25), torch.ones(400, 3, 50)
    y = dropout(x)
    assert torch.equal(y[:, 0], y[:, 2])
    assert abs(float(y.mean()) - 1.0) < 0.02
    assert torch.equal(dropout.eval()(x), x)


def test_the_gelu_that_the_compiler_is_given_is_the_tanh_gelu() -> None:
    """Traced, but run by torch's own operators: value and slope against the formula in float64."""
    x = torch.linspace(-12, 12, 4001, requires_grad=True)
    traced = torch.compile(TanhGelu(), backend="eager", dynamic=False)(x)
    wide = x.detach().double().requires_grad_()
    formula = 0.5 * wide * (1 + torch.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)))
    torch.testing.assert_close(traced.double(), formula, rtol=1e-5, atol=1e-6)
    (slope,) = torch.autograd.grad(traced.sum(), x)
    (expected,) = torch.autograd.grad(formula.sum(), wide)
    torch.testing.assert_close(slope.double(), expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(traced, TanhGelu()(x))  # else it was not the compiler's branch that ran
