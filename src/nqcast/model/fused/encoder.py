"""Tokens through attention blocks and a pool as one fused operation on a CPU: `encoder.cpp`.

torch runs them as some sixty operations, each of which reads and writes arrays of megabytes. Here a few sequences at
a time go all the way while they lie in the cache. Same mathematics; sums in another order.

Shapes: B batch · T bars in a row · F variables · P patches · D width · A heads · N = F * B sequences.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nqcast.model.blocks import AttentionPool, Norm, TimeBlock, VariableBlock
from nqcast.model.embedding import PatchEmbedding
from nqcast.model.fused.native_code import CannotBuildError, build
from nqcast.model.fused.window_norm import address, may_take, wanted
from nqcast.model.migt_tvdt import MIGT_TVDT

log = logging.getLogger(__name__)

Run = Callable[["EncoderParts", Tensor | None, Tensor], Tensor]

SOURCE = Path(__file__).with_suffix(".cpp")
VECTOR = 16  # floats of the widest register
TILE = 96  # tokens that go through together, about: more fall out of the second-level cache
LARGEST, WIDEST = 4608, 128  # numbers of a sequence, channels: beyond, torch's products are large enough by themselves


class Sizes(NamedTuple):
    """The constants of the compiled code, by their names there."""

    TOKENS: int
    WIDTH: int
    HEADS: int
    HIDDEN: int
    BLOCKS: int
    PATCH: int  # bars of a token; 0 where the tokens are given
    VARIABLES: int  # sequences of a window that share their places
    GATED: bool

    def obstacle(self) -> str:
        """Why these sizes are not for the fused operation; empty where they are."""
        rules = {
            "at least one block": self.BLOCKS >= 1,
            f"heads of a multiple of {VECTOR} channels": self.WIDTH % (self.HEADS * VECTOR) == 0,
            f"d_ff a multiple of {VECTOR}": self.HIDDEN % VECTOR == 0,
            "even numbers of heads, of tokens and of bars in a patch": not (self.HEADS | self.TOKENS | self.PATCH) % 2,
            f"d_model of at most {WIDEST}": self.WIDTH <= WIDEST,
            f"at most {LARGEST} tokens x d_model": self.TOKENS * self.WIDTH <= LARGEST,
        }
        return "; ".join(rule for rule, kept in rules.items() if not kept)


class Encoder:
    """The fused operation for given sizes, float32 or with products of bfloat16 operands.

    Raises CannotBuildError where it can't be had: no compiler, no instructions for bfloat16, sizes that are not for it,
    other numbers than those of torch's operations.
    """

    def __init__(self, sizes: Sizes, bf16: bool) -> None:
        if sizes.obstacle():
            raise CannotBuildError(f"it wants {sizes.obstacle()}")
        constants = {name: int(value) for name, value in sizes._asdict().items()}
        constants["SEQUENCES"] = _sequences(sizes)
        self.sizes = sizes
        self.library = build(SOURCE, constants | ({"BF16": 1} if bf16 else {}))
        self.library.gradient_size.restype = self.library.scratch_bytes.restype = ctypes.c_long
        self._prove(0.1 if bf16 else 1e-3)

    def __call__(self, parts: EncoderParts, rows_BFT: Tensor | None, place_BPD: Tensor) -> Tensor:
        """One vector per window and variable, (B, F, D), as the pool gives it.

        With patches, `rows_BFT` are the windows and `place_BPD` is added to the tokens of each variable; without, it
        is the tokens, and F = 1.
        """
        masks = parts.dropout(self.sizes.VARIABLES * place_BPD.shape[0])
        pooled_BFAD = _Fused.apply(self, rows_BFT, place_BPD.float(), masks, *parts.parameters())
        return parts.pool.value(pooled_BFAD.flatten(2))

    def call(
        self, name: str, inputs: tuple[Tensor | None, Tensor, Tensor | None], weights: Sequence[Tensor], *more: Tensor
    ) -> None:
        """One pass of the library over rows, places and masks, and the arrays that this pass alone has."""
        addresses = (ctypes.c_void_p * len(weights))(*[weight.data_ptr() for weight in weights])
        sizes = ctypes.c_long(len(inputs[1])), ctypes.c_int(torch.get_num_threads())
        scratch = torch.empty(self.library.scratch_bytes(*sizes), dtype=torch.uint8)
        one_pass = getattr(self.library, name)
        one_pass(*map(address, inputs), addresses, *sizes, *map(address, (scratch, *more)))

    def gradients(self, flat: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        """Each weight's gradient in its shape; in the library the pool's scores and places lie turned and padded."""
        s = self.sizes
        lanes = -(-s.TOKENS // VECTOR) * VECTOR
        shapes = [*(weight.shape for weight in weights[:-2]), (s.HEADS, s.WIDTH), (s.HEADS, lanes)]
        pieces = flat.split([math.prod(shape) for shape in shapes])
        *found, score_AD, place_AP = [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]
        return [*found, score_AD.T, place_AP[:, : s.TOKENS].T]

    def _prove(self, tolerance: float) -> None:
        """Ask one window's outputs and gradients of torch's operations, before anything relies on them."""
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False):
            parts = EncoderParts.random(self.sizes)
            s, rng = self.sizes, torch.Generator().manual_seed(1)
            rows_BFT = torch.randn(1, s.VARIABLES, s.TOKENS * s.PATCH, generator=rng) if s.PATCH else None
            place_BPD = torch.randn(1, s.TOKENS, s.WIDTH, generator=rng)
            found, expected = (_learnt(run, parts, rows_BFT, place_BPD) for run in (self, EncoderParts.plainly))
        for one, other in zip(found, expected, strict=True):
            if not float((one - other).norm()) <= tolerance * float(other.norm()):
                raise CannotBuildError(f"{SOURCE.name} gives other numbers than torch's operations here")


class EncoderParts(NamedTuple):
    """The modules whose work the fused operation does; without `patches` the tokens are given."""

    patches: PatchEmbedding | None
    blocks: list[Any]  # TimeBlock or VariableBlock
    norm: Norm
    pool: AttentionPool

    @classmethod
    def random(cls, s: Sizes) -> EncoderParts:
        """Modules of these sizes, with weights of their own; torch's generator stays where it was."""
        block = (s.WIDTH, s.HEADS, s.HIDDEN, 0.0, "auto")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            patches = PatchEmbedding(s.VARIABLES, s.PATCH, s.WIDTH) if s.PATCH else None
            kind = (lambda: TimeBlock(*block)) if s.PATCH else (lambda: VariableBlock(*block, gated=s.GATED))
            blocks = [kind() for _ in range(s.BLOCKS)]
            return cls(patches, blocks, Norm(s.WIDTH), AttentionPool(s.WIDTH, s.HEADS, s.TOKENS, recent_first=True))

    def plainly(self, rows_BFT: Tensor | None, place_BPD: Tensor) -> Tensor:
        """What the fused operation gives, (B, F, D), by torch's operations."""
        tokens_FBPD = place_BPD[None] if self.patches is None else self.patches(rows_BFT) + place_BPD
        f, b, p, d = tokens_FBPD.shape
        tokens_NPD = tokens_FBPD.reshape(f * b, p, d)
        for block in self.blocks:
            tokens_NPD = block(tokens_NPD)
        return self.pool(self.norm(tokens_NPD)).view(f, b, d).transpose(0, 1)

    def sizes(self) -> Sizes:
        """What the compiled code must know of these modules."""
        patch, n_variables = 0, 1
        if self.patches is not None:
            n_variables, patch = len(self.patches.weight_FKD), self.patches.patch_length
        length, n_heads = self.pool.place_LA.shape
        hidden, gated = 0, False
        if self.blocks:
            hidden, gated = self.blocks[0].feed_forward[0].out_features, _gate(self.blocks[0]) is not None
        width = self.norm.weight.shape[0]
        return Sizes(length, width, n_heads, int(hidden), len(self.blocks), patch, n_variables, gated)

    def parameters(self) -> list[Tensor]:
        """The weights in the order of the C++ code."""
        found: list[Any] = [] if self.patches is None else [self.patches.weight_FKD, self.patches.bias_F1D]
        for block in self.blocks:
            up, down = block.feed_forward[0], block.feed_forward[2]
            middle = [block.attention_norm, block.attention.qkv, block.attention.out, _gate(block), block.feed_norm]
            for part in (*middle, up, down):
                found += [] if part is None else [part.weight, part.bias]
        return [*found, self.norm.weight, self.norm.bias, self.pool.score_DA, self.pool.place_LA]

    def dropout(self, n: int) -> Tensor | None:
        """Masks (blocks, 2, N, D) of the branches of attention and feed-forward, drawn as the blocks draw them; None
        where nothing is dropped.
        """
        masks = [block.dropout.mask(self.norm.weight, n) for block in self.blocks for _ in range(2)]
        kept = [mask for mask in masks if mask is not None]
        return torch.stack(kept).view(len(self.blocks), 2, n, -1) if kept else None


def _gate(block: TimeBlock | VariableBlock) -> nn.Linear | None:
    return block.gate if isinstance(block, VariableBlock) else None


def fused_encoder(parts: EncoderParts) -> Encoder | CannotBuildError:
    """The fused operation for these modules under the present autocast, or why there is none."""
    bf16 = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    return _fused_encoder(parts.sizes(), bf16)


@functools.cache
def _fused_encoder(sizes: Sizes, bf16: bool) -> Encoder | CannotBuildError:
    """The fused encoder, or why there is none; this is found out once per process."""
    try:
        return Encoder(sizes, bf16)
    except CannotBuildError as error:
        _say_once(str(error))
        return error


@functools.cache
def _say_once(reason: str) -> None:
    """Log a reason once: two stages of other sizes, or two precisions, lack the same compiler."""
    log.info("attention runs as torch's own operations: %s", reason)


def _learnt(run: Run, parts: EncoderParts, rows_BFT: Tensor | None, place_BPD: Tensor) -> list[Tensor]:
    """Output, and gradients of the places and weights."""
    place_BPD = place_BPD.clone().requires_grad_()
    output_BFD = run(parts, rows_BFT, place_BPD)
    return [output_BFD.detach(), *torch.autograd.grad(output_BFD.square().sum(), [place_BPD, *parts.parameters()])]


class _Stage:
    """A stage of a fused model, by torch's operations where the fused one may not be taken."""

    def __init__(self, model: MIGT_TVDT, parts: EncoderParts) -> None:
        self.model, self.parts, self.required = model, parts, model.config.kernels == "fused"

    def operation(self) -> Encoder | None:
        """The operation under the present autocast, where it can be had."""
        return wanted(fused_encoder(self.parts), self.required)


class TimeStage(_Stage):
    """Takes the place of `MIGT_TVDT.through_time` in a fused model."""

    def __init__(self, m: MIGT_TVDT) -> None:
        super().__init__(m, EncoderParts(m.patches, list(m.time_blocks), m.time_norm, m.time_pool))

    def __call__(self, rows_BFT: Tensor, place_BPD: Tensor, valid_BT: Tensor | None) -> Tensor:
        if valid_BT is None and not rows_BFT.requires_grad and may_take(rows_BFT, self.parts.norm.weight):
            operation = self.operation()
            if operation is not None:
                return operation(self.parts, rows_BFT, place_BPD)
        return MIGT_TVDT.through_time(self.model, rows_BFT, place_BPD, valid_BT)


class VariablesStage(_Stage):
    """Takes the place of `MIGT_TVDT.through_variables` in a fused model."""

    def __init__(self, m: MIGT_TVDT) -> None:
        super().__init__(m, EncoderParts(None, list(m.variable_blocks), m.variable_norm, m.variable_pool))

    def __call__(self, tokens_BFD: Tensor) -> Tensor:
        if may_take(tokens_BFD, self.parts.norm.weight):
            operation = self.operation()
            if operation is not None:
                return operation(self.parts, None, tokens_BFD)[:, 0]
        return MIGT_TVDT.through_variables(self.model, tokens_BFD)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, encoder: Encoder, rows: Tensor | None, place: Tensor, masks: Tensor | None, *weights: Tensor
    ) -> Tensor:
        rows_BFT, masks = (None if x is None else x.contiguous() for x in (rows, masks))
        place_BPD, weights = place.contiguous(), tuple(weight.contiguous() for weight in weights)
        ctx.encoder = encoder
        ctx.save_for_backward(rows_BFT, place_BPD, masks, *weights)
        s = encoder.sizes
        pooled_BFAD = place_BPD.new_empty(len(place_BPD), s.VARIABLES, s.HEADS, s.WIDTH)
        encoder.call("forward", (rows_BFT, place_BPD, masks), weights, pooled_BFAD)
        return pooled_BFAD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BFAD: Tensor) -> tuple[Tensor | None, ...]:
        rows_BFT, place_BPD, masks, *weights = ctx.saved_tensors
        encoder, gradient_BFAD = ctx.encoder, gradient_BFAD.contiguous()
        flat, place_gradient_BPD = place_BPD.new_empty(encoder.library.gradient_size()), torch.empty_like(place_BPD)
        encoder.call("backward", (rows_BFT, place_BPD, masks), weights, gradient_BFAD, flat, place_gradient_BPD)
        return None, None, place_gradient_BPD, None, *encoder.gradients(flat, weights)


def _sequences(sizes: Sizes) -> int:
    """Sequences of a tile: a divisor of the variables."""
    most = max(1, TILE // sizes.TOKENS)
    return max(n for n in range(1, most + 1) if sizes.VARIABLES % n == 0)
