"""The joined record of a walk-forward: all out-of-sample forecasts as one, compared as those of the test split are."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pandas as pd

from nqcast.evaluation.calibration import RAW, quantiles_by_row
from nqcast.evaluation.comparison import compare_forecasts, untrained
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import as_arrays, horizons_in
from nqcast.evaluation.oracle import ORACLE
from nqcast.experiments.folds import FoldLine, FoldRecord, Partitions
from nqcast.stopping import FOLD_FAILED
from nqcast.storage.checkpoint import Json


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
    forecasts = quantiles_by_row(frame, levels)
    anchors = as_arrays(frame[frame["forecast"] == RAW], levels, horizons_in(frame))
    oracle = forecasts.pop(ORACLE, None)
    scores = compare_forecasts(anchors, forecasts, None, levels, config, oracle)
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
    lines.append("           train from  out of sample              train  valid.   test epoch     s")
    for fold in folds:
        if fold["status"] != "failed" and "anchors" in fold:
            count = fold["anchors"]
            lines.append(
                f"  {fold['fold']}  {fold['train_start']}  {fold['test_start']} to {fold['test_end']}"
                f"  {count['train']:>6,} {count['validation']:>6,} {count['test']:>6,} {fold['epoch']:>5} "
                f"{fold['seconds']:>5.0f}"
            )
    return "\n".join(lines)
