"""Proofs that no forecast knows its future, by code that raises: `make prove-no-leak`, one line each.

The bars are those of the simulated market, or of a file (`python -m nqcast.experiments.leak_proof --bars FILE`).

1. Everything after a random time t is changed: features, windows, scale and forecasts up to t stay equal, bit by bit.
2. Targets are permuted across anchors before every fit and for scoring: no model's skill interval lies above zero.
3. Labels of train end before the first window of validation begins, those of validation before test's.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from nqcast.constants import CONTEXT, LEVELS, SPLITS
from nqcast.data.config import FeaturesConfig, ScaleConfig, SplitConfig
from nqcast.data.features import build_features
from nqcast.data.own_features import feature_names
from nqcast.data.seasonal_har import make_scale
from nqcast.data.splits import make_splits, positions
from nqcast.data.targets import end_rows
from nqcast.data.windows import WindowTable
from nqcast.evaluation.baselines import make_baseline
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import targets_at
from nqcast.evaluation.metrics import Floats, anchor_loss
from nqcast.evaluation.significance import session_sums, skill_with_interval, stationary_bootstrap
from nqcast.fields import changed
from nqcast.forecast.predictor import load_scale, predict
from nqcast.horizons import DEFAULT, TARGET, horizons, horizons_of, target_names
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.market.vendor import read_bars
from nqcast.model import MIGT_TVDT
from nqcast.model.config import ModelConfig
from nqcast.runs.recipe import Recipe
from nqcast.spacing import Spacing
from nqcast.storage.checkpoint import Checkpoint, DataCard, Metadata
from nqcast.training.config import TrainConfig

log = logging.getLogger("nqcast.leak_proof")

ON_CPU = EvaluateConfig(device="cpu", batch_size=64)
BASELINES = ("time_of_day", "time_of_day_ewma", "log_har", "seasonal_har")


class LeakError(ValueError):
    """A forecast, or a fit, has used what it could not have known."""


@dataclass(frozen=True)
class World:
    """Raw bars, what is made of them, and how: the same for the file as it is and with another future."""

    raw: pd.DataFrame
    features: pd.DataFrame
    splits: pd.DataFrame
    ingest: IngestConfig
    features_config: FeaturesConfig

    @classmethod
    def make(
        cls,
        raw: pd.DataFrame,
        ingest: IngestConfig,
        features: FeaturesConfig,
        split: SplitConfig,
        names: Sequence[str] = DEFAULT,
    ) -> World:
        """Ingest, features with these horizons, and splits of raw bars."""
        frame = build_features(build_bars(raw, ingest).bars, features, names=names)
        return cls(raw, frame, make_splits(frame, split), ingest, features)

    def with_future_changed(self, end: pd.Timestamp, rng: np.random.Generator) -> pd.DataFrame:
        """Features of the same bars, those from `end` on changed (an odd future must not stop the ingest)."""
        lenient = changed(self.ingest, {"doubtful": "warn", "max_quarantined_share": 1.0})
        raw = other_future(self.raw, end, rng, self.ingest.tick)
        names = horizons_of(self.features.columns)
        return build_features(build_bars(raw, lenient).bars, self.features_config, names=names)


def other_future(raw: pd.DataFrame, end: pd.Timestamp, rng: np.random.Generator, tick: float = 0.25) -> pd.DataFrame:
    """Every row from `end` on gets prices and volume of its own that are still a valid bar on the tick."""
    changed = raw.copy()
    later = (changed["ts"] >= end).to_numpy()
    n = int(later.sum())
    level = changed.loc[later, "close"].to_numpy() * np.exp(np.cumsum(rng.normal(0, 1e-4, n)))
    body = np.round(level[:, None] * (1 + rng.normal(0, 1e-3, (n, 2))) / tick) * tick
    reach = np.round(rng.gamma(1.0, 4.0, (n, 2))) * tick
    changed.loc[later, "open"], changed.loc[later, "close"] = body[:, 0], body[:, 1]
    changed.loc[later, "high"] = body.max(axis=1) + reach[:, 0]
    changed.loc[later, "low"] = body.min(axis=1) - reach[:, 1]
    if "volume" in changed:
        changed.loc[later, "volume"] = rng.integers(1, 2000, n)
    return changed


def random_checkpoint(world: World, rolling: bool, seed: int) -> Checkpoint:
    """A checkpoint for the world's train split (see `drawn_checkpoint`)."""
    config = ScaleConfig(rolling_quantiles=rolling, rolling_sessions=5)
    return drawn_checkpoint(world.features, positions(world.splits, "train"), config, seed)


def drawn_checkpoint(features: pd.DataFrame, train: np.ndarray, scale_config: ScaleConfig, seed: int) -> Checkpoint:
    """A checkpoint whose every weight is drawn at random, so that its forecasts depend on all that it sees.

    train: anchors (N,) on which its scale is fitted.
    """
    scale = make_scale(scale_config, LEVELS).fit(features, train)
    arrays, scalars = scale.state()
    names = feature_names(features)
    sizes = {"n_volatility": scale.n_state, "n_horizons": len(scale.horizons), "n_features": len(names)}
    config = ModelConfig(size="test", **sizes).at(scale.spacing)
    model = MIGT_TVDT(config)
    rows = features.loc[features["traded"], list(names)].to_numpy()
    model.set_base(scale.unit_quantiles_HQ, rows.mean(axis=0), rows.std(axis=0))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
    tensors = {f"model.{name}": tensor.numpy() for name, tensor in model.state_dict().items()}
    axes = {"features": names, "quantiles": LEVELS, "horizons": horizons_of(features.columns)}
    metadata = Metadata.of({"model": config.model_dump(mode="json"), "scale": scalars, **axes})
    return Checkpoint(tensors | {f"scale.{name}": array for name, array in arrays.items()}, metadata)


def prove_the_future_is_unused(world: World, checkpoint: Checkpoint, cut: pd.Timestamp, seed: int) -> None:
    """Change every bar after the bar of the grid `cut` and compare everything up to it.

    Raises LeakError naming what differs.
    """
    rng = np.random.default_rng(seed)
    bar = Spacing.of(world.features["ts"]).bar
    changed = world.with_future_changed(cut + bar, rng)
    n = int((world.features["ts"] <= cut).sum())
    for name in world.features.columns:
        if not name.startswith(TARGET) and not changed[name].iloc[:n].equals(world.features[name].iloc[:n]):
            raise LeakError(f"expected column {name} up to {cut} to be unmoved by later bars, found other values")
    scale = load_scale(checkpoint)
    _equal("scale", cut, *(scale.transform(frame)[:n] for frame in (world.features, changed)))
    train = positions(world.splits, "train")
    known = label_times(world.features, train).max() <= cut + bar
    if known:
        first, second = (make_scale(scale.config, LEVELS).fit(f, train).state()[0] for f in (world.features, changed))
        for name in first:
            _equal(f"fitted {name}", cut, first[name], second[name])
    anchors = np.sort(np.append(rng.choice(np.arange(400, n - 1), min(63, n - 401), replace=False), n - 1))
    _equal(
        "windows", cut, *(WindowTable(f, None, "cpu").gather(anchors)["features"] for f in (world.features, changed))
    )
    _equal("forecasts", cut, *(predict(checkpoint, frame, anchors, ON_CPU)[0] for frame in (world.features, changed)))


def prove_the_labels_are_in_order(features: pd.DataFrame, splits: pd.DataFrame, context: int) -> None:
    """Prove by the clock, not by rows, that every label of a split ends before the next one's first window begins."""
    ts = features["ts"]
    for earlier, later in pairwise(SPLITS):
        last_label = label_times(features, positions(splits, earlier)).max()
        first_bar = ts.iloc[int(positions(splits, later)[0]) - (context - 1)]
        if last_label > first_bar:
            raise LeakError(
                f"expected labels of {earlier} to end before {later} begins at {first_bar}, found {last_label}"
            )


def label_times(features: pd.DataFrame, anchors: np.ndarray) -> pd.Series:
    """Time (UTC) at which the longest defined label of each anchor is known: the end of its last bar."""
    rows = features.iloc[anchors]
    ends = [
        np.where(rows[f"target_{one.name}"].notna(), end_rows(features, one)[anchors], anchors)
        for one in horizons(horizons_of(features.columns))
    ]
    return features["ts"].iloc[np.max(ends, axis=0)] + Spacing.of(features["ts"]).bar


def permuted_targets(features: pd.DataFrame, splits: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Features whose targets are permuted, all horizons together, across the anchors that have all of them.

    No other target stays, so labels end where they ended and nothing true is left to learn from.
    """
    names, anchors = target_names(features.columns), np.sort(splits["position"].to_numpy())
    anchors = anchors[features[names].notna().all(axis=1).to_numpy()[anchors]]
    targets = np.full((len(features), len(names)), np.nan)
    targets[anchors] = features[names].to_numpy()[rng.permutation(anchors)]
    return features.assign(**dict(zip(names, targets.T, strict=True)))


def prove_permuted_targets_teach_nothing(world: World, seed: int, folder: Path) -> dict[str, Floats]:
    """Fit the baselines and a small network on permuted targets and score them on permuted targets.

    Returns the skill (H + 1,) of each, in %, over constants. The intervals cover at 95 % together (Bonferroni).
    Raises LeakError for a model whose interval lies above zero at any horizon or in the mean.
    """
    rng = np.random.default_rng(seed)
    features = permuted_targets(world.features, world.splits, rng)
    train, test = (positions(world.splits, name) for name in ("train", "test"))
    names = horizons_of(features.columns)
    targets = targets_at(features, test, names)
    forecasts = {
        name: make_baseline(name, LEVELS, names).fit(features, train).predict(features, test)
        for name in ("constants", *BASELINES)
    }
    forecasts["model"] = predict(_network(features, world.splits, seed, folder), features, test, ON_CPU)[0]
    session = features["session"].to_numpy()[test]
    losses = {name: session_sums(anchor_loss(q, targets, LEVELS), session) for name, q in forecasts.items()}
    base = losses.pop("constants")
    resamples = stationary_bootstrap(len(base), 3.0, 2000, rng)
    confidence = 1 - 0.05 / (len(losses) * (len(names) + 1))
    skills = {}
    for name, loss in losses.items():
        found = skill_with_interval(loss, base, base, resamples, confidence)
        skills[name] = 100 * found.value
        if (found.low > 0).any():
            raise LeakError(
                f"expected no skill on permuted targets, found {name} above zero: {np.round(100 * found.value, 2)} %"
            )
    return skills


def _network(features: pd.DataFrame, splits: pd.DataFrame, seed: int, folder: Path) -> Checkpoint:
    train = TrainConfig(
        epochs=2, windows_per_epoch=2048, batch_size=128, accumulation=1, learning_rate=3e-3, warmup_steps=4, t_0=2,
        device="cpu", seed=seed,
    )  # fmt: skip
    recipe = Recipe(ScaleConfig(), ModelConfig(size="test"), train, LEVELS)
    return recipe.make(features, splits, DataCard(f"permuted-{seed}"), folder)[0]


def _equal(what: str, cut: pd.Timestamp, one: Any, other: Any) -> None:
    if not np.array_equal(one, other, equal_nan=True):
        raise LeakError(f"expected {what} up to {cut} to be unmoved by later bars, found other values")


def prove(raw: pd.DataFrame, ingest: IngestConfig, features: FeaturesConfig, cuts: int, seed: int) -> None:
    """All proofs on raw bars, at `cuts` random times.

    Raises:
        LeakError: one of them fails; says which and where.
        ValueError: the bars cannot be used, or are too few for three splits.
    """
    world = World.make(raw, ingest, features, SplitConfig(warmup_bars=600))
    log.info("%d %s bars from %s to %s", len(world.features), ingest.spacing.word, *world.features["ts"].iloc[[0, -1]])
    prove_the_labels_are_in_order(world.features, world.splits, ingest.spacing.rows(CONTEXT))
    log.info("labels of train end before validation begins, those of validation before test: proved")
    rng = np.random.default_rng(seed)
    n = len(world.features)
    for number in range(cuts):
        row = int(rng.integers(n // 4, n - 50))
        cut = world.features["ts"].iloc[row]
        checkpoint = random_checkpoint(world, rolling=bool(number % 2), seed=number)
        prove_the_future_is_unused(world, checkpoint, cut, seed + number)
        log.info("everything after %s changed: features, windows, scale and forecasts up to it are bit-equal", cut)
    with tempfile.TemporaryDirectory(prefix="nqcast-proof-") as folder:
        skills = prove_permuted_targets_teach_nothing(world, seed, Path(folder))
    for name, skill in skills.items():
        log.info("targets permuted: mean skill of %s %.2f %%, interval not above zero", name, skill[-1])


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when everything is proved."""
    parser = argparse.ArgumentParser(prog="python -m nqcast.experiments.leak_proof", description=__doc__)
    parser.add_argument("--bars", type=Path, help="a file of bars (default: 60 sessions of the simulated market)")
    parser.add_argument("--cuts", type=int, default=4, help="random times t (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bar-minutes", type=int, default=5, choices=(1, 5, 15, 30))
    parser.add_argument("--naive-timezone", help="zone of time stamps that carry none")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    try:
        raw = read_bars(options.bars) if options.bars else simulate(SimulationConfig(sessions=60, seed=11))
        has_volume = "volume" in raw
        ingest = IngestConfig(volume=has_volume, naive_timezone=options.naive_timezone, bar_minutes=options.bar_minutes)
        prove(raw, ingest, FeaturesConfig(volume=has_volume), options.cuts, options.seed)
    except LeakError as error:
        log.error("LEAK: %s", error)
        return 1
    except ValueError as error:
        log.error("error: %s", error)
        return 2
    log.info("no leak found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
