"""The small market whose volatility is known, as the tests of the evaluation have it."""

from __future__ import annotations

from tests.evaluation.conftest import market

__all__ = ["market"]
