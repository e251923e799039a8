"""The catalog that the tests of the datasets have."""

from __future__ import annotations

from tests.datasets.conftest import artifact, assert_same, catalog_in, folder

__all__ = ["artifact", "assert_same", "catalog_in", "folder"]
