"""`python -m nqcast.experiments.prove_no_leak`, or `make prove-no-leak`: the proofs of leak_proof, one line each."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from nqcast.constants import CONTEXT
from nqcast.data.config import FeaturesConfig, SplitConfig
from nqcast.experiments.leak_proof import (
    LeakError,
    World,
    prove_permuted_targets_teach_nothing,
    prove_the_future_is_unused,
    prove_the_labels_are_in_order,
    random_checkpoint,
)  # fmt: skip
from nqcast.market.config import IngestConfig

log = logging.getLogger("nqcast.prove_no_leak")


def prove(raw: pd.DataFrame, ingest: IngestConfig, features: FeaturesConfig, cuts: int, seed: int) -> None:
    """All proofs on raw bars, at `cuts` random times.

    Raises:
        LeakError: one of them fails; says which and where.
        ValueError: the bars cannot be used, or are too few for three splits.
    """
    world = World.make(raw, ingest, features, SplitConfig(warmup_bars=600))
    log.info("%d five-minute bars from %s to %s", len(world.features), *world.features["ts"].iloc[[0, -1]])
    prove_the_labels_are_in_order(world.features, world.splits, CONTEXT)
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
    parser = argparse.ArgumentParser(prog="python -m nqcast.experiments.prove_no_leak", description=__doc__)
    parser.add_argument("--bars", type=Path, help="a file of bars (default: 60 sessions of the simulated market)")
    parser.add_argument("--cuts", type=int, default=4, help="random times t (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--naive-timezone", help="zone of time stamps that carry none")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    try:
        raw = _bars(options.bars)
        has_volume = "volume" in raw
        ingest = IngestConfig(volume=has_volume, naive_timezone=options.naive_timezone)
        prove(raw, ingest, FeaturesConfig(volume=has_volume), options.cuts, options.seed)
    except LeakError as error:
        log.error("LEAK: %s", error)
        return 1
    except ValueError as error:
        log.error("error: %s", error)
        return 2
    log.info("no leak found")
    return 0


def _bars(file: Path | None) -> pd.DataFrame:
    if file is not None:
        from nqcast.market.vendor import read_bars

        return read_bars(file)
    from nqcast.market.simulation.config import SimulationConfig
    from nqcast.market.simulation.simulator import simulate

    return simulate(SimulationConfig(sessions=60, seed=11))


if __name__ == "__main__":
    sys.exit(main())
