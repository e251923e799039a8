"""The newest bars and outcomes against training: every check with its limits, and whether any is crossed."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from nqcast.data.config import SplitConfig
from nqcast.data.fingerprint import require_trained_on
from nqcast.data.own_features import feature_names
from nqcast.data.splits import anchor_mask, check_no_overlap, positions
from nqcast.evaluation.baselines import make_baselines
from nqcast.evaluation.baselines.base import Baseline
from nqcast.evaluation.calibration import Calibration
from nqcast.evaluation.config import REFERENCES, EvaluateConfig
from nqcast.evaluation.frames import Positions, targets_at
from nqcast.evaluation.metrics import Floats, level_name
from nqcast.forecast.predictor import predict
from nqcast.monitoring.checks import (
    Limits,
    Outcomes,
    bin_edges,
    coverage_limits,
    drift_limits,
    rolling,
    session_counts,
    session_draws,
    skill_limits,
    stability_index,
)
from nqcast.monitoring.config import MonitorConfig
from nqcast.monitoring.text import render
from nqcast.stopping import LIMIT_CROSSED
from nqcast.storage.checkpoint import Checkpoint
from nqcast.storage.json_values import Json

logger = logging.getLogger(__name__)

DRIFT, COVERAGE, SKILL = "feature drift", "coverage", "skill"
FEWEST_SESSIONS = 2


@dataclass(frozen=True)
class Trained:
    """What training left: its features and splits, the checkpoint and the calibration that was fitted for it."""

    features: pd.DataFrame
    splits: pd.DataFrame
    checkpoint: Checkpoint
    calibration: Calibration

    def __post_init__(self) -> None:
        require_trained_on(self.features, self.checkpoint.metadata.data.fingerprint)
        check_no_overlap(self.features, self.splits, self.checkpoint.metadata.context)

    @cached_property
    def references(self) -> dict[str, Baseline]:
        """What skill is measured against, fitted on the train anchors."""
        metadata, train = self.checkpoint.metadata, positions(self.splits, "train")
        unfitted = make_baselines(REFERENCES, metadata.quantiles, metadata.horizons)
        return {name: one.fit(self.features, train) for name, one in unfitted.items()}

    @property
    def last_session(self) -> pd.Timestamp:
        """The last session that training or validation has seen."""
        return pd.Timestamp(self.splits.loc[self.splits["split"] != "test", "session"].max())


@dataclass(frozen=True)
class Monitored:
    """Checks (one row each), rolling figures (one row per date and figure), and the report as JSON-able values."""

    checks: pd.DataFrame
    rolling: pd.DataFrame
    report: Json
    positions: Positions


def monitor(
    newest: pd.DataFrame, trained: Trained, split: SplitConfig, config: MonitorConfig, evaluate: EvaluateConfig
) -> Monitored:
    """Compare the sessions after validation, at most the newest `config.sessions`, with training and validation.

    Args:
        newest: features of the newest bars, with the history that the scale needs before them.
        trained: what the checkpoint was made from.
        split: which rows are anchors (context and warm-up).
        config: how many sessions, and how rarely data like those of validation may cross a limit.
        evaluate: how forecasts are made.

    Raises:
        ValueError: no session after validation, too few training sessions, or features of other bars.
    """
    shown = newest_anchors(newest, trained.last_session, split, config.shown_sessions)
    outcomes = _outcomes(newest, shown, trained, evaluate)
    count = min(config.sessions, len(outcomes.sessions))
    judged, first = outcomes.newest(count), outcomes.sessions[-count]
    chosen = shown[newest["session"].to_numpy().astype("datetime64[D]")[shown] >= first]
    rate = config.false_alarms / 3
    validation = _outcomes(trained.features, positions(trained.splits, "validation"), trained, evaluate)
    drawn = session_draws(
        len(validation.sessions), count, config.mean_block, config.draws, np.random.default_rng(config.seed)
    )
    blocks = max(len(validation.sessions) / config.mean_block, 2.0)
    limits = coverage_limits(validation, drawn, rate, blocks), skill_limits(validation, drawn, rate, blocks)
    levels, horizons = trained.checkpoint.metadata.quantiles, trained.checkpoint.metadata.horizons
    by_level = [(level_name(tau), horizon) for horizon in horizons for tau in levels]
    by_reference = [(name, horizon) for name in REFERENCES for horizon in horizons]
    checks = pd.concat(
        [
            _drift(newest, chosen, trained, count, config.bins, rate),
            _rows(COVERAGE, by_level, judged.coverage_error_K, np.zeros(len(by_level)), limits[0]),
            _rows(SKILL, by_reference, judged.skill_K, validation.skill_K, limits[1]),
        ],
        ignore_index=True,
    )
    shown_frame = _rolling_frame(outcomes, count, by_level, by_reference)
    shown_frame.attrs["source"] = newest.attrs.get("source", "")
    return Monitored(checks, shown_frame, _report(checks, judged, trained, config), chosen)


def newest_anchors(features: pd.DataFrame, after: pd.Timestamp, split: SplitConfig, sessions: int) -> Positions:
    """Anchors of the newest sessions that begin after a date."""
    anchors = np.flatnonzero(anchor_mask(features, split))
    session = features["session"].to_numpy().astype("datetime64[D]")
    later = np.unique(session[anchors][session[anchors] > np.datetime64(after, "D")])
    if len(later) < FEWEST_SESSIONS:
        last = "none" if not len(session) else str(session[-1])
        raise ValueError(
            f"expected at least {FEWEST_SESSIONS} sessions with anchors after {after:%Y-%m-%d}, the last one of "
            f"validation, found {len(later)} in bars that end with {last} and warm up for {split.warmup_bars} bars: "
            "bring newer bars, with 20 sessions or more before them"
        )
    return anchors[session[anchors] >= later[-sessions:][0]]


def _outcomes(features: pd.DataFrame, anchors: Positions, trained: Trained, evaluate: EvaluateConfig) -> Outcomes:
    """Calibrated forecasts of the checkpoint, as `nqcast.load` issues them, and of the references."""
    metadata, horizons = trained.checkpoint.metadata, trained.checkpoint.metadata.horizons
    levels = metadata.quantiles
    conformal = trained.calibration.conformal(trained.checkpoint.weights_sha256, levels, horizons)
    logger.info("forecasts at %d anchors", len(anchors))
    quantiles, scale = predict(trained.checkpoint, features, anchors, evaluate)
    references = {name: one.predict(features, anchors) for name, one in trained.references.items()}
    targets = targets_at(features, anchors, horizons)
    session = features["session"].iloc[anchors]
    return Outcomes.of(session, targets, conformal.apply(quantiles, scale), references, levels)


def _drift(
    newest: pd.DataFrame, chosen: Positions, trained: Trained, count: int, bins: int, rate: float
) -> pd.DataFrame:
    train = positions(trained.splits, "train")
    edges = bin_edges(trained.features, train, bins)
    reference_SFB = session_counts(trained.features, train, edges, bins)
    value = stability_index(session_counts(newest, chosen, edges, bins).sum(axis=0), reference_SFB.sum(axis=0))
    limits = drift_limits(reference_SFB, count, rate)
    return _rows(DRIFT, [(name, "") for name in feature_names(trained.features)], value, np.zeros(len(value)), limits)


def _rows(
    family: str, names: Sequence[tuple[str, str]], value: Floats, expected: Floats, limits: Limits
) -> pd.DataFrame:
    frame = pd.DataFrame(names, columns=["name", "horizon"])
    frame.insert(0, "family", family)
    found = {"value": value, "expected": expected, "low": limits.low_K, "high": limits.high_K}
    return frame.astype("string").assign(**found, crossed=limits.crossed(value))


def _rolling_frame(
    outcomes: Outcomes, count: int, by_level: Sequence[tuple[str, str]], by_reference: Sequence[tuple[str, str]]
) -> pd.DataFrame:
    dates, coverage_WK, skill_WK = rolling(outcomes, count)
    frames = []
    for family, names, values in ((COVERAGE, by_level, coverage_WK), (SKILL, by_reference, skill_WK)):
        for (name, horizon), column in zip(names, values.T, strict=True):
            frame = pd.DataFrame({"session": dates.astype("datetime64[ns]"), "value": column})
            frames.append(frame.assign(family=family, name=name, horizon=horizon))
    return pd.concat(frames, ignore_index=True).astype({"family": "string", "name": "string", "horizon": "string"})


def _report(checks: pd.DataFrame, judged: Outcomes, trained: Trained, config: MonitorConfig) -> Json:
    crossed = checks[checks["crossed"]]
    report: Json = {
        "checkpoint": trained.checkpoint.metadata.fingerprint,
        "sessions": {
            "count": len(judged.sessions), "first": str(judged.sessions[0]), "last": str(judged.sessions[-1]),
        },
        "trained_until": f"{trained.last_session:%Y-%m-%d}",
        "false_alarms": config.false_alarms,
        "checks": len(checks),
        "crossed": [" ".join(filter(None, row)) for row in crossed[["family", "name", "horizon"]].to_numpy().tolist()],
        "exit_status": LIMIT_CROSSED if len(crossed) else 0,
    }  # fmt: skip
    return {**report, "text": render(checks, report)}
