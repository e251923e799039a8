"""The published figures are the defaults; nonsense is refused."""

import pytest
from pydantic import ValidationError

from nqcast.training import TrainConfig


def test_the_defaults_are_the_published_figures() -> None:
    published = {
        "learning_rate": 1e-4, "weight_decay": 0.01, "batch_size": 128, "accumulation": 2, "clip_norm": 1.0,
        "warmup_steps": 1000, "t_0": 10, "t_mult": 2, "eta_min": 1e-6, "patience": 10, "min_delta": 1e-5, "top_k": 3,
        "precision": "auto", "device": "auto",
    }  # fmt: skip
    assert TrainConfig().model_dump(include=set(published)) == published


@pytest.mark.parametrize(
    "fields",
    [
        {"quantiles": (0.5, 0.1)}, {"quantiles": (0.0, 0.5)}, {"eta_min": 1.0}, {"learning_rate": 0.0},
        {"batch_size": 0}, {"precision": "fp8"}, {"epoch": 3},
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(fields: dict) -> None:
    with pytest.raises(ValidationError):
        TrainConfig(**fields)
