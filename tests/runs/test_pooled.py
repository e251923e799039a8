"""One network over several symbols: splits by date, equal weights, own scales, and checkpoints like any other."""

from __future__ import annotations

import gc
import os
import signal
import weakref
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tests.data.conftest import random_bars

from nqcast.batches import outputs
from nqcast.constants import LEVELS, TARGETS
from nqcast.data.config import LoaderConfig, ScaleConfig, SplitConfig
from nqcast.data.data_module import NQDataModule
from nqcast.data.features import build_features
from nqcast.data.pooled import MappedTable, PooledLoader, check_no_future, pooled_splits, write_table
from nqcast.data.seasonal_har import make_scale
from nqcast.data.splits import positions
from nqcast.evaluation.metrics import mean_pinball
from nqcast.forecast.predictor import load_model, predict
from nqcast.model.config import ModelConfig
from nqcast.runs.pooled import ALONE, PoolRecipe, Symbol, adopted
from nqcast.training.checkpoint import CheckpointStore
from nqcast.training.config import TrainConfig

CONTEXT = 48
SPLIT = SplitConfig(context=CONTEXT, embargo_bars=CONTEXT, warmup_bars=300)


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    """Three symbols over the same weeks: B moves three times as much, C trades on every third day alone."""
    days = pd.bdate_range("2016-02-22", "2016-04-22")
    a, b = random_bars(days, seed=1), random_bars(days, seed=2)
    for name in ("open", "high", "low", "close", "raw_close"):
        b[name] = 4500 * (b[name] / 4500) ** 3
    b["realized_variance"] *= 9
    return {name: build_features(bars) for name, bars in {"A": a, "B": b, "C": random_bars(days[::3], seed=3)}.items()}


def readers(tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    return {name: (lambda frame=frame: frame) for name, frame in tables.items()}


def recipe(epochs: int = 1) -> PoolRecipe:
    return PoolRecipe(
        *(SPLIT, ScaleConfig(), ModelConfig(tokens=False, context=CONTEXT, recent_bars=(1, 12, 48))),
        TrainConfig(epochs=epochs, batch_size=64, accumulation=1, windows_per_epoch=900, warmup_steps=2, device="cpu"),
    )  # fmt: skip


def test_no_label_of_any_symbol_ends_where_a_later_window_of_another_begins(tables: dict[str, pd.DataFrame]) -> None:
    splits = pooled_splits(readers(tables), SPLIT)
    every = pd.concat(splits.values())
    for before, after in (("train", "validation"), ("validation", "test")):
        ends = every.loc[every["split"] == before, "label_end"]
        assert ends.max() < every.loc[every["split"] == after, "window_start"].min()
    first = {name: frame.loc[frame["split"] == "test", "session"].min() for name, frame in splits.items()}
    assert first["A"] == first["B"] <= first["C"], "one date divides all"
    # C's windows span days: without the purge across symbols A's labels would lie inside them
    own = pooled_splits(readers({"A": tables["A"]}), SPLIT)["A"]
    with pytest.raises(ValueError, match=r"label of train to end before validation begins.* of A .* of C "):
        check_no_future({**splits, "A": own})


def test_a_symbol_without_anchors_in_a_split_is_named(tables: dict[str, pd.DataFrame]) -> None:
    early = tables["A"][tables["A"]["session"] <= "2016-03-25"].reset_index(drop=True)
    late = tables["A"][tables["A"]["session"] > "2016-04-08"].reset_index(drop=True)
    for name, part, ends in (("A_2015", early, "2016-02-22 to 2016-03-25"), ("A_2016", late, "2016-04-11 to 2016-04-")):
        told = (
            rf"every symbol from before .* found those of {name} from {ends}.*: put all years of a symbol into one file"
        )
        with pytest.raises(ValueError, match=told):
            pooled_splits(readers({**tables, name: part}), SPLIT)
    with pytest.raises(ValueError, match=r"found those of A_201[56] from"):
        pooled_splits(readers({"A_2015": early, "A_2016": late}), SPLIT)


@pytest.mark.parametrize("rolling", [False, True], ids=["train quantiles", "rolling quantiles"])
def test_a_table_on_disk_gives_the_network_what_its_own_checkpoint_computes(
    tables: dict[str, pd.DataFrame], rolling: bool, tmp_path: Path
) -> None:
    config = recipe()
    config = PoolRecipe(SPLIT, ScaleConfig(rolling_quantiles=rolling, rolling_sessions=3), config.model, config.train)
    symbols = {name: Symbol(read) for name, read in readers(tables).items()}
    checkpoints, splits, history, _ = config.make(symbols, tmp_path)
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".tables")] == [], "tables go when all is done"
    assert history[-1]["val_loss"] < history[0]["val_loss"] * 1.02
    for name, features in tables.items():
        scale = make_scale(config.scale, LEVELS).fit(features, positions(splits[name], "train"))
        loader = LoaderConfig(context=CONTEXT, volatility=True)
        module = NQDataModule.from_frames(features, splits[name], scale, loader=loader)
        write_table(module, tmp_path / name)
        shared = load_model(checkpoints[name])
        shared.set_base(module.unit_quantiles_HQ, np.zeros(24), np.ones(24))
        rows = positions(splits[name], "validation")[:40]
        with torch.inference_mode():
            pooled = outputs(shared, MappedTable(tmp_path / name, CONTEXT).gather(rows))["quantiles"].double().numpy()
        own, _ = predict(checkpoints[name], features, rows)
        np.testing.assert_allclose(pooled, own, rtol=2e-5, atol=1e-9)


def test_every_symbol_has_the_same_share_of_an_epoch_and_a_resumed_one_goes_on(
    tables: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    splits = pooled_splits(readers(tables), SPLIT)
    mapped = []
    for name, features in tables.items():
        write_table(
            NQDataModule.from_frames(features, splits[name], loader=LoaderConfig(context=CONTEXT)), tmp_path / name
        )
        mapped.append(MappedTable(tmp_path / name, CONTEXT))
    anchors = [positions(frame, "train") for frame in splits.values()]
    loader = PooledLoader(mapped, anchors, batch_size=32, seed=5, windows_per_epoch=3 * max(map(len, anchors)))
    loader.set_epoch(2)
    order = loader.order()
    assert np.bincount(order[:, 0]).tolist() == [loader.per_symbol] * 3
    assert set(order[order[:, 0] == 2, 1]) == set(anchors[2]), "the symbol with fewest anchors gives them again"
    whole, rest = list(loader), list(loader.numbered(range(4, len(loader))))
    assert len(whole) == len(loader)
    for one, other in zip(whole[4:], rest, strict=True):
        torch.testing.assert_close(one["features"], other["features"], rtol=0, atol=0)
        torch.testing.assert_close(one["targets"], other["targets"], rtol=0, atol=0, equal_nan=True)
    thinned = PooledLoader(mapped, anchors, batch_size=32).order()
    assert np.bincount(thinned[:, 0]).tolist() == [min(map(len, anchors))] * 3


def test_an_untrained_pool_forecasts_each_symbols_own_scale(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    symbols = {name: Symbol(read) for name, read in readers(tables).items()}
    checkpoints, splits, _, _ = recipe(epochs=0).make(symbols, tmp_path)
    for name, features in tables.items():
        rows = positions(splits[name], "validation")
        scale = make_scale(ScaleConfig(), LEVELS).fit(features, positions(splits[name], "train"))
        quantiles, scale_NH = predict(checkpoints[name], features, rows)
        np.testing.assert_allclose(scale_NH, scale.transform(features)[rows])
        np.testing.assert_allclose(quantiles, scale_NH[..., None] * scale.unit_quantiles_HQ, rtol=1e-4)
    assert len({c.metadata.fingerprint for c in checkpoints.values()}) == 3
    assert len({c.metadata.data.pool for c in checkpoints.values()}) == 1


def test_a_symbol_never_seen_gets_its_own_scale_under_the_shared_weights(
    tables: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    known = {name: Symbol(read) for name, read in readers({k: tables[k] for k in "AC"}).items()}
    pool = recipe().make(known, tmp_path)
    of_a = pool.checkpoints["A"]
    new = adopted(pool.shared, tables["B"], "B", SPLIT.warmup_bars)
    assert new.metadata.data.pool == of_a.metadata.data.pool
    layers = [name for name in pool.shared.part("model") if name.startswith(("recent.", "head.delta"))]
    assert layers and all(np.array_equal(new.part("model")[n], pool.shared.part("model")[n]) for n in layers)
    rows = np.arange(len(tables["B"]) - 50, len(tables["B"]) - 40)
    (quantiles, scale), (_, wrong) = (predict(c, tables["B"], rows) for c in (new, of_a))
    assert not np.allclose(scale, wrong) and np.all(np.diff(quantiles) > 0)
    with pytest.raises(ValueError, match="100 bars of B with a target"):
        adopted(pool.shared, tables["B"].head(350), "B", SPLIT.warmup_bars)


@pytest.mark.parametrize("rate", [1e-2, 30.0], ids=["alone is better", "alone is worse"])
def test_a_symbol_keeps_what_it_learns_alone_only_where_its_validation_is_better(
    tables: dict[str, pd.DataFrame], rate: float, tmp_path: Path
) -> None:
    """Rises are followed by wild bars in A and by calm ones in B, which no shared weights can say."""
    config = recipe(epochs=2)
    config = replace(config, train=config.train.model_copy(update={"learning_rate": rate, "realized_weight": 0.0}))
    tables = {"A": tables["A"].copy(), "B": tables["B"].copy()}
    for name, after in (("A", 2.0), ("B", 0.5)):
        risen = (tables[name]["rsi_14"] > tables[name]["rsi_14"].median()).to_numpy()[:, None]
        tables[name][list(TARGETS)] *= np.where(risen, after, 1 / after)
    pool = config.make({name: Symbol(read) for name, read in readers(tables).items()}, tmp_path)
    shared = {f"model.{n}": w for n, w in pool.shared.part("model").items() if n.startswith(("recent.", "head.delta"))}
    better = []
    for name, own in pool.checkpoints.items():
        rows = positions(pool.splits[name], "validation")
        y = tables[name][list(TARGETS)].to_numpy()[rows]
        losses = []
        for one in (own, replace(own, tensors=own.tensors | shared)):
            quantiles, scale = predict(one, tables[name], rows)
            found = mean_pinball(quantiles / scale[..., None], y / scale, LEVELS)
            losses.append(np.average(found, weights=np.isfinite(y).sum(axis=0)))
        went_on = any(not np.array_equal(own.tensors[layer], shared[layer]) for layer in shared)
        assert went_on == (losses[0] < losses[1])
        better.append(went_on)
    assert better == [rate < 1, rate < 1]
    assert len({c.metadata.fingerprint for c in (*pool.checkpoints.values(), pool.shared)}) == 2 + better[0]


def killed_at(save: int, folder: Path, root: Path) -> None:
    """In a process of its own: the pool of the tables in `folder`, killed once this checkpoint has been written."""
    seen, write = [], CheckpointStore.save

    def save_and_die(self: CheckpointStore, *given: Any, **options: Any) -> Any:
        written = write(self, *given, **options)
        seen.append(written)
        if len(seen) == save:
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    CheckpointStore.save = save_and_die  # type: ignore[method-assign]
    torch.set_num_threads(1)
    symbols = {path.stem: Symbol(lambda path=path: pd.read_parquet(path)) for path in sorted(folder.iterdir())}
    recipe(epochs=2).make(symbols, root)


@pytest.mark.slow
def test_a_pool_that_is_killed_goes_on_to_the_same_networks_in_the_pool_and_on_each_symbols_own_way(
    tables: dict[str, pd.DataFrame], tmp_path: Path
) -> None:
    two = {name: tables[name] for name in ("A", "B")}
    (tmp_path / "tables").mkdir()
    for name, frame in two.items():
        frame.to_parquet(tmp_path / "tables" / f"{name}.parquet")
    symbols = {name: Symbol(read) for name, read in readers(two).items()}
    expected = recipe(epochs=2).make(symbols, tmp_path / "whole")
    for save in (2, 5):  # in the pool, and on a symbol's own way
        child = get_context("spawn").Process(target=killed_at, args=(save, tmp_path / "tables", tmp_path / f"{save}"))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        alone = (tmp_path / f"{save}" / ALONE).exists()
        assert alone == (save == 5)
        found = recipe(epochs=2).make(symbols, tmp_path / f"{save}")
        assert found.shared.weights_sha256 == expected.shared.weights_sha256
        for name, one in expected.checkpoints.items():
            assert found.checkpoints[name].weights_sha256 == one.weights_sha256
            assert found.checkpoints[name].metadata.fingerprint == one.metadata.fingerprint
        assert [path for path in (tmp_path / f"{save}").iterdir() if path.name.startswith(".tables")] == []


def test_one_feature_table_is_in_memory_at_a_time(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    alive: list[weakref.ref[pd.DataFrame]] = []

    def reader(name: str) -> Any:
        def read() -> pd.DataFrame:
            gc.collect()
            assert sum(ref() is not None for ref in alive) <= 1, "at most the last one, while its name is bound anew"
            frame = tables[name].copy()
            alive.append(weakref.ref(frame))
            return frame

        return read

    many = {f"C{k}": Symbol(reader("C")) for k in range(3)}
    recipe(epochs=0).make(many, tmp_path)
    assert len(alive) == 3 * len(many)


def test_several_processes_are_refused_in_words(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    one = recipe()
    shared = PoolRecipe(one.split, one.scale, one.model, one.train.model_copy(update={"devices": 2}))
    with pytest.raises(ValueError, match=r"one process for a pool of symbols, found 2: set train.devices=1"):
        shared.make({"A": Symbol(readers(tables)["A"])}, tmp_path)
    twice = PoolRecipe(one.split, one.scale, one.model, one.train.model_copy(update={"refit": True}))
    with pytest.raises(ValueError, match=r"to be trained once, found train.refit=true"):
        twice.make({"A": Symbol(readers(tables)["A"])}, tmp_path)
