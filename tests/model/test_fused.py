"""Fused operations against torch's own: values, gradients, and what happens where they can't be had."""

from __future__ import annotations

import copy
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.model.conftest import random_clock
from torch import Tensor

import nqcast
from nqcast.model import MIGT_TVDT, ModelConfig, fuse
from nqcast.model.embedding import WindowNorm
from nqcast.model.fused import encoder, unfused, window_norm
from nqcast.model.fused.encoder import EncoderParts, Sizes, fused_encoder
from nqcast.model.fused.native_code import CannotBuildError
from nqcast.model.fused.window_norm import fused_window_norm

needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="needs a C++ compiler: install g++"
)
DEEP: dict[str, Any] = {
    **{"context": 96, "patch_length": 4, "d_model": 128, "n_heads": 4, "d_ff": 208, "n_features": 6},
    **{"n_time_blocks": 2, "n_variable_blocks": 2, "gate": False, "window_statistics": False},
}
OTHERS: list[dict[str, Any]] = [
    {"patch_length": 24, "d_model": 64, "d_ff": 208, "n_features": 6},
    {"context": 96, "patch_length": 2, "n_heads": 2, "n_time_blocks": 2, "n_variable_blocks": 2, "gate": False},
    {"d_model": 64, "n_heads": 4, "d_ff": 16, "n_features": 10, "window_statistics": False},
]
# The default, and one in which everything is another; each is compiled for seconds, so the others wait for the night.
SIZES = [{}, DEEP, *(pytest.param(sizes, marks=(pytest.mark.slow, pytest.mark.nightly)) for sizes in OTHERS)]


@pytest.fixture(autouse=True)
def found_anew() -> Iterator[None]:
    """What a test finds out about compilers is not for the next one."""
    yield
    encoder._fused_encoder.cache_clear()
    encoder._say_once.cache_clear()
    window_norm.fused_window_norm.cache_clear()


def awake(kernels: str = "fused", **sizes: Any) -> MIGT_TVDT:
    """A model whose every parameter matters."""
    model = MIGT_TVDT(ModelConfig(kernels=kernels, **sizes), seed=0)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=rng)
    return fuse(model)


def windows(model: MIGT_TVDT, n: int) -> tuple[Tensor, None, dict[str, Tensor]]:
    c = model.config
    features = 1.0 + 2.0 * torch.randn(n, c.context, c.n_features, generator=torch.Generator().manual_seed(2))
    return features, None, random_clock(n, c.context)


def learn(model: MIGT_TVDT, inputs: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """Quantiles and gradients of a training step, dropout from one seed."""
    torch.manual_seed(3)
    quantiles = model(*inputs)["quantiles"]
    weights = torch.randn(quantiles.shape, generator=torch.Generator().manual_seed(4))
    (quantiles * weights).sum().backward()
    return quantiles.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def stages(model: MIGT_TVDT) -> dict[str, EncoderParts]:
    return {
        "time": EncoderParts(model.patches, list(model.time_blocks), model.time_norm, model.time_pool),
        "variables": EncoderParts(None, list(model.variable_blocks), model.variable_norm, model.variable_pool),
    }


def stage_inputs(parts: EncoderParts, n: int) -> tuple[Tensor | None, Tensor]:
    """Windows, where there are patches, and places or tokens."""
    s, rng = parts.sizes(), torch.Generator().manual_seed(2)
    rows = torch.randn(n, s.VARIABLES, s.TOKENS * s.PATCH, generator=rng) if s.PATCH else None
    return rows, torch.randn(n, s.TOKENS, s.WIDTH, generator=rng)


def run_fused(parts: EncoderParts, rows: Tensor | None, place: Tensor) -> Tensor:
    fused = fused_encoder(parts)
    assert not isinstance(fused, CannotBuildError), fused
    return fused(parts, rows, place)


def run_plain(parts: EncoderParts, rows: Tensor | None, place: Tensor) -> Tensor:
    """(B, F, D) by torch's operations, in the arithmetic of the modules and inputs."""
    x = place[None] if parts.patches is None else parts.patches(rows) + place
    f, b, p, d = x.shape
    x = x.reshape(f * b, p, d)
    for block in parts.blocks:
        x = block(x)
    return parts.pool(parts.norm(x)).view(f, b, d).transpose(0, 1)


def stage_step(run: Any, parts: EncoderParts, rows: Tensor | None, place: Tensor) -> dict[str, Tensor]:
    """Output and gradients of a stage, by name."""
    place = place.detach().clone().requires_grad_()
    output = run(parts, rows, place)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(4))
    (output * weights).sum().backward()
    found = {f"parameter {i}": p.grad for i, p in enumerate(parts.parameters())}
    for p in parts.parameters():
        p.grad = None
    return {"output": output.detach(), "place": place.grad, **found}


def in_double(parts: EncoderParts, rows: Tensor | None, place: Tensor) -> dict[str, Tensor]:
    exact = copy.deepcopy(parts)
    for module in (exact.patches, *exact.blocks, exact.norm, exact.pool):
        if module is not None:
            module.double()
    return stage_step(run_plain, exact, None if rows is None else rows.double(), place.double())


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@needs_compiler
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("n", [1, 19])
@pytest.mark.parametrize("stage", ["time", "variables"])
def test_outputs_and_gradients_are_those_of_torchs_operations_in_double_precision(
    sizes: dict[str, Any], n: int, stage: str
) -> None:
    parts = stages(awake(**sizes, dropout=0.0))[stage]
    inputs = stage_inputs(parts, n)
    expected, found = in_double(parts, *inputs), stage_step(run_fused, parts, *inputs)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert relative(found[name], value) < 2e-5, name


@needs_compiler
@pytest.mark.parametrize("sizes", SIZES)
def test_the_model_learns_what_it_learns_by_torchs_operations(sizes: dict[str, Any]) -> None:
    fused, plain = awake(**sizes, dropout=0.0), awake("plain", **sizes, dropout=0.0)
    inputs = windows(fused, 9)
    (expected, gradients), (found, others) = learn(plain, inputs), learn(fused, inputs)
    assert relative(found, expected) < 1e-5
    assert others.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert relative(others[name], gradient) < 1e-4, name


@needs_compiler
def test_dropout_is_that_of_torchs_operations() -> None:
    """The same masks from the same seed, on the same branches."""
    sizes = DEEP | {"dropout": 0.4}
    fused, plain = awake(**sizes).train(), awake("plain", **sizes).train()
    inputs = windows(fused, 9)
    (expected, gradients), (found, others) = learn(plain, inputs), learn(fused, inputs)
    torch.manual_seed(5)
    without = awake(**sizes | {"dropout": 0.0})(*inputs)["quantiles"].detach()
    assert relative(without, expected) > 1e-3
    assert relative(found, expected) < 1e-5
    for name, gradient in gradients.items():
        assert relative(others[name], gradient) < 1e-4, name


def bf16_encoder() -> bool:
    with torch.autocast("cpu", torch.bfloat16):
        return not isinstance(fused_encoder(stages(MIGT_TVDT(seed=0))["time"]), CannotBuildError)


@needs_compiler
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("stage", ["time", "variables"])
def test_in_bf16_it_is_nearer_to_double_precision_than_torch_is(sizes: dict[str, Any], stage: str) -> None:
    if not bf16_encoder():
        pytest.skip("needs a processor with AVX512_BF16, such as Zen 4 or Sapphire Rapids")
    parts = stages(awake(**sizes, dropout=0.0))[stage]
    inputs = stage_inputs(parts, 19)
    expected = in_double(parts, *inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found, rough = (stage_step(run, parts, *inputs) for run in (run_fused, run_plain))
    assert 1e-6 < relative(found["output"], expected["output"]) < 0.01
    errors = [[relative(one[name], value) for name, value in expected.items()] for one in (found, rough)]
    assert sum(errors[0]) < sum(errors[1])
    assert max(errors[0]) < 0.05


@needs_compiler
def test_neither_threads_nor_the_rest_of_the_batch_change_a_bit() -> None:
    parts = stages(awake(dropout=0.0))["time"]
    rows, place = stage_inputs(parts, 21)
    before, results = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(stage_step(run_fused, parts, rows, place))
        alone = run_fused(parts, rows[5:6], place[5:6])
        torch.testing.assert_close(alone, run_fused(parts, rows, place)[5:6], rtol=1e-6, atol=1e-6)
    torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(value, other[name]) for name, value in results[0].items())


@needs_compiler
@pytest.mark.parametrize("context", [5, 288])
def test_windows_are_normalised_as_in_double_precision(context: int) -> None:
    norm = WindowNorm(24, 1e-3)
    rng = torch.Generator().manual_seed(0)
    norm.feature_mean_F.copy_(torch.randn(24, generator=rng))
    norm.feature_std_F.copy_(torch.rand(24, generator=rng) + 0.1)
    features = 10.0 * torch.randn(7, context, 24, generator=rng)
    features[0, :, 3] = 2.5  # constant
    features[1, -1, 4] = 1e4  # clipped
    features[2, 0, 5] = torch.nan
    fused = fused_window_norm(24)
    assert not isinstance(fused, CannotBuildError)
    found = fused(norm, features, 3, True)
    level = (features.double() - norm.feature_mean_F) / norm.feature_std_F
    mean, log_std = level.mean(1), 0.5 * (level.var(1, correction=0) + 1e-6).log()
    rows = ((level - mean[:, None]) / log_std.exp()[:, None]).clamp(-8.0, 8.0).transpose(1, 2)
    for value, expected in ((found.mean_BF, mean), (found.log_std_BF, log_std), (found.rows_BFT, rows)):
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=2e-5, equal_nan=True)
    assert found.rows_BFT[2, 5].isnan().all() and found.rows_BFT[0, 3].abs().max() < 1e-6
    assert (found.rows_BFT[1].abs().max() == 8.0) == (context == 288)  # of 5 none is 8 deviations off
    assert torch.equal(found.level_BTF[3:], norm(features, None).level_BTF[3:, -3:])
    assert fused(norm, features, 3, False).rows_BFT is None


@needs_compiler
def test_a_number_that_is_none_is_told_and_stays_in_its_window() -> None:
    model = awake().eval()
    features, _, clock = windows(model, 4)
    features[2, 100, 7] = torch.nan
    quantiles = model(features, None, clock)["quantiles"]
    assert quantiles[2].isnan().all() and quantiles[[0, 1, 3]].isfinite().all()


@needs_compiler
def test_pads_gradients_of_the_input_and_hooks_take_torchs_operations() -> None:
    model, plain = awake(dropout=0.0).eval(), awake("plain", dropout=0.0).eval()
    features, _, clock = windows(model, 3)
    valid = torch.ones(3, model.config.context, dtype=torch.bool)
    valid[0, :50] = False
    torch.testing.assert_close(model(features, valid, clock)["quantiles"], plain(features, valid, clock)["quantiles"])
    slopes = []
    for one in (model, plain):
        wanted = features.clone().requires_grad_()
        one(wanted, None, clock)["quantiles"].sum().backward()
        slopes.append(wanted.grad)
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-3, atol=1e-6)
    assert slopes[0].abs().sum(1).min() > 0
    with unfused(model):
        assert torch.equal(model(features, None, clock)["quantiles"], plain(features, None, clock)["quantiles"])
    assert not torch.equal(model(features, None, clock)["quantiles"], plain(features, None, clock)["quantiles"])


def test_without_a_compiler_auto_goes_on_and_fused_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    encoder._fused_encoder.cache_clear()
    encoder._say_once.cache_clear()
    window_norm.fused_window_norm.cache_clear()
    auto, plain = awake("auto").eval(), awake("plain").eval()
    inputs = windows(auto, 2)
    with caplog.at_level(logging.INFO, "nqcast"):
        assert torch.equal(auto(*inputs)["quantiles"], plain(*inputs)["quantiles"])
        with torch.autocast("cpu", torch.bfloat16):
            auto(*inputs)  # another precision, the same reason
    assert caplog.text.count("attention runs as torch's own operations: no C++ compiler: install g++") == 1
    with pytest.raises(ValueError, match=r"kernels=fused to be possible.*no C\+\+ compiler.*set it to auto"):
        awake("fused")


def test_sizes_that_are_not_for_it_are_named() -> None:
    fits = Sizes(TOKENS=24, WIDTH=32, HEADS=2, HIDDEN=64, BLOCKS=1, PATCH=12, VARIABLES=24, GATED=False)
    assert fits.obstacle() == ""
    for change, said in (
        ({"WIDTH": 16}, "multiple of 16 channels"), ({"HEADS": 1}, "even numbers of heads"),
        ({"BLOCKS": 0}, "one block"), ({"TOKENS": 25}, "even numbers"), ({"PATCH": 1}, "even numbers"),
        ({"TOKENS": 288}, "at most 4608 tokens"),
        ({"WIDTH": 256}, "d_model of at most 128"), ({"HIDDEN": 40}, "d_ff a multiple of 16"),
    ):  # fmt: skip
        assert said in fits._replace(**change).obstacle()
    with pytest.raises(ValueError, match="multiple of 16 channels"):
        awake("fused", size="test")
    awake("auto", size="test")(torch.zeros(1, 288, 24))


@needs_compiler
def test_two_processes_build_at_once_and_a_third_finds_it_built(tmp_path: Path) -> None:
    code = "import logging, torch; logging.basicConfig(level='INFO'); from nqcast.model import *;"
    code += "model = fuse(MIGT_TVDT(ModelConfig(kernels='fused'), seed=0));"
    code += "print(model(torch.ones(2, 288, 24))['quantiles'].sum().item())"
    package = Path(nqcast.__file__).parent
    shutil.copytree(package, tmp_path / "nqcast", ignore=shutil.ignore_patterns("native", "*.so"))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    both = [start() for _ in range(2)]
    said = [process.communicate(timeout=300) for process in both]
    third = start()
    said.append(third.communicate(timeout=300))
    assert [process.returncode for process in (*both, third)] == [0, 0, 0], said
    assert len({out for out, _ in said}) == 1
    assert "built for this processor" in said[0][1] + said[1][1] and "built for" not in said[2][1]
    kept = sorted(path.suffix for path in tmp_path.rglob("*") if path.name.startswith(("encoder-", "window_norm-")))
    assert kept == [".so"] * 3  # over time, over variables, the norm; nothing half made beside them


@needs_compiler
@pytest.mark.parametrize("instructions", ["-mno-avx512f", "-mno-avx"])
def test_processors_with_narrower_registers_compute_the_same(
    instructions: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if "x86" not in subprocess.run([compiler, "-dumpmachine"], capture_output=True, text=True, check=True).stdout:
        pytest.skip("needs an x86 processor, whose instructions these are")
    narrow = tmp_path / "narrow"
    narrow.write_text(f'#!/bin/sh\nexec "{compiler}" "$@" {instructions}\n')
    narrow.chmod(0o700)
    parts = stages(awake(dropout=0.0))["time"]
    inputs = stage_inputs(parts, 3)
    monkeypatch.setenv("CXX", str(narrow))
    encoder._fused_encoder.cache_clear()
    found = stage_step(run_fused, parts, *inputs)
    assert max(relative(found[name], value) for name, value in in_double(parts, *inputs).items()) < 2e-5
    assert not bf16_encoder()  # and what they lack is not tried
