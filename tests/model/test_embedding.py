"""Normalisation that keeps the level, patches, clocks."""

from collections.abc import Callable

import numpy as np
import torch

from nqcast.model.embedding import CYCLES, ClockEncoding, PatchEmbedding, RecentBars, WindowNorm


def test_normalisation_equals_numpy_over_the_valid_rows() -> None:
    g = torch.Generator().manual_seed(0)
    x, valid = 3.0 + torch.randn(2, 20, 3, generator=g), torch.ones(2, 20, dtype=torch.bool)
    valid[0, :7] = False
    norm = WindowNorm(3, 1e-6)
    result = norm(torch.where(valid[..., None], x, torch.nan), valid)
    rows = x[0, 7:].double().numpy()
    np.testing.assert_allclose(result.mean_BF[0], rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(result.log_std_BF[0], np.log(rows.std(0)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.rows_BFT[0, :, 7:].T, (rows - rows.mean(0)) / rows.std(0), rtol=1e-3, atol=1e-4)
    assert (result.rows_BFT[0, :, :7] == 0).all()


def test_a_variable_of_size_1e_minus_7_is_not_silenced() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(4, 50, 1, generator=g)
    large, small = WindowNorm(1, 1e-3), WindowNorm(1, 1e-3)
    small.feature_std_F.fill_(1e-7)
    torch.testing.assert_close(small(1e-7 * x, None).rows_BFT, large(x, None).rows_BFT, rtol=1e-4, atol=1e-5)


def test_the_level_survives_normalisation_as_context() -> None:
    g = torch.Generator().manual_seed(0)
    x, norm = torch.randn(4, 50, 2, generator=g), WindowNorm(2, 1e-6)
    once, doubled = norm(x, None), norm(2 * x, None)
    torch.testing.assert_close(doubled.rows_BFT, once.rows_BFT)
    torch.testing.assert_close(doubled.log_std_BF - once.log_std_BF, torch.full((4, 2), float(np.log(2))))


def test_each_patch_is_a_linear_map_of_its_own_bars_and_variable() -> None:
    torch.manual_seed(0)
    embed, x = PatchEmbedding(3, 4, 8), torch.randn(2, 12, 3)
    tokens = embed(x.transpose(1, 2))
    for f, b, p in [(0, 0, 0), (2, 1, 1), (1, 0, 2)]:
        expected = x[b, 4 * p : 4 * p + 4, f] @ embed.weight_FKD[f] + embed.bias_F1D[f, 0]
        torch.testing.assert_close(tokens[f, b, p], expected)


def test_time_of_day_is_cyclic_and_slots_are_told_apart(clock: Callable) -> None:
    torch.manual_seed(0)
    encode, base = ClockEncoding(16, 8, 4, tuple(CYCLES)), clock(1, 288)
    base = {name: values[:, :1].repeat(1, 288) for name, values in base.items()}
    encoded = encode({**base, "bar_in_day": torch.arange(288)[None]})[0]
    steps = (encoded - encoded.roll(1, 0)).norm(dim=-1)
    assert steps.max() < 3 * steps.median()  # midnight is no jump
    assert torch.cdist(encoded, encoded).fill_diagonal_(1.0).min() > 1e-3


def test_recent_means_are_those_of_the_newest_valid_bars() -> None:
    torch.manual_seed(0)
    recent, x = RecentBars(2, (1, 3), 0, 4), torch.randn(1, 10, 2)
    valid = torch.ones(1, 10, dtype=torch.bool)
    valid[:, :8] = False
    x[:, :8] = 0.0
    expected = recent.layer(torch.cat([x[:, -1], x[:, -2:].mean(1)], -1))
    torch.testing.assert_close(recent(x, valid, None), expected)
