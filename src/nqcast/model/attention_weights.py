"""What the blocks of MIGT_TVDT weigh on given windows: recomputed beside an ordinary forward pass, never inside it.

Hooks hand over the inputs of attention, gates and pools; the weights are computed a second time from them and proved
to give the output that the forward pass gave. The model's own code and numbers are untouched, and no hook remains.

Shapes: B batch · V variables · P patches · A heads · D width · K variable blocks · L tokens · N sequences.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from nqcast.batches import Batch, model_inputs
from nqcast.model.blocks import MASKED_SCORE, AttentionPool, SelfAttention, VariableBlock
from nqcast.model.fused import unfused
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
    with _seen(model) as seen:
        model(*model_inputs(batch))
    c, b = model.config, len(batch["features"])
    (time_NP,), (variable_BV,) = seen["time"], seen["variables"]
    rolled_NP = time_NP
    for weights_NPP in reversed(seen["time blocks"]):  # half of each block's output is its own token (the residual)
        rolled_NP = 0.5 * rolled_NP + 0.5 * (rolled_NP[:, None] @ weights_NPP)[:, 0]

    def stacked(name: str, width: int) -> Tensor:
        return torch.stack(seen[name]) if seen[name] else variable_BV.new_zeros(0, b, c.n_features, width)

    return AttentionAndGates(
        time_BVP=time_NP.view(c.n_features, b, c.n_patches).transpose(0, 1),
        rollout_BVP=rolled_NP.view(c.n_features, b, c.n_patches).transpose(0, 1),
        gate_KBVD=stacked("gates", c.d_model),
        attention_KBVV=stacked("variable blocks", c.n_features),
        variable_BV=variable_BV,
    )


def windows_at_once(model: MIGT_TVDT) -> int:
    """How many windows are read together: the weights of one time block stay near 2^25 numbers."""
    c = model.config
    return max(1, 2**25 // (c.n_features * c.n_heads * c.n_patches**2))


@contextmanager
def _seen(model: MIGT_TVDT) -> Iterator[dict[str, list[Tensor]]]:
    """What one forward pass in this block weighs, by the name of its place, in the order of the blocks."""
    seen: dict[str, list[Tensor]] = defaultdict(list)

    def watch(name: str, proved: Callable[..., Tensor], modules: Iterable[nn.Module]) -> list[RemovableHandle]:
        def hook(module: nn.Module, inputs: Inputs, output: Tensor) -> None:
            seen[name].append(proved(module, inputs, output))

        return [module.register_forward_hook(hook) for module in modules]

    def attentions(blocks: nn.Module) -> list[nn.Module]:
        return [part for part in blocks.modules() if isinstance(part, SelfAttention)]

    placed = [
        *watch("gates", _proved_gate, [block for block in model.variable_blocks if block.gate is not None]),
        *watch("time blocks", _proved_attention, attentions(model.time_blocks)),
        *watch("variable blocks", _proved_attention, attentions(model.variable_blocks)),
        *watch("time", _proved_pool, [model.time_pool]),
        *watch("variables", _proved_pool, [model.variable_pool]),
    ]
    try:
        with unfused(model):
            yield seen
    finally:
        for handle in placed:
            handle.remove()


def _proved_attention(attention: SelfAttention, inputs: Inputs, output: Tensor) -> Tensor:
    """Weights (N, L, L), the mean over heads."""
    x_NLD, valid_NL = _tokens_and_mask(inputs)
    weights_NALL = attention_weights(attention, x_NLD, valid_NL)
    mixed_NALd = weights_NALL @ _projected(attention, x_NLD)[2]
    _prove(attention, attention.out(mixed_NALd.transpose(1, 2).reshape(x_NLD.shape)), output)
    return weights_NALL.mean(1)


def _proved_pool(pool: AttentionPool, inputs: Inputs, output: Tensor) -> Tensor:
    """Weights (N, L), the mean over heads."""
    x_NLD, valid_NL = _tokens_and_mask(inputs)
    weights_NLA = pool_weights(pool, x_NLD, valid_NL)
    _prove(pool, pool.value((weights_NLA.transpose(1, 2) @ x_NLD).flatten(1)), output)
    return weights_NLA.mean(-1)


def _proved_gate(block: VariableBlock, inputs: Inputs, output: Tensor) -> Tensor:
    x_NLD, _ = _tokens_and_mask(inputs)
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
