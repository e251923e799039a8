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


@pytest.mark.slow
def test_a_part_of_a_run_ends_in_what_it_made_or_in_where_it_must_begin(tmp_path: Path) -> None:
    def run(*part: str, fails: bool = False) -> str:
        return output_of(kedro("run", "--env", "test", *part, data=tmp_path), fails)

    made = run("--to-nodes", "train_model")
    assert "08_reporting: data_report, history" in made and "made, and gone with this run: first_checkpoint" in made
    behind = run("--from-nodes", "validation_metrics", fails=True)
    assert "found a run that begins behind" in behind and "begin with --from-nodes load_features; a finished" in behind
    again = run("--from-nodes", "load_features", "--to-nodes", "refit")
    assert "resuming from checkpoint_epoch_0002" in again and "06_models: checkpoint, calibration" in again
    kept = run("--pipelines", "ingest,features")
    assert "ingest as of" in kept and "features as of" in kept
    assert "gone with this run" not in again + kept
    assert "begin with --from-nodes score;" in run("--nodes", "write_report", fails=True)
    assert "found 'train_modl': did you mean train_model?" in run("--to-nodes", "train_modl", fails=True)
