"""The calibration that belongs to a checkpoint, and the forecasts it makes: offline (conformal) and online.

Both start from the same validation anchors: the conformal offsets are fitted on them, the online ones have run through
them from zero and go on from there, an outcome counting only once its horizon has passed. Online offsets that begin at
the conformal ones cost more: at long horizons those hold the drift of two months.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from nqcast.data.clock import utc_nanoseconds
from nqcast.evaluation import metrics
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.conformal import ConformalCalibration, OnlineCalibration
from nqcast.evaluation.coverage import render_coverage
from nqcast.evaluation.frames import (
    CONFORMAL,
    MODEL,
    ONLINE,
    Forecasts,
    FrameStream,
    as_arrays,
    horizons_in,
    in_anchor_order,
    levels_of,
)
from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.paths import FEWEST, PathCopula
from nqcast.evaluation.session_losses import PARTS, session_part
from nqcast.horizons import horizon
from nqcast.storage.checkpoint import Checkpoint
from nqcast.storage.json_values import Json


@dataclass(frozen=True, eq=False)
class Calibration:
    """What the validation anchors have taught about the forecasts of one checkpoint's weights.

    weights: the SHA-256 of the tensors that it was fitted for (`Checkpoint.weights_sha256`); offset_HQ: in scales,
    offline; online_rate and online_offset_HQ: where the online calibration goes on from, (P, H, Q) by part of the
    session; checkpoint: its fingerprint;
    copula: joint ranks over the horizons, None where too few anchors have an outcome at each; anchors: count, first and
    last; coverage: before and after on the same anchors, {forecast: {horizon: {q05: …}}}, and as text; val_loss:
    pinball loss there, in scales; headline: sentences for the end of a run.
    """

    weights: str
    levels: tuple[float, ...]
    horizons: tuple[str, ...]
    offset_HQ: Floats
    online_rate: float | None = None
    online_offset_HQ: Floats | None = None
    checkpoint: str = ""
    copula: PathCopula | None = None
    anchors: dict[str, int | str] = field(default_factory=dict)
    coverage: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    text: str = ""
    val_loss: float | None = None
    headline: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Calibration:
        """The calibration in a JSON document, also from one of earlier versions, which holds the offsets alone.

        Raises:
            ValueError: it is none.
        """
        offsets = {"levels", "horizons", "offsets"}
        if document.get("kind") != "conformal" or not offsets <= document.keys():
            raise ValueError(
                f"expected a conformal calibration, found {document.get('kind')!r} with {', '.join(document) or 'no'} "
                "fields: take the calibration.json that was saved with the checkpoint, or run the train pipeline again"
            )
        online, copula = document.get("online_offsets"), document.get("copula")
        as_they_are = ("online_rate", "checkpoint", "anchors", "coverage", "text", "val_loss")
        levels, horizons = tuple(document["levels"]), tuple(document["horizons"])
        return cls(
            weights=document.get("weights", ""),
            levels=levels,
            horizons=horizons,
            offset_HQ=_offsets(document["offsets"], levels, horizons),
            online_offset_HQ=None if online is None else _offsets(online, levels, horizons, len(PARTS)),
            copula=None if copula is None else PathCopula.from_state(copula),
            headline=tuple(document.get("headline", ())),
            **{name: document[name] for name in as_they_are if name in document},
        )

    def to_json(self) -> Json:
        """The content of calibration.json."""
        online = None if self.online_offset_HQ is None else self.online_offset_HQ.tolist()
        return self._offline().state() | {
            "online_rate": self.online_rate,
            "online_offsets": online,
            "checkpoint": self.checkpoint,
            "copula": self.copula and self.copula.state(),
            "anchors": self.anchors,
            "coverage": self.coverage,
            "text": self.text,
            "val_loss": self.val_loss,
            "headline": list(self.headline),
        }

    def conformal(self, weights: str, levels: Sequence[float], horizons: Sequence[str]) -> ConformalCalibration:
        """The offline calibration; ValueError when it was fitted for other weights, levels or horizons."""
        if self.weights != weights:
            raise ValueError(
                f"expected a conformal calibration fitted for the weights {weights[:16]}…, found one for "
                f"{(self.weights or 'weights that it does not name')[:28]}: take the one that was saved with the "
                "checkpoint, or run the train pipeline again, which reads a finished run back and calibrates"
            )
        if self.levels != tuple(levels) or self.horizons != tuple(horizons):
            raise ValueError(
                f"expected a calibration of levels {list(levels)} at {list(horizons)}, found {list(self.levels)} at "
                f"{list(self.horizons)}: run the train pipeline again"
            )
        return self._offline()

    def _offline(self) -> ConformalCalibration:
        calibration = ConformalCalibration(self.levels, self.horizons, self.weights)
        calibration.offset_HQ = self.offset_HQ
        return calibration

    def online(self) -> OnlineCalibration:
        """The online calibration as validation has left it; ValueError where the file has none."""
        if self.online_rate is None or self.online_offset_HQ is None:
            raise ValueError(
                "expected a calibration with online offsets, found the offline ones alone: run the train pipeline "
                "again, which reads a finished run back and calibrates"
            )
        parts = len(PARTS) if self.online_offset_HQ.ndim == 3 else 0
        online = OnlineCalibration(self.levels, _minutes(self.horizons), self.online_rate, parts)
        online.offset_HQ = self.online_offset_HQ.copy()  # a run moves them
        return online


def _offsets(value: object, levels: Sequence[float], horizons: Sequence[str], parts: int | None = None) -> Floats:
    """Offsets (H, Q) of a document, or (P, H, Q) of so many `parts`; ValueError where they are no such numbers."""
    try:
        offset_HQ = np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        offset_HQ = np.empty(0)
    shape = (len(horizons), len(levels))
    if offset_HQ.shape not in (shape, (parts, *shape)) or not np.isfinite(offset_HQ).all():
        raise ValueError(
            f"expected a calibration of {len(horizons)} horizons by {len(levels)} finite offsets, found others: take "
            "the calibration.json that was saved with the checkpoint, or run the train pipeline again"
        )
    return offset_HQ


def fit_calibration(anchors: Forecasts, checkpoint: Checkpoint, config: EvaluateConfig) -> Calibration:
    """Calibration of a forecaster from its forecasts of the validation anchors.

    Args:
        anchors: forecasts and outcomes that no weight, scale or constant was fitted on.
        checkpoint: the forecaster; the calibration names its weights, and whoever uses it with others is refused.
        config: `conformal`, which offsets are fitted, and `online_rate`, the step of the online calibration.
    """
    levels, horizons = anchors.levels, anchors.horizons
    symmetric = config.conformal == "symmetric"
    conformal = ConformalCalibration(levels, horizons, checkpoint.weights_sha256, symmetric=symmetric)
    conformal.fit(anchors.quantiles, anchors.targets, anchors.scale)
    parts = len(PARTS) if config.online_by_part else 0
    online = OnlineCalibration(levels, _minutes(horizons), config.online_rate, parts)
    issued_online(online, anchors.ts, anchors.quantiles, anchors.targets, anchors.scale)
    rows = {MODEL: anchors.quantiles, CONFORMAL: conformal.apply(anchors.quantiles, anchors.scale)}
    first, last = anchors.ts.iloc[[0, -1]]
    heading = "Outcomes at or below each quantile less its level, points, on validation"
    return Calibration(
        *(checkpoint.weights_sha256, conformal.levels, horizons, conformal.offset_HQ, online.rate, online.offset_HQ),
        checkpoint=checkpoint.metadata.fingerprint,
        copula=_copula(anchors, rows[CONFORMAL]),
        anchors={"count": len(anchors.ts), "first": str(first), "last": str(last)},
        coverage={row: _coverage(anchors, quantiles) for row, quantiles in rows.items()},
        text=render_coverage(rows, anchors, heading),
    )


def calibration_of(predictions: pd.DataFrame, checkpoint: Checkpoint, config: EvaluateConfig) -> Calibration:
    """`fit_calibration` by a checkpoint's predictions frame of the validation anchors."""
    metadata = checkpoint.metadata
    return fit_calibration(as_arrays(predictions, metadata.quantiles, metadata.horizons), checkpoint, config)


def _coverage(anchors: Forecasts, quantiles_NHQ: Floats) -> dict[str, dict[str, float]]:
    """Share of the outcomes at or below each quantile, {horizon: {q05: …}}."""
    shares_HQ = metrics.coverage_by_level(quantiles_NHQ, anchors.targets, anchors.levels).tolist()
    named = [dict(zip(anchors.level_names, shares, strict=True)) for shares in shares_HQ]
    return dict(zip(anchors.horizons, named, strict=True))


def _copula(anchors: Forecasts, quantiles_NHQ: Floats) -> PathCopula | None:
    """Joint ranks within the calibrated forecasts; None where too few anchors have an outcome at every horizon."""
    if np.isfinite(anchors.targets).all(axis=1).sum() < FEWEST:
        return None
    return PathCopula(anchors.levels, anchors.horizons).fit(quantiles_NHQ, anchors.targets, anchors.scale)


def calibrated_quantiles(anchors: Forecasts, calibration: Calibration, weights: str) -> dict[str, Floats]:
    """Quantiles (N, H, Q) of the offline and of the online calibration at anchors in time order.

    Raises:
        ValueError: the calibration was fitted for other weights, or is of other levels.
    """
    conformal = calibration.conformal(weights, anchors.levels, anchors.horizons)
    return {
        CONFORMAL: conformal.apply(anchors.quantiles, anchors.scale),
        ONLINE: issued_online(calibration.online(), anchors.ts, anchors.quantiles, anchors.targets, anchors.scale),
    }


def issued_online(
    online: OnlineCalibration, ts: pd.Series, quantiles_NHQ: Floats, targets_NH: Floats, scale_NH: Floats
) -> Floats:
    """What an online calibration issues (N, H, Q) at anchors whose bars start at `ts`, in time order."""
    parts = pd.Categorical(session_part(ts), PARTS).codes if online.offset_HQ.ndim == 3 else None
    stamps = np.asarray(utc_nanoseconds(ts)).astype("datetime64[ns]")
    return online.run(stamps, quantiles_NHQ, targets_NH, scale_NH, parts)


def _minutes(horizons: Sequence[str]) -> list[int]:
    """Minutes after which each horizon's outcome is known: by the clock, its own length."""
    return [horizon(name).within for name in horizons]


def calibrated_frame(predictions: pd.DataFrame, calibration: Calibration, weights: str) -> pd.DataFrame:
    """The predictions frame again, once per calibration: `forecast` says which (model_conformal, model_online)."""
    return pd.concat(calibrated_frames(predictions, calibration, weights), ignore_index=True)


def calibrated_frames(
    predictions: pd.DataFrame, calibration: Calibration, weights: str, rows: int = 100_000
) -> FrameStream:
    """The rows of `calibrated_frame`, at most `rows` at a time; an unfitting calibration is refused at once."""
    anchors = as_arrays(predictions, levels_of(predictions), horizons_in(predictions))
    by_name = calibrated_quantiles(anchors, calibration, weights)
    ordered, names = in_anchor_order(predictions, anchors.horizons), anchors.level_names

    def frames() -> Iterator[pd.DataFrame]:
        for name, quantiles_NHQ in by_name.items():
            values = quantiles_NHQ.reshape(-1, len(names))
            for start in range(0, len(ordered), rows):
                frame = ordered.iloc[start : start + rows].copy()
                frame[names] = values[start : start + rows]
                yield frame.assign(forecast=pd.array([name], dtype="string").take(np.zeros(len(frame), dtype=int)))

    return FrameStream(frames)


def quantiles_by_row(frame: pd.DataFrame) -> dict[str, Floats]:
    """Quantiles (N, H, Q) of each `forecast` in a frame that holds several, anchors in time order."""
    levels, horizons = levels_of(frame), horizons_in(frame)
    parts = frame.groupby("forecast", sort=False)
    return {str(name): as_arrays(part, levels, horizons).quantiles for name, part in parts}
