"""Compare the simulated market with real NQ bars: a figure, a table and the share of learnable skill.

    python benchmarks/simulated_market.py REAL.parquet --hardware 2-core-cpu --date 2026-11-22

writes docs/images/simulated_market.png and benchmarks/simulated_market_<hardware>_<date>.json.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import date
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from nqcast.constants import HORIZONS, LEVELS, TARGETS
from nqcast.data.config import ScaleConfig, SplitConfig
from nqcast.data.features import build_features
from nqcast.data.seasonal_har import make_scale
from nqcast.data.splits import make_splits, positions
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.market.simulation.true_quantiles import TrueQuantiles
from nqcast.market.vendor import read_bars

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
LEVEL = np.array(LEVELS)
LAGS = (1, 3, 6, 12, 24, 48, 96, 276, 552, 828, 1380, 2760)
SCALES = {"time of day": "none", "log-HAR on 5-minute returns": "returns", "SeasonalHAR": "realized"}
REAL_SPLIT = SplitConfig(train_start=date(2015, 7, 13), validation_start=date(2016, 5, 17), test_start=date(2016, 8, 3))


def losses(y_NH: np.ndarray, q_NHQ: np.ndarray) -> np.ndarray:
    """Pinball loss (H,), the mean over levels and anchors with a target."""
    error = y_NH[..., None] - q_NHQ
    return np.nanmean(np.maximum(LEVEL * error, (LEVEL - 1.0) * error).mean(-1), axis=0)


def statistics(features: pd.DataFrame) -> dict[str, list[float]]:
    """Spread and kurtosis of the targets, diurnal shape, and the memory of 5-minute returns without it."""
    open_ = features[features["traded"] & ~features["halt"]]
    target = open_[list(TARGETS)]
    size = open_["log_return"].abs()
    usual = size.groupby(open_["bar_in_day"]).transform("mean").to_numpy()
    z = np.clip(open_["log_return"].to_numpy() / usual, -8, 8)
    slot = open_["realized_variance"].groupby(open_["bar_in_day"]).mean().reindex(range(288))
    return {
        "deviation_bp": (1e4 * target.std()).round(2).tolist(),
        "kurtosis": (target.kurt() + 3).round(1).tolist(),
        "acf_abs": [round(float(np.corrcoef(np.abs(z[:-lag]), np.abs(z[lag:]))[0, 1]), 4) for lag in LAGS],
        "leverage": [round(float(np.corrcoef(z[:-lag], np.abs(z[lag:]))[0, 1]), 4) for lag in LAGS],
        "diurnal_bp": (1e4 * np.sqrt(slot)).round(3).tolist(),
    }


def skills(features: pd.DataFrame, train: np.ndarray, test: np.ndarray) -> dict[str, list[float]]:
    """Skill over constants in percent per horizon for each classical scale."""
    y = features[list(TARGETS)].to_numpy()
    constant = losses(y[test], np.nanquantile(y[train], LEVELS, axis=0).T[None])
    found = {}
    for name, kind in SCALES.items():
        scale = make_scale(ScaleConfig(predictors=kind)).fit(features, train)
        quantiles = scale.transform(features)[test][..., None] * scale.unit_quantiles_HQ
        found[name] = (100 * (1 - losses(y[test], quantiles) / constant)).round(2).tolist()
    return found


def learnable(config: SimulationConfig, features: pd.DataFrame, splits: pd.DataFrame, count: int) -> dict[str, Any]:
    """Share of the learnable skill that SeasonalHAR reaches, by EXPECTED loss under the true law at test anchors."""
    train, test = positions(splits, "train"), positions(splits, "test")
    pick = np.sort(np.random.default_rng(0).choice(test, min(count, len(test)), replace=False))
    y = features[list(TARGETS)].to_numpy()[train]
    scale = make_scale(ScaleConfig()).fit(features, train)
    har = scale.transform(features)[pick][..., None] * scale.unit_quantiles_HQ
    constant = np.broadcast_to(np.nanquantile(y, LEVELS, axis=0).T, har.shape)
    truth = TrueQuantiles(config)
    begun = time.process_time()
    table = truth.quantiles_at(features["ts"].iloc[pick], LEVELS)
    seconds = time.process_time() - begun
    exact = table.filter(regex=r"^q\d\d$").to_numpy().reshape(har.shape)
    total = np.zeros((3, len(HORIZONS)))
    for begin in range(0, len(pick), 32):
        part = slice(begin, begin + 32)
        # Another seed, so that no quantile meets the sample that it was taken from.
        draws = truth.sample(truth.anchors(features["ts"].iloc[pick[part]]), 1024, seed=config.seed + 1)
        for row, quantiles in enumerate((exact, har, constant)):
            error = draws[..., None] - quantiles[part][:, :, None]
            total[row] += np.nansum(np.maximum(LEVEL * error, (LEVEL - 1) * error).mean((2, 3)), axis=0)
    true, seasonal, const = total / np.isfinite(exact[..., 0]).sum(axis=0)
    error = table.groupby("horizon", sort=False)["mc_error"].mean().to_numpy()
    return {
        "anchors": len(pick),
        "true_skill": (100 * (1 - true / const)).round(2).tolist(),
        "seasonal_har_skill": (100 * (1 - seasonal / const)).round(2).tolist(),
        "share": ((const - seasonal) / (const - true)).round(3).tolist(),
        "monte_carlo_share_of_gap": (error / (const - true)).round(4).tolist(),
        "seconds": round(seconds, 2),
    }


def figure(real: dict[str, Any], simulated: dict[str, Any], path: Path) -> None:
    """Six panels: diurnal shape, autocorrelation of |r|, leverage, spread, kurtosis, skill."""
    fig, axes = plt.subplots(2, 3, figsize=(13, 7.2), constrained_layout=True)
    styles = (("real bars", real, "#0072B2", "o-"), ("simulated", simulated, "#D55E00", "s--"))
    for name, found, colour, style in styles:
        line = {"color": colour, "label": name}
        hours = (np.arange(288) / 12 + 7) % 24
        order = np.argsort(hours)
        axes[0, 0].plot(hours[order], np.array(found["diurnal_bp"])[order], style[1:], lw=1, **line)
        axes[0, 1].plot(LAGS, found["acf_abs"], style, ms=4, **line)
        axes[0, 2].plot(LAGS, found["leverage"], style, ms=4, **line)
        axes[1, 0].plot(list(HORIZONS), found["deviation_bp"], style, ms=4, **line)
        axes[1, 1].plot(list(HORIZONS), found["kurtosis"], style, ms=4, **line)
        for scale, alpha in (("SeasonalHAR", 1.0), ("time of day", 0.5)):
            skill = found["skill_same_stretch"][scale]
            axes[1, 2].plot(list(HORIZONS), skill, style, ms=4, color=colour, alpha=alpha, label=f"{scale}, {name}")
    titles = (
        ("Volatility of a 5-minute bar by time of day", "hours since 17:00 Chicago", "1e-4"),
        ("Autocorrelation of |5-minute return| / usual size", "lag, bars", ""),
        ("Leverage: return now with |return| later", "lag, bars", "correlation"),
        ("Standard deviation of returns", "horizon", "1e-4"),
        ("Kurtosis of returns", "horizon", ""),
        ("Skill over constants of the same stretch", "horizon", "%"),
    )
    for axis, (title, x, y) in zip(axes.flat, titles, strict=True):
        axis.set(title=title, xlabel=x, ylabel=y)
        axis.grid(alpha=0.3)
    for axis in axes[0, 1:]:
        axis.set_xscale("log")
    axes[0, 2].axhline(0, color="black", lw=0.6)
    axes[1, 1].set_ylim(0, None)
    axes[1, 2].set_ylim(0, None)
    axes[0, 0].legend()
    axes[1, 2].legend(fontsize=8)
    fig.savefig(path, dpi=110)


def measure(features: pd.DataFrame, splits: pd.DataFrame) -> dict[str, Any]:
    """Statistics and skills: constants of the train split on the test split, and all anchors on themselves."""
    every = splits["position"].to_numpy()
    return {
        **statistics(features),
        "skill_test_split": skills(features, positions(splits, "train"), positions(splits, "test")),
        "skill_same_stretch": skills(features, every, every),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("real", type=Path, help="file of real 1-minute bars")
    parser.add_argument("--hardware", default="cpu")
    parser.add_argument("--date", default=date.today().isoformat())
    parser.add_argument("--seed", type=int, default=SimulationConfig().seed)
    parser.add_argument("--anchors", type=int, default=1000)
    asked = parser.parse_args()
    features = build_features(build_bars(read_bars(asked.real), IngestConfig()).bars)
    real = measure(features, make_splits(features, REAL_SPLIT))
    config = SimulationConfig(seed=asked.seed)
    begun = time.process_time()
    raw = simulate(config)
    seconds = time.process_time() - begun
    features = build_features(build_bars(raw, IngestConfig()).bars)
    splits = make_splits(features)
    simulated = measure(features, splits)
    simulated["learnable"] = learnable(config, features, splits, asked.anchors)
    sessions = splits.groupby("split")["session"].nunique().to_dict()
    result = {
        "config": config.model_dump(mode="json"),
        "cpu_seconds": {"simulate": round(seconds, 2), "true_quantiles": simulated["learnable"]["seconds"]},
        "rows": len(raw),
        "sessions": sessions,
        "lags": LAGS,
        "real": real,
        "simulated": simulated,
    }
    name = f"simulated_market_{asked.hardware}_{asked.date}.json"
    (HERE / name).write_text(json.dumps(result, indent=1) + "\n")
    figure(real, simulated, HERE.parent / "docs" / "images" / "simulated_market.png")
    for side in (real, simulated):
        print(json.dumps({key: value for key, value in side.items() if key != "diurnal_bp"}, indent=1))
    print(result["cpu_seconds"], sessions)


if __name__ == "__main__":
    main()
