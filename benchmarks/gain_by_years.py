"""What years of training bars are worth, and what the registered verdict's model gained in each year: two pictures.

    kedro run --env nq --pipelines ingest,features --params bars=FILE
    python benchmarks/gain_by_years.py train --hardware 2-core-cpu --date 2026-11-28
    python benchmarks/gain_by_years.py train --attention --date 2026-11-28
    python benchmarks/gain_by_years.py draw VERDICT_PREDICTIONS.parquet --date 2026-11-28

`train` fits the direct path of conf/nq, one network each, on the 1, 2, 4 and 9 years before 2018 and asks 2018 and
2019 alone: the bars of later years are cut off before anything is fitted. With `--attention` the network looks back
over the window too, in two passes over the anchors or five epochs of 100,000 windows. `draw` trains nothing: it draws
both, and parts the forecasts that the verdict left by calendar year. Gains are in % of SeasonalHAR's pinball loss,
their intervals by resampled sessions.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from matplotlib.axes import Axes

from nqcast.constants import HORIZONS
from nqcast.data.fingerprint import data_card
from nqcast.data.splits import make_splits, positions
from nqcast.evaluation import metrics
from nqcast.evaluation.baselines import baseline_quantiles
from nqcast.evaluation.calibration import quantiles_by_row
from nqcast.evaluation.compared import Compared
from nqcast.evaluation.comparison import Scores, compare_forecasts
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import MODEL, as_arrays, levels_of, targets_at
from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.significance import session_sums, skill_with_interval, stationary_bootstrap
from nqcast.experiments.config import ExperimentSettings
from nqcast.fields import changed
from nqcast.forecast.predictor import predict
from nqcast.report.figures.style import BLUE, GREY, SERIES, finish, new_figure
from nqcast.runs.recipe import Recipe

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
YEARS = (1, 2, 4, 9)
END = "2018-01-02"  # validation begins; it ends before test_start, and the frame before 2020
NAMES = [*HORIZONS, "mean"]
ATTENTION = {"tokens": True, "d_model": 32, "dropout": 0.2}
MANY_WINDOWS = 100_000
TITLES = {"training": "Direct path", "attention": "With attention"}
IMAGES = PROJECT / "docs" / "images"
BASELINES = ("constants", "seasonal_har")


def settled() -> tuple[pd.DataFrame, ExperimentSettings]:
    """Features that a run has made, without a bar of 2020 or later, and the settings of conf/nq."""
    bootstrap_project(PROJECT)
    with KedroSession.create(project_path=PROJECT, env="nq") as session:
        catalog = session.load_context().catalog
        names = ("split", "scale", "model", "train", "quantiles", "evaluate")
        settings = ExperimentSettings(**{name: catalog.load(f"params:{name}") for name in names})
        features = catalog.load("features")
    return features[features["session"] < pd.Timestamp("2020-01-01")].reset_index(drop=True), settings


def with_attention(settings: ExperimentSettings, anchors: int) -> ExperimentSettings:
    """The settings of the trials with attention on many years: slower and more regular than the direct path's."""
    windows = min(2 * anchors // 5, MANY_WINDOWS)
    train = {"learning_rate": 4e-4, "epochs": 5, "t_0": 5, "windows_per_epoch": windows}
    return changed(settings, {"model": changed(settings.model, ATTENTION), "train": changed(settings.train, train)})


def gain(loss_SH: Floats, reference_SH: Floats, config: EvaluateConfig) -> dict[str, list[float]]:
    """Gain per horizon and in the mean, % of the reference's loss, with its interval."""
    rng = np.random.default_rng(config.seed)
    resamples = stationary_bootstrap(len(loss_SH), config.mean_block, config.bootstrap_replications, rng)
    found = skill_with_interval(loss_SH, reference_SH, reference_SH, resamples, config.confidence)
    parts = {"gain": found.value, "low": found.low, "high": found.high}
    return {name: (100 * values).round(3).tolist() for name, values in parts.items()}


def train(
    years: int, seeds: int, attention: bool, features: pd.DataFrame, settings: ExperimentSettings, root: Path
) -> dict[str, Any]:
    """Gains of the network, losses averaged over the seeds, over SeasonalHAR fitted on the same years."""
    start = f"{2018 - years}-01-01" if years < max(YEARS) else None
    dates = {"train_start": start, "validation_start": END, "test_start": "2019-12-16", "test_end": "2019-12-31"}
    splits = make_splits(features, changed(settings.split, dates))
    if attention:
        settings = with_attention(settings, len(positions(splits, "train")))
    asked, levels = positions(splits, "validation"), settings.quantiles
    ts, session = features["ts"].iloc[asked], features["session"].iloc[asked]
    targets = targets_at(features, asked, tuple(HORIZONS))

    def sums(quantiles: Floats) -> Floats:
        return session_sums(metrics.anchor_loss(quantiles, targets, levels), session)

    config = changed(settings.evaluate, {"baselines": BASELINES})
    own = baseline_quantiles(features, positions(splits, "train"), ts, levels, config)
    by_seed = []
    for seed in range(seeds):
        recipe = Recipe(settings.scale, settings.model, changed(settings.train, {"seed": seed, "members": 1}), levels)
        checkpoint = recipe.make(features, splits, data_card(features), root / f"{years}_{seed}")[0]
        by_seed.append(sums(predict(checkpoint, features, asked, config)[0]))
    loss, reference = np.mean(by_seed, axis=0), sums(own["seasonal_har"])
    return {
        "train_anchors": len(positions(splits, "train")),
        "validation": [str(session.min().date()), str(session.max().date()), len(asked), int(session.nunique())],
        **gain(loss, reference, config),
        "by_seed": [gain(one, reference, config)["gain"][-1] for one in by_seed],
        "loss": (1e4 * loss.sum(axis=0)).tolist(),
        "seasonal_har_loss": (1e4 * reference.sum(axis=0)).tolist(),
    }


def by_year(predictions: pd.DataFrame, config: EvaluateConfig) -> dict[str, Any]:
    """Gains of a verdict's model over SeasonalHAR and over each other baseline, in the mean, by calendar year."""
    levels = levels_of(predictions)
    anchors = as_arrays(predictions[predictions["forecast"] == MODEL], levels, tuple(HORIZONS))
    losses = {k: metrics.anchor_loss(q, anchors.targets, levels) for k, q in quantiles_by_row(predictions).items()}
    found = {}
    for year, rows in anchors.session.groupby(anchors.session.dt.year).groups.items():
        sums = {name: session_sums(loss[rows], anchors.session[rows]) for name, loss in losses.items()}
        others = [name for name in sums if not name.startswith(MODEL)]
        found[str(year)] = {name: gain(sums[MODEL], sums[name], config) for name in others}
    return found


def compare(predictions: pd.DataFrame, config: EvaluateConfig) -> Scores:
    """What the sessions of the verdict say: the confidence set, sessions won, gains by part and third."""
    levels = levels_of(predictions)
    anchors = as_arrays(predictions[predictions["forecast"] == MODEL], levels, tuple(HORIZONS))
    forecasts = quantiles_by_row(predictions)
    return compare_forecasts(Compared(anchors=anchors, forecasts=forecasts, config=config))


def picture(panels: Mapping[str, Mapping[str, Any]], x: str, path: Path) -> None:
    """Panels by their titles; in each a group of bars for each entry: horizons and the mean, with intervals."""
    figure = new_figure(9.0, 4.2 * len(panels))
    for axes, (title, found) in zip(
        figure.subplots(len(panels), sharey=True, squeeze=False)[:, 0], panels.items(), strict=True
    ):
        _bars(axes, found)
        finish(axes, title, x, "Gain, % of SeasonalHAR's loss")
    labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(*labels, loc="outside lower center", ncols=len(NAMES), fontsize=9, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _bars(axes: Axes, found: Mapping[str, Any]) -> None:
    places = np.arange(len(found), dtype=float)
    for h, name in enumerate(NAMES):
        value, low, high = (np.array([one[key][h] for one in found.values()]) for key in ("gain", "low", "high"))
        spread = np.vstack([value - low, high - value])
        colour = BLUE if name == "mean" else SERIES[1 + h % 6]
        shown = places + (h - 2.5) * 0.14
        axes.bar(shown, value, 0.13, yerr=spread, color=colour, label=name, error_kw={"lw": 1, "ecolor": "#1a1a1a"})
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xticks(places, list(found))


def main() -> None:
    """Train and keep the figures, or draw both pictures from what was kept and what the verdict left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "draw"))
    parser.add_argument("predictions", nargs="?", type=Path)
    parser.add_argument("--hardware", default="2-core-cpu")
    parser.add_argument("--date", required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--attention", action="store_true")
    options = parser.parse_args()
    path = HERE / f"gain_by_years_{options.hardware}_{options.date}.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    if options.what == "train":
        features, settings = settled()
        found = kept["attention" if options.attention else "training"] = {}
        with tempfile.TemporaryDirectory() as root:
            for years in YEARS:
                begun = time.process_time()
                found[str(years)] = train(years, options.seeds, options.attention, features, settings, Path(root))
                found[str(years)]["cpu_seconds"] = round(time.process_time() - begun)
                print(years, found[str(years)], flush=True)
                path.write_text(json.dumps(kept, indent=1) + "\n")
        return
    draw(kept, options.predictions)
    if options.predictions is not None:
        kept |= of_verdict(pd.read_parquet(options.predictions))
        path.write_text(json.dumps(kept, indent=1) + "\n")


def draw(kept: Mapping[str, Any], predictions: Path | None) -> None:
    """The picture of years, of what has been trained; ValueError where there is nothing to draw at all."""
    panels = {
        f"{title}, gain on 2018–2019": {f"{k} year{'s' if k != '1' else ''}": one for k, one in kept[name].items()}
        for name, title in TITLES.items()
        if kept.get(name)
    }
    if panels:
        picture(panels, "Years of training bars before 2018", IMAGES / "gain_by_years.png")
    elif predictions is None:
        raise ValueError(
            "expected gains of this date and hardware, found none: run `train` with the same --date and --hardware "
            "first, or name the forecasts of a verdict"
        )


def of_verdict(predictions: pd.DataFrame) -> dict[str, Any]:
    """What a verdict's forecasts gained by year, and what their sessions say; draws the one and prints the other."""
    config = EvaluateConfig()
    years, scores = by_year(predictions, config), compare(predictions, config)
    print(scores["text"])
    shown = {year: rows["seasonal_har"] for year, rows in years.items()}
    picture({"Registered verdict, gain by year": shown}, "Year", IMAGES / "gain_of_the_verdict.png")
    return {"verdict": years, "verdict_judged": scores["judged"]}


if __name__ == "__main__":
    main()
