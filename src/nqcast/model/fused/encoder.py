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
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nqcast.model.blocks import AttentionPool, Norm, TimeBlock, VariableBlock
from nqcast.model.embedding import PatchEmbedding
from nqcast.model.fused.native_code import Address, CannotBuildError, build

log = logging.getLogger(__name__)

SOURCE = Path(__file__).with_suffix(".cpp")
VECTOR = 16  # floats of the widest register
TILE = 96  # tokens that go through together, about: more fall out of the second-level cache
LARGEST, WIDEST = 4608, 128  # numbers of a sequence, channels: beyond, torch's products are large enough by themselves


class Sizes(NamedTuple):
    """What is a constant of the compiled code; by its names there."""

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

    Raises CannotBuildError where it can't be had: no compiler, no instructions for bfloat16, sizes that are not for it.
    """

    def __init__(self, sizes: Sizes, bf16: bool) -> None:
        if sizes.obstacle():
            raise CannotBuildError(f"it wants {sizes.obstacle()}")
        constants = {name: int(value) for name, value in sizes._asdict().items()}
        constants["SEQUENCES"] = _sequences(sizes)
        self.sizes = sizes
        self.library = build(SOURCE, constants | ({"BF16": 1} if bf16 else {}))
        self.library.gradient_size.restype = self.library.scratch_bytes.restype = ctypes.c_long

    def __call__(self, parts: EncoderParts, rows_BFT: Tensor | None, place_BPD: Tensor) -> Tensor:
        """One vector per window and variable, (B, F, D), as the pool gives it.

        With patches, `rows_BFT` are the windows and `place_BPD` is added to the tokens of each variable; without, it
        is the tokens, and F = 1.
        """
        masks = parts.dropout(self.sizes.VARIABLES * place_BPD.shape[0])
        pooled_BFAD = _Fused.apply(self, rows_BFT, place_BPD.float(), masks, *parts.parameters())
        return parts.pool.value(pooled_BFAD.flatten(2))

    def arguments(
        self, rows: Tensor | None, place: Tensor, masks: Tensor | None, weights: Sequence[Tensor]
    ) -> list[Any]:
        """What both passes of the library take first."""
        addresses = (ctypes.c_void_p * len(weights))(*[weight.data_ptr() for weight in weights])
        sizes = ctypes.c_long(len(place)), ctypes.c_int(torch.get_num_threads())
        scratch = torch.empty(self.library.scratch_bytes(*sizes), dtype=torch.uint8)
        return [*map(Address, (rows, place, masks)), addresses, *sizes, Address(scratch)]

    def gradients(self, flat: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
        """Of each weight, in its shape; the library has those of the pool's scores and places turned and padded."""
        s = self.sizes
        lanes = -(-s.TOKENS // VECTOR) * VECTOR
        shapes = [*(weight.shape for weight in weights[:-2]), (s.HEADS, s.WIDTH), (s.HEADS, lanes)]
        pieces = flat.split([math.prod(shape) for shape in shapes])
        *found, score_AD, place_AP = [piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)]
        return [*found, score_AD.T, place_AP[:, : s.TOKENS].T]


class EncoderParts(NamedTuple):
    """The modules whose work the fused operation does; without `patches` the tokens are given."""

    patches: PatchEmbedding | None
    blocks: list[Any]  # TimeBlock or VariableBlock
    norm: Norm
    pool: AttentionPool

    def sizes(self) -> Sizes:
        """Of these modules."""
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
        """In the order of the C++ code."""
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
    """Found out once per process."""
    try:
        return Encoder(sizes, bf16)
    except CannotBuildError as error:
        log.info("attention runs as torch's own operations: %s", error)
        return error


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
        encoder.library.forward(*encoder.arguments(rows_BFT, place_BPD, masks, weights), Address(pooled_BFAD))
        return pooled_BFAD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_BFAD: Tensor) -> tuple[Tensor | None, ...]:
        rows_BFT, place_BPD, masks, *weights = ctx.saved_tensors
        encoder, gradient_BFAD = ctx.encoder, gradient_BFAD.contiguous()
        flat, place_gradient_BPD = place_BPD.new_empty(encoder.library.gradient_size()), torch.empty_like(place_BPD)
        results = map(Address, (gradient_BFAD, flat, place_gradient_BPD))
        encoder.library.backward(*encoder.arguments(rows_BFT, place_BPD, masks, weights), *results)
        return None, None, place_gradient_BPD, None, *encoder.gradients(flat, weights)


def _sequences(sizes: Sizes) -> int:
    """Sequences of a tile: a divisor of the variables."""
    most = max(1, TILE // sizes.TOKENS)
    return max(n for n in range(1, most + 1) if sizes.VARIABLES % n == 0)
