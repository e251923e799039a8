"""Kedro's own means, where the project uses them: tags, and validators in the catalog."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.kedro_command import PROJECT, kedro, newest, output_of

from nqcast.pipeline_registry import register_pipelines


def test_a_tag_is_the_part_of_the_default_pipeline_with_its_name() -> None:
    pipelines = register_pipelines()
    for name in ("ingest", "features", "train", "evaluate"):
        tagged = pipelines["__default__"].only_nodes_with_tags(name)
        assert {node.name for node in tagged.nodes} == {node.name for node in pipelines[name].nodes} != set()


@pytest.mark.slow
def test_a_table_of_ones_own_in_place_of_the_features_is_proved_to_be_one(tmp_path: Path) -> None:
    copy, data = tmp_path / "copy", tmp_path / "data"
    for name in ("src", "conf"):
        shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "local"))
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(PROJECT / name, copy)
    output_of(kedro("run", "--env", "test", "--tags", "ingest,features", data=data, cwd=copy))
    table = pd.read_parquet(next(newest(data / "04_feature" / "features.parquet").glob("*.parquet")))
    mine = tmp_path / "mine.parquet"
    (copy / "conf" / "local").mkdir()
    (copy / "conf" / "local" / "catalog_mine.yml").write_text(
        f"features:\n  type: pandas.ParquetDataset\n  filepath: {mine}\n"
        "  validator: nqcast.datasets.validators.FeatureTable\n"
    )
    chosen = ("run", "--env", "test", "--pipelines", "train", "--to-nodes", "split_dataset")
    table.to_parquet(mine)
    output_of(kedro(*chosen, data=data, cwd=copy, local="local"))
    table.assign(macd=np.where(table.index == 9, np.nan, table["macd"])).to_parquet(mine)
    said = output_of(kedro(*chosen, data=data, cwd=copy, local="local"), fails=True)
    assert "expected features finite on every row, found others in ['macd']" in said and "Traceback" not in said
