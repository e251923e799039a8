"""What a checkpoint has settled is obeyed where nothing else is said, and anything else that is said is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pandas as pd
import pytest
from tests.forecast.conftest import random_checkpoint
from tests.test_another_instrument import another_future

from nqcast.backtest.config import BacktestConfig
from nqcast.data.config import FeaturesConfig, ScaleConfig
from nqcast.data.features import build_features
from nqcast.data.fingerprint import data_card, require_tick, require_trained_on
from nqcast.evaluation.config import EvaluateConfig
from nqcast.forecast.config import as_trained
from nqcast.forecast.forecaster import Forecaster
from nqcast.forecast.loading import as_asked
from nqcast.hooks.parameters import ParameterHook
from nqcast.horizons import DEFAULT
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.instruments import instrument
from nqcast.parameters import check_parameters, with_instrument
from nqcast.pipelines.backtest import trade_test
from nqcast.pipelines.evaluate import predict_test
from nqcast.pipelines.features import make_features
from nqcast.pipelines.monitor import read_newest
from nqcast.pipelines.train import load_features
from nqcast.pipelines.update import extend_bars
from nqcast.storage.checkpoint import Checkpoint

ES = IngestConfig(instrument=instrument("ES"))
YM = IngestConfig(instrument=instrument("YM"), tick=1.0)


@pytest.fixture(scope="module")
def dow() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, Checkpoint]:
    """Raw bars, bars and features of the Dow, and a checkpoint of them."""
    raw, _ = another_future("YM", 17_000.0, 1.0)
    bars = build_bars(raw, YM).bars
    features = build_features(bars, FeaturesConfig(tick=1.0))
    drawn = random_checkpoint(features, ScaleConfig())
    card = data_card(features, instrument("YM").model_dump(mode="json"))
    return raw, bars, features, replace(drawn, metadata=replace(drawn.metadata, data=card))


def test_a_run_that_chooses_nothing_reads_bars_as_the_checkpoint_did(
    dow: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, Checkpoint],
) -> None:
    raw, bars, features, checkpoint = dow
    asked = check_parameters(with_instrument({}))
    pd.testing.assert_frame_equal(read_newest(raw, checkpoint, asked.ingest, asked.features), features)
    earlier = bars[bars["session"] < bars["session"].iloc[-1]]
    extended, table = extend_bars(earlier, raw, checkpoint, asked.ingest, asked.features)
    pd.testing.assert_frame_equal(extended, bars)
    pd.testing.assert_frame_equal(table, features)


@pytest.mark.parametrize(
    ("ingest", "features", "said"),
    [
        ({"instrument": "ES"}, {}, "expected instrument=YM, by which the checkpoint was trained, found ES"),
        ({"instrument": "NQ"}, {}, "expected instrument=YM"),
        ({"tick": 0.5}, {}, r"expected ingest.tick=1.0, .* found 0.5: leave it out, or train with it"),
        ({"volume": False}, {}, "expected volume=True"),
        ({"bar_minutes": 15}, {}, "expected bar_minutes=5, as what is there has it, found 15"),
        ({}, {"volume": False}, "expected features.volume=True"),
        ({}, {"volume": True}, ""),
        ({}, {"volume": "auto"}, ""),
        ({"instrument": "YM", "tick": 1.0 + 1e-9, "bar_minutes": 5, "volume": True}, {}, ""),
    ],
)
def test_what_is_said_otherwise_is_refused(
    ingest: dict[str, Any],
    features: dict[str, Any],
    said: str,
    dow: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, Checkpoint],
) -> None:
    asked, checkpoint = (IngestConfig(**ingest), FeaturesConfig(**features)), dow[3]
    if not said:
        assert as_asked(checkpoint, *asked).ingest == YM
        return
    with pytest.raises(ValueError, match=said):
        as_asked(checkpoint, *asked)


def test_a_checkpoint_that_kept_no_tick_takes_that_of_its_product(
    dow: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, Checkpoint],
) -> None:
    """Bars of half an hour of a currency all have a range, by which no tick can be read off their features."""
    metadata = dow[3].metadata
    unread = replace(dow[3], metadata=replace(metadata, data=replace(metadata.data, tick=None)))
    assert as_asked(unread, IngestConfig(), FeaturesConfig()).ingest == YM
    assert as_asked(unread, IngestConfig(tick=0.5), FeaturesConfig()).ingest.tick == 0.5


def test_what_is_made_of_bars_keeps_their_product_through_files(
    dow: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, Checkpoint], tmp_path: Path
) -> None:
    def kept(table: pd.DataFrame) -> pd.DataFrame:
        table.to_parquet(tmp_path / "table.parquet")
        return pd.read_parquet(tmp_path / "table.parquet")

    names, said_nothing = list(DEFAULT), check_parameters(with_instrument({}))
    features = kept(make_features(kept(dow[1]), said_nothing.features, names, said_nothing.ingest))
    pd.testing.assert_frame_equal(features, dow[2])
    card = load_features(features, said_nothing.ingest, names)[1]
    assert card == replace(dow[3].metadata.data, source=card.source) and require_tick(features) == 1.0
    nothing_known = features.copy()
    nothing_known.attrs = {}
    assert load_features(nothing_known, YM, names)[1].instrument == card.instrument
    with pytest.raises(ValueError, match=r"expected instrument=YM, by which the bars were made, found ES: leave it"):
        make_features(kept(dow[1]), FeaturesConfig(), names, ES)
    with pytest.raises(ValueError, match=r"expected instrument=YM, by which the features were made, found ES"):
        load_features(features, ES, names)


@pytest.mark.parametrize("table", [1, 2])
def test_a_table_of_another_product_is_refused_whatever_reads_it(
    table: int, dow: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, Checkpoint]
) -> None:
    hook = hook_of({"instrument": "YM"})
    hook.after_dataset_loaded(dow[table])
    with pytest.raises(ValueError, match="expected instrument=YM, by which what is there was made, found ES"):
        hook_of({"instrument": "ES"}).after_dataset_loaded(dow[table])


def hook_of(files: dict[str, Any]) -> ParameterHook:
    class Loader(dict[str, Any]):
        runtime_params: dict[str, Any] | None = None

    hook = ParameterHook()
    hook.after_context_created(cast(Any, SimpleNamespace(config_loader=Loader(parameters=files))))
    return hook


def test_volume_that_the_training_has_not_seen_is_not_used_and_not_asked_for(plain_checkpoint: Checkpoint) -> None:
    column = plain_checkpoint.metadata.features.index("log_volume")
    tensors = {name: array.copy() for name, array in plain_checkpoint.tensors.items()}
    tensors["model.norm.feature_mean_F"][column] = 0.0
    without = replace(plain_checkpoint, tensors=tensors)
    assert not as_trained(without, IngestConfig()).volume and not as_trained(without, IngestConfig(volume=False)).volume
    with pytest.raises(ValueError, match=r"expected features.volume=False, .* found True"):
        as_asked(without, IngestConfig(), FeaturesConfig(volume=True))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, ""),
        ({"instrument": "YM"}, ""),
        ({"instrument": "ES"}, "expected instrument=YM, by which the checkpoint was trained, found ES"),
        ({"horizons": ["15m", "30m"]}, "expected horizons=15m.30m.60m.2h.4h, .* found 15m.30m: leave it out"),
        ({"quantiles": [0.1, 0.5, 0.9]}, "expected quantiles=0.05.*found 0.1.0.5.0.9"),
        ({"bar_minutes": 30}, ""),  # no horizon was chosen; the table of bars itself says how far they stand apart
    ],
)
def test_files_of_the_configuration_are_asked_too_once_a_run_reads_a_checkpoint(
    files: dict[str, Any], said: str, dow: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, Checkpoint]
) -> None:
    hook = hook_of(files)
    hook.after_dataset_loaded(pd.DataFrame())
    if not said:
        hook.after_dataset_loaded(dow[3])
        return
    with pytest.raises(ValueError, match=said):
        hook.after_dataset_loaded(dow[3])


def test_a_checkpoint_that_knows_no_instrument_takes_what_is_said(plain_checkpoint: Checkpoint) -> None:
    assert not plain_checkpoint.metadata.data.instrument
    assert Forecaster(plain_checkpoint, ingest=IngestConfig(instrument="ES")).ingest.instrument.symbol == "ES"


def test_features_of_other_bars_than_the_training_s_are_neither_scored_nor_traded(
    dow: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, Checkpoint],
) -> None:
    """The splits are rows of one table: in a longer one they are others, of which some have trained."""
    _, _, features, checkpoint = dow
    require_trained_on(features, checkpoint.metadata.data.fingerprint)
    other, nothing = features.iloc[1:], pd.DataFrame()
    with pytest.raises(ValueError, match=r"expected the features that the checkpoint was trained on .*, found others"):
        predict_test(checkpoint, {}, other, nothing, EvaluateConfig())
    with pytest.raises(ValueError, match=r"expected the features that the checkpoint was trained on .*, found others"):
        trade_test(nothing, other, checkpoint, BacktestConfig(), EvaluateConfig())
