"""What the blocks of MIGT_TVDT weigh on given windows: recomputed beside an ordinary forward pass, never inside it.

Hooks hand over the inputs of attention, gates and pools; the weights are computed a second time from them and proved
to give the output that the forward pass gave. The model's own code and numbers are untouched, and no hook remains.

Shapes: B batch · V variables · P patches · A heads · D width · K variable blocks · L tokens · N sequences.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from nqcast.batches import Batch, model_inputs
from nqcast.model.blocks import MASKED_SCORE, AttentionPool, SelfAttention, VariableBlock
from nqcast.model.fused.fuse import unfused
from nqcast.model.migt_tvdt import MIGT_TVDT

Inputs = tuple[Tensor] | tuple[Tensor, Tensor | None]  # of a module: tokens, and which of them count
TOLERANCE = 1e-4  # of the output's size: two ways to sum the same float32 products


@dataclass(frozen=True)
class AttentionAndGates:
    """Weights of one batch, each the mean over heads; every row of weights sums to 1. Oldest patch first."""

    time_BVP: Tensor  # weight of each patch of a variable in its pool over time
    rollout_BVP: Tensor  # the same, traced back through the time blocks to the patches as they came in
    gate_KBVD: Tensor  # gate values of each variable block, in (0, 1); K = 0 without gates
    attention_KBVV: Tensor  # weight that the variable in the row gives to the one in the column
    variable_BV: Tensor  # weight of each variable in the pool over variables


def attention_weights(attention: SelfAttention, x_NLD: Tensor, valid_NL: Tensor | None = None) -> Tensor:
    """Softmax weights (N, A, L, L) of a self-attention: row = the token that looks, column = the one looked at."""
    q, k, _ = _projected(attention, x_NLD)
    scores_NALL = (q @ k.transpose(-2, -1)) / math.sqrt(q.shape[-1])
    if valid_NL is not None:
        scores_NALL = scores_NALL.masked_fill(~valid_NL[:, None, None, :], MASKED_SCORE)
    return scores_NALL.softmax(-1)


def pool_weights(pool: AttentionPool, x_NLD: Tensor, valid_NL: Tensor | None = None) -> Tensor:
    """Softmax weights (N, L, A) with which a pool averages its tokens."""
    scores_NLA = x_NLD @ pool.score_DA + pool.place_LA
    if valid_NL is not None:
        scores_NLA = scores_NLA.masked_fill(~valid_NL[:, :, None], MASKED_SCORE)
    return scores_NLA.softmax(1)


def gate_values(block: VariableBlock, x_NLD: Tensor) -> Tensor:
    """The lite gate unit's values (N, L, D), each in (0, 1); ValueError for a block without a gate."""
    if block.gate is None:
        raise ValueError("expected a variable block with a gate, found one without: train with model.gate=true")
    return torch.sigmoid(block.gate(x_NLD))


@torch.inference_mode()
def attention_and_gates(model: MIGT_TVDT, batch: Batch) -> AttentionAndGates:
    """Weights of `model` on the windows of `batch`.

    Raises:
        ValueError: the model is in training mode, where dropout would change what is seen.
        RuntimeError: recomputed weights do not give the forward pass's output.
    """
    if model.training:
        raise ValueError("expected a model in evaluation mode, found it in training mode: call model.eval() first")
    seen = _Seen()
    with _hooks(model, seen):
        model(*model_inputs(batch))
    c, b = model.config, len(batch["features"])
    rolled_NP = seen.time_NP
    for weights_NPP in reversed(seen.time_blocks_NPP):  # half of each block's output is its own token (the residual)
        rolled_NP = 0.5 * rolled_NP + 0.5 * (rolled_NP[:, None] @ weights_NPP)[:, 0]
    empty = seen.variable_BV.new_zeros
    return AttentionAndGates(
        time_BVP=seen.time_NP.view(c.n_features, b, c.n_patches).transpose(0, 1),
        rollout_BVP=rolled_NP.view(c.n_features, b, c.n_patches).transpose(0, 1),
        gate_KBVD=torch.stack(seen.gates_BVD) if seen.gates_BVD else empty(0, b, c.n_features, c.d_model),
        attention_KBVV=torch.stack(seen.variable_blocks_BVV)
        if seen.variable_blocks_BVV
        else empty(0, b, c.n_features, c.n_features),
        variable_BV=seen.variable_BV,
    )


def windows_at_once(model: MIGT_TVDT) -> int:
    """How many windows are read together: the weights of one time block stay near 2^25 numbers."""
    c = model.config
    return max(1, 2**25 // (c.n_features * c.n_heads * c.n_patches**2))


@dataclass
class _Seen:
    """What the hooks of one forward pass have computed, in the order of the blocks."""

    time_NP: Tensor = field(default_factory=lambda: torch.empty(0))
    variable_BV: Tensor = field(default_factory=lambda: torch.empty(0))
    time_blocks_NPP: list[Tensor] = field(default_factory=list)
    variable_blocks_BVV: list[Tensor] = field(default_factory=list)
    gates_BVD: list[Tensor] = field(default_factory=list)


@contextmanager
def _hooks(model: MIGT_TVDT, seen: _Seen) -> Iterator[None]:
    def of_attention(into: list[Tensor]) -> Callable[..., None]:
        def hook(module: SelfAttention, inputs: Inputs, output: Tensor) -> None:
            into.append(_proved_attention(module, inputs, output).mean(1))

        return hook

    def of_pool(name: str) -> Callable[..., None]:
        def hook(module: AttentionPool, inputs: Inputs, output: Tensor) -> None:
            setattr(seen, name, _proved_pool(module, inputs, output).mean(-1))

        return hook

    def of_block(module: VariableBlock, inputs: Inputs, output: Tensor) -> None:
        if module.gate is not None:
            seen.gates_BVD.append(_proved_gate(module, inputs[0], output))

    placed = [block.register_forward_hook(of_block) for block in model.variable_blocks]
    for blocks, into in ((model.time_blocks, seen.time_blocks_NPP), (model.variable_blocks, seen.variable_blocks_BVV)):
        attentions = [part for part in blocks.modules() if isinstance(part, SelfAttention)]
        placed += [part.register_forward_hook(of_attention(into)) for part in attentions]
    placed.append(model.time_pool.register_forward_hook(of_pool("time_NP")))
    placed.append(model.variable_pool.register_forward_hook(of_pool("variable_BV")))
    try:
        with unfused(model):
            yield
    finally:
        for handle in placed:
            handle.remove()


def _proved_attention(attention: SelfAttention, inputs: Inputs, output: Tensor) -> Tensor:
    x_NLD, valid_NL = _tokens_and_mask(inputs)
    weights_NALL = attention_weights(attention, x_NLD, valid_NL)
    mixed_NALd = weights_NALL @ _projected(attention, x_NLD)[2]
    _prove(attention, attention.out(mixed_NALd.transpose(1, 2).reshape(x_NLD.shape)), output)
    return weights_NALL


def _proved_pool(pool: AttentionPool, inputs: Inputs, output: Tensor) -> Tensor:
    x_NLD, valid_NL = _tokens_and_mask(inputs)
    weights_NLA = pool_weights(pool, x_NLD, valid_NL)
    _prove(pool, pool.value((weights_NLA.transpose(1, 2) @ x_NLD).flatten(1)), output)
    return weights_NLA


def _proved_gate(block: VariableBlock, x_NLD: Tensor, output: Tensor) -> Tensor:
    gate_NLD = gate_values(block, x_NLD)
    inside_NLD = x_NLD + gate_NLD * block.attention.forward(block.attention_norm(x_NLD))  # no hooks
    _prove(block, inside_NLD + block.feed_forward(block.feed_norm(inside_NLD)), output)
    return gate_NLD


def _tokens_and_mask(inputs: Inputs) -> tuple[Tensor, Tensor | None]:
    return inputs[0], inputs[1] if len(inputs) == 2 else None


def _prove(module: nn.Module, recomputed: Tensor, output: Tensor) -> None:
    worst, size = float((recomputed - output).abs().max()), float(output.abs().max())
    if not worst <= TOLERANCE * max(size, 1.0):
        raise RuntimeError(
            f"expected recomputed weights to give the output of {type(module).__name__}, found it {worst:.2g} off "
            f"(outputs up to {size:.2g}): attention_and_gates no longer follows the blocks"
        )


def _projected(attention: SelfAttention, x_NLD: Tensor) -> Tensor:
    n, length, width = x_NLD.shape
    heads = (n, length, 3, attention.n_heads, width // attention.n_heads)
    return attention.qkv(x_NLD).view(heads).permute(2, 0, 3, 1, 4)
