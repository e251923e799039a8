"""Splits: a split is a sorted array of anchor positions (rows of the features frame).

Sessions are divided in time order. From the end of each split those anchors are dropped whose label ends inside a
window of the next split (purge on label end, embargo of one context): the later split is exactly what was asked for.
Then `check_no_overlap` proves it. All of it counts rows, so closed weekends count for nothing.
"""

import numpy as np
import pandas as pd

from nqcast.constants import CONTEXT, SPLITS
from nqcast.data.clock import utc_nanoseconds
from nqcast.data.config import SplitConfig
from nqcast.data.targets import end_rows
from nqcast.horizons import TARGET, horizons, horizons_of
from nqcast.spacing import Spacing


def anchor_mask(features: pd.DataFrame, config: SplitConfig) -> np.ndarray:
    """Rows at which a forecast is made: traded, outside the halt, a full window and warm-up before, a target after."""
    spacing = Spacing.of(features["ts"])
    return anchor_rows(features, spacing.rows(config.context), spacing.rows(config.warmup_bars))


def anchor_rows(features: pd.DataFrame, context: int, warmup_rows: int) -> np.ndarray:
    """The rows of `anchor_mask` for a window of `context` rows and `warmup_rows` before the first anchor; bool (N,)."""
    row = np.arange(len(features))
    mask = features["traded"].to_numpy(bool) & ~features["halt"].to_numpy(bool)
    mask &= (row >= context - 1) & (row >= warmup_rows)
    return mask & (label_end(features) > row)


def label_end(features: pd.DataFrame) -> np.ndarray:
    """Last row that a row's targets look at: the end of its longest defined horizon (itself where none is)."""
    end = np.arange(len(features))
    for one in horizons(horizons_of(features.columns)):
        known = features[f"{TARGET}{one.name}"].notna().to_numpy()
        np.maximum(end, end_rows(features, one), out=end, where=known)
    return end


def make_splits(features: pd.DataFrame, config: SplitConfig | None = None) -> pd.DataFrame:
    """Anchors of the three splits: position (int64, row of `features`), ts, session, split, in time order.

    Raises:
        ValueError: a date outside the data, or a split without anchors.
    """
    config, spacing = config or SplitConfig(), Spacing.of(features["ts"])
    anchors = np.flatnonzero(anchor_mask(features, config))
    if not len(anchors):
        raise ValueError(
            f"expected anchors, traded bars with a target after {config.warmup_bars} warm-up bars, found none in "
            f"{len(features)} rows: give more bars or lower split.warmup_bars"
        )
    sessions = features["session"].to_numpy().astype("datetime64[D]")
    starts = _split_starts(sessions, anchors, config)
    row_bounds = np.searchsorted(sessions, starts)
    ends = label_end(features)
    parts: list[pd.DataFrame] = []
    limit = len(features)  # labels end before this row
    for name, first, stop in reversed(list(zip(SPLITS, row_bounds[:-1], row_bounds[1:], strict=True))):
        inside = anchors[(anchors >= first) & (anchors < stop)]
        kept = inside[ends[inside] < limit]
        if not len(kept):
            raise ValueError(
                f"expected an anchor in each split, found none in {name} ({_span(starts, name)}), where "
                f"{len(inside)} are left by a warm-up of {config.warmup_bars} bars, and none by an embargo of "
                f"{config.embargo_bars}: give more bars or move the dates"
            )
        parts.insert(0, _split_frame(features, kept, name))
        limit = int(kept[0]) - spacing.rows(config.embargo_bars) + 1
    splits = pd.concat(parts, ignore_index=True)
    check_no_overlap(features, splits, spacing.rows(config.context))
    return splits


def newest_splits(features: pd.DataFrame, config: SplitConfig, validation_sessions: int) -> pd.DataFrame:
    """Train and validation alone, for a forecaster of tomorrow: the latest sessions validate, all before them train.

    Raises:
        ValueError: train or validation would have no anchor.
    """
    anchors, ends = np.flatnonzero(anchor_mask(features, config)), label_end(features)
    session = np.cumsum(features["session_first"].to_numpy(bool))
    newest = anchors[session[anchors] > session[-1] - validation_sessions]
    embargo = Spacing.of(features["ts"]).rows(config.embargo_bars)
    limit = int(newest[0]) - embargo + 1 if len(newest) else 0
    train = anchors[ends[anchors] < limit]
    if not len(train):
        raise ValueError(
            f"expected anchors before the {validation_sessions} sessions that validate, found none: bring more bars, "
            "or lower update.validation_sessions"
        )
    return pd.concat([_split_frame(features, train, SPLITS[0]), _split_frame(features, newest, SPLITS[1])])


def with_longer_train(
    features: pd.DataFrame, splits: pd.DataFrame, config: SplitConfig, validation_sessions: int
) -> pd.DataFrame:
    """The splits where of validation the latest sessions alone validate and those before them train.

    An anchor whose label ends inside a window of what still validates is in neither. Where validation is no longer than
    that, the splits as they are.
    """
    judging, rows = splits["split"] == SPLITS[1], splits["position"].to_numpy()
    newest = judging & splits["session"].isin(np.unique(splits.loc[judging, "session"])[-validation_sessions:])
    limit = int(rows[newest].min()) - Spacing.of(features["ts"]).rows(config.embargo_bars) + 1
    learnt = judging & (label_end(features)[rows] < limit)
    return splits.assign(split=splits["split"].mask(learnt, SPLITS[0]))[~judging | newest | learnt]


def positions(splits: pd.DataFrame, split: str) -> np.ndarray:
    """Sorted anchor positions of one split, int64 (N,)."""
    if split not in SPLITS:
        raise ValueError(f"expected a split among {list(SPLITS)}, found {split!r}: name one of these")
    return np.sort(splits.loc[splits["split"] == split, "position"].to_numpy(np.int64))


def check_no_overlap(features: pd.DataFrame, splits: pd.DataFrame, context: int = CONTEXT) -> None:
    """Prove that no window of a split holds a bar that an earlier split has touched.

    Raises:
        ValueError: positions do not belong to these features, repeat, or a later split's first window begins at or
            before the last bar of an earlier split's windows and labels.
    """
    _check_positions(features, splits)
    ends = label_end(features)
    last_touched, earlier = -1, ""
    for name in SPLITS:
        kept = positions(splits, name)
        if not len(kept):
            continue
        first_bar = int(kept[0]) - (context - 1)
        if first_bar < 0:
            raise ValueError(f"expected {context} bars up to an anchor, found one of {name} at row {kept[0]}: drop it")
        if earlier and first_bar <= last_touched:
            raise ValueError(
                f"expected windows of {name} to begin after the last bar that {earlier} touches (row {last_touched}), "
                f"found one from row {first_bar} on: purge the labels and drop anchors (embargo {context} bars)"
            )
        last_touched, earlier = max(last_touched, int(ends[kept].max())), name


def _check_positions(features: pd.DataFrame, splits: pd.DataFrame) -> None:
    position = splits["position"].to_numpy(np.int64)
    if len(position) and (position.min() < 0 or position.max() >= len(features)):
        raise ValueError(
            f"expected split positions among the features' rows (0 to {len(features) - 1}), found {position.min()} to "
            f"{position.max()}: make the splits again from these features"
        )
    if not splits["position"].is_unique:
        raise ValueError("expected each anchor in one split, found repeated positions: make the splits again")
    if not np.array_equal(utc_nanoseconds(features["ts"])[position], utc_nanoseconds(splits["ts"])):
        raise ValueError("expected splits with the time stamps of these features, found others: make the splits again")


def _split_starts(sessions: np.ndarray, anchors: np.ndarray, config: SplitConfig) -> np.ndarray:
    """Trading dates (4,) at which train, validation and test begin and test ends (exclusive)."""
    starts = _starts_by_date(sessions, config) if config.by_date else starts_by_share(sessions[anchors], config)
    return np.array(starts, dtype="datetime64[D]")


def starts_by_share(days: np.ndarray, config: SplitConfig) -> list[np.datetime64]:
    """The four dates of `_split_starts` by the shares of all anchors' trading dates, `days` (N,), each counted once.

    Raises:
        ValueError: there are fewer dates than splits.
    """
    usable = np.unique(days)
    if config.train_start is not None:
        usable = usable[usable >= np.datetime64(config.train_start)]
    if config.test_end is not None:
        usable = usable[usable <= np.datetime64(config.test_end)]
    if len(usable) < len(SPLITS):
        raise ValueError(
            f"expected {len(SPLITS)} sessions with anchors or more to split by fractions, found {len(usable)}: give "
            f"more bars or lower split.warmup_bars ({config.warmup_bars})"
        )
    cuts = np.round(np.cumsum([config.train, config.validation]) * len(usable)).astype(int)
    cuts = np.clip(cuts, [1, 2], [len(usable) - 2, len(usable) - 1])
    return [usable[0], usable[cuts[0]], usable[cuts[1]], usable[-1] + 1]


def _starts_by_date(sessions: np.ndarray, config: SplitConfig) -> list[np.datetime64]:
    first, last = sessions[0], sessions[-1]
    dates = {name: getattr(config, name) for name in ("train_start", "validation_start", "test_start", "test_end")}
    for name, day in dates.items():
        if day is not None and not first <= np.datetime64(day) <= last:
            raise ValueError(f"expected split.{name} within the data ({first} to {last}), found {day}: move it")
    begin = np.datetime64(dates["train_start"]) if dates["train_start"] else first
    end = np.datetime64(dates["test_end"]) if dates["test_end"] else last
    return [begin, np.datetime64(dates["validation_start"]), np.datetime64(dates["test_start"]), end + 1]


def _span(starts: np.ndarray, name: str) -> str:
    index = SPLITS.index(name)
    return f"sessions {starts[index]} to {starts[index + 1] - 1}"


def _split_frame(features: pd.DataFrame, kept: np.ndarray, name: str) -> pd.DataFrame:
    rows = features.iloc[kept]
    return pd.DataFrame(
        {"position": kept.astype(np.int64), "ts": rows["ts"].array, "session": rows["session"].array, "split": name}
    )


def validation_span(features: pd.DataFrame, splits: pd.DataFrame) -> str:
    """How many validation anchors there are, in how many sessions, from when to when, in words."""
    session = features["session"].iloc[positions(splits, "validation")]
    return (
        f"{len(session):,} validation anchors in {session.nunique()} sessions, {session.min():%Y-%m-%d} to "
        f"{session.max():%Y-%m-%d}"
    )
