"""Presets, overrides and refusals."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from nqcast.model.config import PRESETS, ModelConfig


def test_the_full_preset_is_the_published_size() -> None:
    c = ModelConfig(size="full")
    published = (256, 8, 4, 2, 1024, 0.1, 1)
    assert (
        c.d_model, c.n_heads, c.n_time_blocks, c.n_variable_blocks, c.d_ff, c.dropout, c.patch_length
    ) == published  # fmt: skip


@pytest.mark.parametrize("size", PRESETS)
def test_any_field_of_a_preset_can_be_overridden_and_the_rest_stays(size: str) -> None:
    preset, changed = ModelConfig(size=size), ModelConfig(size=size, d_ff=48, patch_length=36)
    assert changed.d_ff == 48
    assert changed.n_patches == 8
    assert changed.model_dump(exclude={"d_ff", "patch_length"}) == preset.model_dump(exclude={"d_ff", "patch_length"})


def test_a_dump_rebuilds_the_same_configuration() -> None:
    config = ModelConfig(size="laptop", d_model=48)
    assert ModelConfig(**config.model_dump()) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"patch_length": 7}, "divide context"),
        ({"d_model": 30, "n_heads": 4}, "multiple of n_heads"),
        ({"quantiles": (0.5, 0.1, 0.9)}, "rising levels"),
        ({"quantiles": (0.1, 0.4, 0.9)}, r"0\.5 among them"),
        ({"recent_bars": (1, 500)}, "recent_bars"),
        ({"widht": 3}, "widht"),
        ({"size": "huge"}, "laptop"),
        ({"size": "full", "tokens": False}, "attention in a model of full size"),
    ],
)
def test_an_impossible_model_is_refused_with_the_reason(fields: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig(**fields)


def test_reading_configurations_imports_no_torch() -> None:
    code = (
        "import sys, nqcast.model, nqcast.training, nqcast.model.config, nqcast.training.config;"
        "sys.exit(any(name in sys.modules for name in ('torch', 'mlflow', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
