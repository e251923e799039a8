"""The simulated market and the recipe that the tests of the experiments have."""

from __future__ import annotations

from tests.experiments.conftest import SPLIT, features, recipe

__all__ = ["SPLIT", "features", "recipe"]
