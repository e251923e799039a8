"""Real bars in every form that people have them in, through the same command."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from tests.kedro_command import kedro, newest, output_of


def features_of(bars: Path, data: Path, *parameters: str) -> pd.DataFrame:
    chosen = ",".join([f"bars={bars}", *parameters])
    output_of(kedro("run", "--env", "nq", "--pipelines", "ingest,features", "--params", chosen, data=data))
    return pd.read_parquet(newest(data / "nq" / "04_feature" / "features.parquet") / "features.parquet")


@pytest.fixture(scope="module")
def some_weeks(real_data: Path) -> pd.DataFrame:
    """Six weeks of real 1-minute bars around the June 2016 roll."""
    bars = pd.read_parquet(real_data / "nq_1m_2015-06_2016-12.parquet")
    return bars[(bars["ts"] >= "2016-05-23") & (bars["ts"] < "2016-07-02")].reset_index(drop=True)


@pytest.fixture(scope="module")
def from_parquet(some_weeks: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("parquet")
    some_weeks.to_parquet(folder / "bars.parquet")
    return features_of(folder / "bars.parquet", folder)


@pytest.mark.slow
def test_a_csv_export_gives_the_same_features(
    some_weeks: pd.DataFrame, from_parquet: pd.DataFrame, tmp_path: Path
) -> None:
    renamed = some_weeks.rename(columns={"ts": "Timestamp", "open": "Open", "close": "Close", "volume": "Volume"})
    renamed.assign(Timestamp=renamed["Timestamp"].map(pd.Timestamp.isoformat)).to_csv(tmp_path / "b.csv", index=False)
    pd.testing.assert_frame_equal(features_of(tmp_path / "b.csv", tmp_path), from_parquet)


@pytest.mark.slow
def test_a_five_minute_file_without_volume_is_taken(
    some_weeks: pd.DataFrame, from_parquet: pd.DataFrame, tmp_path: Path
) -> None:
    slot = some_weeks["ts"].dt.floor("5min")
    five = some_weeks.groupby([slot, "contract"], as_index=False).agg(
        {"open": "first", "high": "max", "low": "min", "close": "last"}
    )
    five.sort_values("ts").to_parquet(tmp_path / "five.parquet")
    features = features_of(tmp_path / "five.parquet", tmp_path, "features.volume=false")
    assert (features[["log_volume", "amihud", "volume_ma_ratio"]] == 0).all().all()
    both = features.merge(from_parquet, on="ts", suffixes=("", "_1m"))
    assert len(both) > 0.99 * len(from_parquet)
    agree = (both["log_return"] - both["log_return_1m"]).abs() < 1e-12
    assert agree.mean() > 0.99, "returns of 5-minute bars are the returns of the 1-minute bars they are made of"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nq_1m_2016-09_two_contracts", "nq_1m_2016-09_continuous"])
def test_databento_files_go_through_ingest_and_features(name: str, real_data: Path, tmp_path: Path) -> None:
    features = features_of(real_data / f"{name}.dbn.zst", tmp_path)
    ledger = json.loads((tmp_path / "nq" / "02_intermediate" / "roll_ledger.json").read_text())
    assert len(features) > 3000
    assert len([roll for roll in ledger if roll["adjusted"]]) == (1 if "two" in name else 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "expected"), (b"not a parquet file", "parquet"), (b"", "parquet")],
    ids=["missing", "garbled", "empty"],
)
def test_a_bad_file_meets_one_clear_error(content: bytes | None, message: str, tmp_path: Path) -> None:
    bars = tmp_path / "bars.parquet"
    if content is not None:
        bars.write_bytes(content)
    text = output_of(kedro("run", "--env", "nq", "--params", f"bars={bars}", data=tmp_path), fails=True)
    assert "Traceback" not in text
    assert message in text
    assert "bars.parquet" in text
