"""A pipeline whose inputs nobody has made names the pipelines that make them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.kedro_command import kedro, output_of


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "missing", "road"),
    [
        ("train", "features", "ingest,features"),
        ("forecast", "calibration", "ingest,features,train"),
        ("update", "calibration", "ingest,features,train"),
    ],
)
def test_the_road_to_what_is_missing_is_named(asked: str, missing: str, road: str, tmp_path: Path) -> None:
    said = output_of(kedro("run", "--env", "test", "--pipelines", asked, data=tmp_path), fails=True)
    assert f"error: expected {missing}, found none so far: `kedro run --env test --pipelines {road}` makes it" in said


@pytest.mark.slow
def test_the_bars_that_were_given_go_along_the_road(tmp_path: Path) -> None:
    bars = "--params", "bars=my bars.csv"
    said = output_of(kedro("run", "--env", "nq", "--pipelines", "forecast", *bars, data=tmp_path), fails=True)
    assert "`kedro run --env nq --pipelines ingest,features,train --params 'bars=my bars.csv'` makes it" in said
