"""Walk-forward: scale, model, baselines and calibration fitted again for every fold, forecasts of what came after."""

from __future__ import annotations

import logging
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from nqcast import __version__
from nqcast.data.config import SplitConfig
from nqcast.data.fingerprint import data_card
from nqcast.data.splits import make_splits, positions
from nqcast.evaluation.calibration import Calibration, calibrated_frame, calibration_of, quantiles_by_row
from nqcast.evaluation.compared import Compared
from nqcast.evaluation.comparison import compare_forecasts, untrained
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import MODEL, as_arrays, horizons_in, predictions_frame
from nqcast.evaluation.judged import ORACLE, beside_baselines
from nqcast.experiments.config import ExperimentSettings, WalkForwardConfig
from nqcast.experiments.folds import Fold, FoldLine, FoldRecord, Partition, Partitions, plan_folds
from nqcast.forecast.predictor import predict_frame
from nqcast.runs.recipe import Recipe
from nqcast.runs.refit import Final, refit
from nqcast.stopping import FOLD_FAILED, TrainingInterruptedError
from nqcast.storage.checkpoint import Checkpoint, DataCard
from nqcast.storage.fingerprint import fingerprint
from nqcast.storage.json_values import Json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class WalkForward:
    """Everything that shapes the folds; equal parts and equal bars give equal folds."""

    split: SplitConfig
    recipe: Recipe
    evaluate: EvaluateConfig
    config: WalkForwardConfig

    @classmethod
    def of(cls, settings: ExperimentSettings, config: WalkForwardConfig) -> WalkForward:
        """The walk-forward of the configured forecaster, with the changes of `config.train` inside its folds."""
        recipe = Recipe(settings.scale, settings.model, settings.train, settings.quantiles)
        return cls(settings.split, recipe.with_fields(train=config.train), settings.evaluate, config)

    def run(
        self, features: pd.DataFrame, finished: Partitions, root: Path
    ) -> Iterator[tuple[dict[str, Partition], FoldLine]]:
        """Work through the folds in time order; each yields {name: partition} and a line for the log.

        A fold whose name (fold_01_<fingerprint>) is among `finished` is skipped, one that fails is reported; both
        yield no partition. A stop of the whole run is no failure of a fold and is raised.

        Raises:
            ValueError: the folds do not fit into the bars.
            TrainingInterruptedError: the training was asked to stop.
        """
        card, earlier = data_card(features), None
        fold: Fold
        for fold in tqdm(plan_folds(features, self.split, self.config), desc="folds", unit="fold", disable=None):
            name = f"{fold.name}_{self._fingerprint(fold, card, earlier)}"
            line: FoldLine = {"fold": fold.name, "partition": name, **fold.dates}
            if name in finished:
                logger.info("%s is finished already", name)
                earlier = finished[name]()["checkpoint"] if self.config.warm_start else None
                yield {}, {**line, "status": "skipped"}
                continue
            started = time.perf_counter()
            try:
                partition = self._run_fold(fold, line, features, card, root / name, earlier)
            except TrainingInterruptedError:
                raise
            except Exception as error:
                logger.exception("%s failed, the others go on", fold.name)
                yield {}, {**line, "status": "failed", "error": f"{type(error).__name__}: {error}"}
                continue
            seconds = round(time.perf_counter() - started, 1)
            partition["record"]["seconds"] = seconds
            earlier = partition["checkpoint"] if self.config.warm_start else None
            yield {name: partition}, {**line, "status": "finished", "seconds": seconds}

    def _fingerprint(self, fold: Fold, card: DataCard, earlier: Checkpoint | None) -> str:
        content = {
            "version": __version__,
            "data": card.fingerprint,
            "split": fold.split.model_dump(mode="json"),
            "recipe": self.recipe.content,
            "baselines": [*self.evaluate.baseline_names, self.evaluate.seed],
            "calibration": [self.evaluate.conformal, self.evaluate.online_rate, self.evaluate.online_by_part],
            "warm_start": earlier and earlier.weights_sha256,
        }
        return fingerprint(content)

    def _run_fold(
        self, fold: Fold, line: FoldLine, features: pd.DataFrame, card: DataCard, root: Path, earlier: Checkpoint | None
    ) -> Partition:
        # Rows after the fold do not exist for it: whatever is fitted or carried cannot reach them.
        seen = features.loc[features["session"] <= pd.Timestamp(fold.dates["test_end"])].reset_index(drop=True)
        splits = make_splits(seen, fold.split)
        counts = splits["split"].value_counts(sort=False)
        logger.info("%s: %s anchors", fold.name, ", ".join(f"{n:,} {name}" for name, n in counts.items()))
        checkpoint, history = self.recipe.make(seen, splits, card, root, earlier)
        validation = predict_frame(checkpoint, seen, positions(splits, "validation"), self.evaluate)
        calibration = calibration_of(validation, checkpoint, self.evaluate)
        checkpoint, calibration, splits = refit(Final(checkpoint, calibration, splits), seen, fold.split, root, earlier)
        frame = self._forecasts(checkpoint, calibration, seen, splits)
        record: FoldRecord = {
            **line,
            "anchors": {str(name): int(n) for name, n in splits["split"].value_counts().items()},
            "checkpoint": checkpoint.metadata.fingerprint,
            "warm_start": None if earlier is None else earlier.metadata.fingerprint,
            "calibration": calibration.to_json(),
            "history": history,
        }
        return {"frame": frame, "checkpoint": checkpoint, "record": record}

    def _forecasts(
        self, checkpoint: Checkpoint, calibration: Calibration, seen: pd.DataFrame, splits: pd.DataFrame
    ) -> pd.DataFrame:
        """The predictions frame of every forecast, one after the other; `forecast` says whose."""
        levels, test = self.recipe.quantiles, positions(splits, "test")
        raw = predict_frame(checkpoint, seen, test, self.evaluate)
        anchors = as_arrays(raw, levels, checkpoint.metadata.horizons)
        beside = beside_baselines(anchors, seen, positions(splits, "train"), self.evaluate)
        assert beside.oracle is not None  # `beside_baselines` asks it
        others = {**{name: beside.forecasts[name] for name in beside.baselines}, ORACLE: beside.oracle}
        frames = [
            predictions_frame(seen, test, quantiles, anchors.scale, levels, anchors.horizons).assign(forecast=name)
            for name, quantiles in others.items()
        ]
        frames.append(raw.assign(forecast=MODEL))
        frames.append(calibrated_frame(raw, calibration, checkpoint.weights_sha256))
        return pd.concat(frames, ignore_index=True).astype({"forecast": "string"})


def latest_entries(log: Sequence[FoldLine]) -> list[FoldLine]:
    """The newest line of every fold of the newest run, in time order.

    A run writes one line per fold from fold_01 on, so the newest run begins at the last line of fold_01.
    """
    starts = [i for i, entry in enumerate(log) if entry["fold"] == "fold_01"]
    if not starts:
        raise ValueError("expected a line per fold in the walk-forward's log, found none: run the folds first")
    return list(log[starts[-1] :])


def join_folds(partitions: Partitions, log: Sequence[FoldLine]) -> tuple[pd.DataFrame, list[FoldLine]]:
    """Forecasts of all finished folds of the newest run as one frame, and one line per fold.

    Raises:
        ValueError: no fold finished (with each one's reason), or two forecast the same anchor.
    """
    entries = latest_entries(log)
    done = [entry for entry in entries if entry["partition"] in partitions and entry["status"] != "failed"]
    if not done:
        reasons = "; ".join(f"{entry['fold']}: {entry.get('error', 'its partition is missing')}" for entry in entries)
        raise ValueError(f"expected at least one finished fold, found none ({reasons}): correct that and run again")
    loaded = [partitions[entry["partition"]]() for entry in done]
    frame = pd.concat([part["frame"].assign(fold=e["fold"]) for part, e in zip(loaded, done, strict=True)])
    if frame.duplicated(["forecast", "ts", "horizon"]).any():
        raise ValueError("expected every anchor in one fold, found some in two: run the folds again")
    records = {part["record"]["fold"]: part["record"] for part in loaded}
    folds = [_with_record(entry, records.get(entry["fold"])) for entry in entries]
    return frame.reset_index(drop=True).astype({"fold": "string"}), folds


def _with_record(line: FoldLine, record: FoldRecord | None) -> FoldLine:
    if record is None:
        return line
    best = min(record["history"], key=lambda epoch: epoch["val_loss"])
    return {**line, "seconds": record["seconds"], "anchors": record["anchors"], "epoch": best["epoch"]}


def score_folds(
    frame: pd.DataFrame, folds: Sequence[FoldLine], levels: tuple[float, ...], config: EvaluateConfig
) -> Json:
    """Scores of the joined forecasts, with a line per fold in front of their text; failures are named first."""
    forecasts = quantiles_by_row(frame)
    anchors = as_arrays(frame[frame["forecast"] == MODEL], levels, horizons_in(frame))
    oracle = forecasts.pop(ORACLE, None)
    scores = compare_forecasts(Compared(anchors=anchors, forecasts=forecasts, config=config, oracle=oracle))
    failed = any(fold["status"] == "failed" for fold in folds)
    return {
        **scores,
        "headline": [*untrained([fold["epoch"] for fold in folds if "epoch" in fold]), *scores["headline"]],
        "folds": list(folds),
        "exit_status": FOLD_FAILED if failed else 0,
        "text": "\n\n".join([render_folds(folds), scores["text"], scores["details"]]),
    }


def render_folds(folds: Sequence[FoldLine]) -> str:
    """One line per fold: dates, anchors, best epoch, seconds; a failed one with its reason."""
    failed = [fold for fold in folds if fold["status"] == "failed"]
    lines = [f"Walk-forward: {len(folds) - len(failed)} of {len(folds)} folds scored, out of sample"]
    lines += [
        textwrap.fill(f"FAILED {fold['fold']} ({fold['test_start']} to {fold['test_end']}): {fold['error']}", 79)
        for fold in failed
    ]
    lines.append("         train from  out of sample              train  valid.   test epoch    s")
    for fold in folds:
        if fold["status"] != "failed" and "anchors" in fold:
            count = fold["anchors"]
            lines.append(
                f"{fold['fold']}  {fold['train_start']}  {fold['test_start']} to {fold['test_end']}"
                f"  {count['train']:>6,} {count['validation']:>6,} {count['test']:>6,} {fold['epoch']:>5} "
                f"{fold['seconds']:>4.0f}"
            )
    return "\n".join(lines)
