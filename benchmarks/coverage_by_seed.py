"""Is an error of coverage at long horizons bias, or the luck of one market? SeasonalHAR on markets of several seeds.

    python benchmarks/coverage_by_seed.py --seeds 8 --sessions 1030 --horizons close+1d+5d

Coverage is no count of outcomes: at some test anchors paths of the true law say how likely an outcome at or below each
quantile is. What is left is the luck of the train sessions (SeasonalHAR) and of validation (offline calibration); its
deviation over the seeds is the power, its mean the bias.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

from nqcast.constants import LEVELS
from nqcast.data.config import ScaleConfig
from nqcast.data.features import build_features
from nqcast.data.seasonal_har import make_scale
from nqcast.data.splits import make_splits, positions
from nqcast.evaluation.conformal import ConformalCalibration
from nqcast.horizons import target_names
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.market.simulation.true_quantiles import TrueQuantiles

PATHS, AT_ONCE = 1024, 8


def errors(config: SimulationConfig, horizons: Sequence[str], count: int) -> dict[str, np.ndarray]:
    """Probability less level (H, Q) of the quantiles of each forecast, over `count` test anchors."""
    features = build_features(build_bars(simulate(config), IngestConfig()).bars, names=horizons)
    splits = make_splits(features)
    train, validation, test = (positions(splits, name) for name in ("train", "validation", "test"))
    scale = make_scale(ScaleConfig()).fit(features, train)
    scale_NH, y_NH = scale.transform(features), features[target_names(features.columns)].to_numpy()
    pick = test[np.linspace(0, len(test) - 1, count).round().astype(int)]

    def raw(rows: np.ndarray) -> np.ndarray:
        return scale_NH[rows][..., None] * scale.unit_quantiles_HQ

    calibration = ConformalCalibration(LEVELS, horizons, symmetric=True)
    calibration.fit(raw(validation), y_NH[validation], scale_NH[validation])
    forecasts = {"SeasonalHAR": raw(pick), "offline": calibration.apply(raw(pick), scale_NH[pick])}
    below = probabilities(TrueQuantiles(config), features["ts"].iloc[pick], horizons, forecasts)
    return {name: 100 * (np.nanmean(found, axis=0) - np.array(LEVELS)) for name, found in below.items()}


def probabilities(
    law: TrueQuantiles, ts, horizons: Sequence[str], forecasts: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """How likely an outcome at or below each quantile is (N, H, Q); NaN where there is none."""
    found = {name: [] for name in forecasts}
    for begin in range(0, len(ts), AT_ONCE):
        part = slice(begin, begin + AT_ONCE)
        draws_AHP = law.sample(law.anchors(ts.iloc[part], horizons), PATHS)
        undefined = ~np.isfinite(draws_AHP[..., :1])
        for name, quantiles in forecasts.items():
            below = np.stack([(draws_AHP <= q[..., None]).mean(-1) for q in np.moveaxis(quantiles[part], -1, 0)], -1)
            found[name].append(np.where(undefined, np.nan, below))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--sessions", type=int, default=1030)
    parser.add_argument("--horizons", default="close+1d+5d")
    parser.add_argument("--anchors", type=int, default=160)
    asked = parser.parse_args()
    horizons, found = asked.horizons.split("+"), []
    for seed in range(asked.seeds):
        begun = time.process_time()
        found.append(errors(SimulationConfig(seed=seed, sessions=asked.sessions), horizons, asked.anchors))
        print(f"seed {seed}: {time.process_time() - begun:.0f} s")
        for name, error_HQ in found[-1].items():
            print(f"  {name:<12}", *(f"{h} {np.abs(e).max():.1f}" for h, e in zip(horizons, error_HQ, strict=True)))
    for name in found[0]:
        table_SHQ = np.stack([one[name] for one in found])
        for h, horizon in enumerate(horizons):
            mean, deviation = table_SHQ[:, h].mean(axis=0), table_SHQ[:, h].std(axis=0, ddof=1)
            print(f"{name:<12}{horizon:<6} mean", mean.round(2), "deviation", deviation.round(2),
                  "largest of a seed, mean", np.abs(table_SHQ[:, h]).max(axis=1).mean().round(2))  # fmt: skip


if __name__ == "__main__":
    main()
