"""The windows against slices of the table, and the order in which a loader hands them out."""

import numpy as np
import pandas as pd
import pytest
import torch

from nqcast.constants import CLOCK, FEATURES, TARGETS
from nqcast.data.features import build_features
from nqcast.data.windows import WindowLoader, WindowTable


@pytest.fixture(scope="module")
def scale_NH(features) -> np.ndarray:
    return np.random.default_rng(0).uniform(1e-4, 1e-3, size=(len(features), 5))


@pytest.fixture(scope="module")
def table(features, scale_NH) -> WindowTable:
    return WindowTable(features, scale_NH, unit_quantiles=np.arange(35.0).reshape(5, 7))


def test_windows_equal_naive_slicing(features, scale_NH, table):
    values = features[list(FEATURES)].to_numpy(np.float32)
    anchors = np.array([287, 288, 5000, 1234, len(features) - 1])
    batch = table.gather(anchors)
    for i, p in enumerate(anchors):
        np.testing.assert_array_equal(batch["features"][i].numpy(), values[p - 287 : p + 1])
        for name in CLOCK:
            np.testing.assert_array_equal(batch["temporal_info"][name][i], features[name][p - 287 : p + 1])
        np.testing.assert_array_equal(batch["targets"][i], features.loc[p, list(TARGETS)].astype("float32"))
        np.testing.assert_array_equal(batch["scale"][i], scale_NH[p].astype("float32"))
    assert "attention_mask" not in batch
    assert batch["features"].is_contiguous()


def test_a_window_that_reaches_before_the_data_is_padded_and_masked(features, table):
    values = features[list(FEATURES)].to_numpy(np.float32)
    batch = table.gather(np.array([10, 400]))
    assert batch["attention_mask"].sum(dim=1).tolist() == [11, 288]
    assert batch["attention_mask"][0, -11:].all()
    np.testing.assert_array_equal(batch["features"][0, -11:].numpy(), values[:11])
    assert (batch["features"][0, :-11] == 0).all()
    np.testing.assert_array_equal(batch["features"][1].numpy(), values[113:401])


def test_rows_may_have_unit_quantiles_of_their_own(features):
    rolling = np.random.default_rng(1).normal(size=(len(features), 5, 7))
    batch = WindowTable(features, None, unit_quantiles=rolling).gather(np.array([300, 900]))
    np.testing.assert_array_equal(batch["unit_quantiles"].numpy(), rolling[[300, 900]].astype(np.float32))
    assert "scale" not in batch


def test_bars_after_an_anchor_never_change_its_window(bars, make_bars, table, scale_NH):
    cut = 4000
    other = make_bars(pd.DatetimeIndex(bars["session"].unique()), seed=4)
    changed = build_features(pd.concat([bars.iloc[: cut + 1], other.iloc[cut + 1 :]], ignore_index=True))
    anchors = np.array([1000, cut - 1, cut])
    mine, theirs = table.gather(anchors), WindowTable(changed, scale_NH).gather(anchors)
    assert torch.equal(mine["features"], theirs["features"])
    for name in CLOCK:
        assert torch.equal(mine["temporal_info"][name], theirs["temporal_info"][name])


def test_a_scale_of_other_rows_or_with_zeros_is_refused(features, scale_NH):
    with pytest.raises(ValueError, match="of shape"):
        WindowTable(features, scale_NH[:-1])
    with pytest.raises(ValueError, match="above 0"):
        WindowTable(features, np.zeros_like(scale_NH))


def targets_of(loader: WindowLoader) -> np.ndarray:
    return np.concatenate([batch["targets"].numpy() for batch in loader])


def test_an_epoch_hands_out_every_anchor_once_in_an_order_of_seed_and_epoch(table):
    anchors = np.arange(400, 1403)
    loader = WindowLoader(table, anchors, 128, seed=1)
    assert len(loader) == 8 and loader.n_windows == 1003
    first = loader.order()
    assert not np.array_equal(first, anchors)
    np.testing.assert_array_equal(np.sort(first), anchors)
    np.testing.assert_array_equal(targets_of(loader), table.targets_NH.numpy()[first])
    np.testing.assert_array_equal(targets_of(loader), targets_of(WindowLoader(table, anchors, 128, seed=1)))
    loader.set_epoch(1)
    assert not np.array_equal(loader.order(), first)
    loader.set_epoch(0)
    np.testing.assert_array_equal(loader.order(), first)


def test_a_subset_of_anchors_changes_from_epoch_to_epoch(table):
    loader = WindowLoader(table, np.arange(400, 1400), 64, seed=0, windows_per_epoch=100)
    assert len(loader) == 2 and loader.n_windows == 100
    first = set(loader.order().tolist())
    assert len(first) == 100
    loader.set_epoch(1)
    assert len(first & set(loader.order().tolist())) < 40


def test_without_a_seed_windows_come_in_time_order(table):
    anchors = np.arange(500, 700)
    np.testing.assert_array_equal(targets_of(WindowLoader(table, anchors, 64)), table.targets_NH.numpy()[anchors])


def test_a_resumed_epoch_goes_on_at_the_batch_where_it_stopped(table):
    loader = WindowLoader(table, np.arange(400, 1000), 100, seed=3)
    whole = [batch["targets"] for batch in loader]
    rest = [batch["targets"] for batch in loader.numbered(range(4, len(loader)))]
    assert len(rest) == 2
    for mine, theirs in zip(whole[4:], rest, strict=True):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())


def test_settings_that_cannot_be_meant_are_refused(table):
    with pytest.raises(ValueError, match="at least 1"):
        WindowLoader(table, np.arange(400, 500), 0)
    with pytest.raises(ValueError, match="expected a seed"):
        WindowLoader(table, np.arange(400, 500), 8, windows_per_epoch=4)
