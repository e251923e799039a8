"""From raw bars and a checkpoint to quantiles of returns and prices from now."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nqcast.constants import SIMULATED
from nqcast.data.config import FeaturesConfig
from nqcast.data.features import build_features
from nqcast.data.own_features import OwnFeature, is_own
from nqcast.data.splits import anchor_rows
from nqcast.data.trailing import behind, reach
from nqcast.evaluation.calibration import Calibration, issued_online
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import FrameStream, Positions
from nqcast.evaluation.metrics import Floats
from nqcast.fields import changed
from nqcast.forecast.config import ForecastConfig, as_trained
from nqcast.forecast.freshness import (
    Anchor,
    ForecastRefusedError,
    check_window,
    choose_anchor,
    known_bars,
    target_times,
)
from nqcast.forecast.predictor import CHUNK_ANCHORS, Predictor, load_model, load_scale
from nqcast.forecast.text import Issued
from nqcast.horizons import horizon, target_names
from nqcast.market.calendar import sessions_around
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.schema import bar_starts, check_raw_bars
from nqcast.market.vendor import as_raw_bars, read_bars
from nqcast.storage.checkpoint import Checkpoint
from nqcast.symbols.foreign import own_features as read_own_features
from nqcast.training.device import pick_device

log = logging.getLogger(__name__)

Bars = Any
"""A table of bars (pandas, polars, Arrow, a dict of columns) or the path of a file or folder of them."""


class Forecaster:
    """A checkpoint that is ready to forecast; made by `nqcast.load`.

    Args:
        checkpoint: a trained model with its scale.
        calibration: one that was fitted for this checkpoint; None applies none.
        config: age, gaps and history that are asked of the bars.
        ingest: how raw bars are checked; what the training has settled of it (nqcast.forecast.config) stays.
        own_features: the files of the features of your own that the checkpoint was trained with, in their order.

    Raises:
        ValueError: a broken checkpoint, a calibration of another one, or other settings or own features than it was
            trained with.

    `spacing` is that of the bars it was trained on, of which bars that come in are made.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        calibration: Calibration | None = None,
        config: ForecastConfig | None = None,
        ingest: IngestConfig | None = None,
        own_features: Sequence[str | Path] = (),
    ) -> None:
        self.metadata, self.spacing = checkpoint.metadata, checkpoint.metadata.spacing
        self.config = config or ForecastConfig()
        self._device = pick_device(self.config.device)
        self.model, self.scale = load_model(checkpoint).to(self._device), load_scale(checkpoint)
        self.ingest = as_trained(checkpoint, ingest or IngestConfig())
        self._own = _as_trained(read_own_features(own_features, self.ingest), self.metadata.features)
        fitted_for = checkpoint.weights_sha256, self.levels, self.metadata.horizons
        self.calibration = None if calibration is None else calibration.conformal(*fitted_for)
        self._fitted, self._kept = calibration, checkpoint.trailing
        self._said: set[str] = set()
        self.copula = None if calibration is None else calibration.copula
        if self.config.paths and self.copula is None:
            raise ValueError(
                "expected a calibration with validation's joint ranks for forecast.paths, found none: run the train "
                "pipeline again, which calibrates, or set forecast.paths=0"
            )

    def __repr__(self) -> str:
        data, levels = self.metadata.data, ", ".join(f"{level:g}" for level in self.levels)
        return (
            f"<Forecaster of {self.ingest.instrument.symbol}, trained on {data.source or 'bars'} until "
            f"{data.last or 'an unknown day'}; {', '.join(self.metadata.horizons)} ahead, levels {levels}; "
            f"{'not ' * (self.calibration is None)}calibrated>"
        )

    def _say_once(self, kind: str, text: str) -> None:
        """Warn of what holds for every forecast, the first time."""
        if kind not in self._said:
            self._said.add(kind)
            log.warning("%s", text)

    @property
    def fewest(self) -> int:
        """Rows that a forecast needs before it."""
        return self.spacing.rows(self.config.min_bars)

    def recent(self, features: pd.DataFrame) -> pd.DataFrame:
        """What charts show before a forecast: ts, raw_close and traded."""
        return features[["ts", "raw_close", "traded"]].tail(self.spacing.rows(self.config.history_bars))

    @property
    def levels(self) -> tuple[float, ...]:
        """Probabilities of the quantiles, rising."""
        return self.metadata.quantiles

    def forecast(self, bars: Bars) -> pd.DataFrame:
        """Quantiles from the newest bar on.

        Args:
            bars: raw bars as a frame (ts or a DatetimeIndex, open, high, low, close, volume, contract) or a file of
                them; as the grid or finer, some twenty sessions or more.

        Returns:
            One row per horizon and level: issue_time (end of the newest bar, UTC), target_time, horizon, level,
            return_quantile (log return), price_quantile (index points, from the raw price), the same two by the online
            calibration (…_online; NaN without one), last_price, contract. The quantiles are NaN where the session
            closes before target_time, unless the horizon is one over the break.

        Raises:
            ForecastRefusedError: stale, gappy or too few bars, or a session that is over.
            ValueError: the frame is not one of bars.
        """
        issued = self.issue(bars)
        for kind, note in issued.notes().items() if self.config.as_of is None else ():
            self._say_once(kind, note)
        return issued.forecast

    def issue(self, bars: Bars) -> Issued:
        """The forecast with what it was made from; arguments and errors are those of `forecast`."""
        grid, context = self.grid(bars), self.model.config.context
        first, last = grid["ts"].iloc[max(len(grid) - context, 0)], grid["ts"].iloc[-1]
        sessions = sessions_around(first, last, self.ingest.session_closes, self.ingest.instrument)
        anchor = choose_anchor(grid, self.config, sessions, self.metadata.horizons)
        check_window(grid.iloc[: anchor.row + 1], context, self.config, sessions)
        table = self.features(grid)
        past = table.iloc[: anchor.row + 1]
        predictor, moved = self._predictor(past)
        quantiles_HQ, scale_H = self._newest(predictor)
        frame = self._frame(quantiles_HQ, past.iloc[-1], anchor, self._online(past, predictor, moved))
        recent = self.recent(past).reset_index(drop=True)
        frame.attrs["source"] = recent.attrs["source"] = grid.attrs.get("source", "")
        sessions_known, paths = int(predictor.features["session_first"].sum()), self._paths(frame, scale_H)
        short = sessions_known if sessions_known < reach(self.scale.config) else 0
        newest = last + self.spacing.bar
        return Issued(frame, recent, anchor.session_close, newest, self.calibration is not None, paths, short)

    def quantiles(self, features: pd.DataFrame) -> Floats:
        """Quantiles (H, Q) in log-return units at the last row of a feature table."""
        return self._newest(self._predictor(features)[0])[0]

    def _predictor(self, features: pd.DataFrame) -> tuple[Predictor, int]:
        """Forecasts over a feature table, the kept sessions before it, and by how many rows its own have moved."""
        table, moved = self.behind(features)
        return Predictor(self.model, self.scale, table, EvaluateConfig().batch_size), moved

    def _newest(self, predictor: Predictor) -> tuple[Floats, Floats]:
        """The quantiles (H, Q) and the scale (H,) at the last row of its table."""
        [(_, quantiles_1HQ, scale_1H)] = predictor.stream(np.array([len(predictor.features) - 1]))
        if self.calibration is not None:
            quantiles_1HQ = self.calibration.apply(quantiles_1HQ, scale_1H)
        return quantiles_1HQ[0], scale_1H[0]

    def behind(self, features: pd.DataFrame) -> tuple[pd.DataFrame, int]:
        """A feature table with the sessions before it that the checkpoint keeps, and by how many rows it has moved."""
        return behind(features, self._kept, self.model.config.context)

    def _online(self, features: pd.DataFrame, predictor: Predictor, moved: int) -> Floats | None:
        """Quantiles (H, Q) at the last row by the online calibration, moved by every outcome since validation.

        None without a calibration, and for a forecast from before its end.
        """
        until = None if self._fitted is None else self._fitted.anchors.get("last")
        if self._fitted is None or self._fitted.online_offset_HQ is None or until is None:
            return None
        ts, newest = features["ts"], len(features) - 1
        anchors = np.flatnonzero(anchor_rows(features, self.model.config.context, 0) & (ts > pd.Timestamp(until)))
        if ts.iloc[-1] <= pd.Timestamp(until):
            return None
        rows = np.append(anchors[anchors < newest], newest)
        parts = list(predictor.stream(rows + moved))
        quantiles_NHQ, scale_NH = (np.concatenate([part[k] for part in parts]) for k in (1, 2))
        targets_NH = features[target_names(features.columns)].to_numpy()[rows]
        return issued_online(self._fitted.online(), ts.iloc[rows], quantiles_NHQ, targets_NH, scale_NH)[-1]

    def _paths(self, forecast: pd.DataFrame, scale_H: Floats) -> pd.DataFrame:
        """Joint paths whose margins are the forecast's quantiles; the same for the same forecast."""
        count, first = self.config.paths, forecast.iloc[:: len(self.levels)].reset_index(drop=True)
        returns_NH = np.empty((0, len(first)))
        if count and self.copula is not None:
            quantiles_HQ = forecast["return_quantile"].to_numpy().reshape(len(first), -1)
            minute = int(first["issue_time"].iloc[0].timestamp()) // 60
            returns_NH = self.copula.draw(quantiles_HQ, scale_H, count, seed=minute)
        rows = pd.concat([first[["horizon", "target_time"]]] * max(count, 1), ignore_index=True)[: returns_NH.size]
        rows.insert(0, "path", np.repeat(np.arange(len(returns_NH)), len(first)))
        return rows.assign(
            log_return=returns_NH.ravel(), price=first["last_price"].iloc[0] * np.exp(returns_NH.ravel())
        )

    def sweep(self, bars: Bars) -> FrameStream:
        """Forecasts at every bar of a history at which one could have been made, as a stream of frames.

        Args:
            bars: as for `forecast`; those after `as_of`, where it is given, are left out.

        Returns:
            Frames with the columns of the predictions: ts (start of the bar, UTC), session, horizon, target (the log
            return that came; NaN where the session closes first), q05 … q95 (calibrated, where the forecaster is) and
            scale, in log-return units. Join them with pandas.concat, or write them one by one: memory beyond the
            feature table does not grow with the anchors.

        Raises:
            ForecastRefusedError: no bar has a full window, min_bars before it and a target after it.
            ValueError: the frame is not one of bars.
        """
        return self.sweep_table(self.features(self.grid(bars)))

    def sweep_rows(self, features: pd.DataFrame) -> Positions:
        """The rows (N,) of a feature table at which a sweep forecasts; ForecastRefusedError where there is none."""
        context, warmup = self.model.config.context, self.fewest
        rows = np.flatnonzero(anchor_rows(features, context, warmup))
        if not len(rows):
            raise ForecastRefusedError(
                f"expected bars with {max(context, warmup)} {self.spacing.word} bars before them and a horizon that "
                f"ends in their session, found none among {len(features)}: bring a longer history, or lower "
                "forecast.min_bars"
            )
        return rows

    def sweep_table(
        self, features: pd.DataFrame, chunk: int = CHUNK_ANCHORS, rows: Positions | None = None
    ) -> FrameStream:
        """`sweep` over a feature table, `chunk` anchors a frame: scale, windows and model are made once.

        At `rows`, where they are known already. Refusals come here, not while the stream is read.
        """
        positions = self.sweep_rows(features) if rows is None else rows
        predictor, moved = self._predictor(features)
        axes = self.levels, self.metadata.horizons
        return FrameStream(lambda: predictor.frames(positions + moved, *axes, chunk, self.calibration))

    def features(self, grid: pd.DataFrame) -> pd.DataFrame:
        """The feature table of bars on the grid, made as it was for the training."""
        asked = FeaturesConfig(volume=self.ingest.volume, tick=self.ingest.tick)
        return build_features(grid, asked, self._own, self.metadata.horizons)

    def grid(self, bars: Bars) -> pd.DataFrame:
        """Bars on the grid of all that is known when the forecast is made."""
        raw = read_bars(bars) if isinstance(bars, str | Path) else as_raw_bars(bars)
        if self.ingest.volume and "volume" not in raw:
            raise ValueError(
                f"expected bars with volume, with which this checkpoint was trained, found the columns "
                f"{raw.attrs['columns']}: bring it, or train a checkpoint without (features.volume=false)"
            )
        checked = check_raw_bars(raw, self.ingest)
        checked["ts"], raw_minutes = bar_starts(checked["ts"], self.ingest.stamps == "end")
        if self.spacing.minutes % raw_minutes:
            raise ValueError(
                f"expected source bars of which this checkpoint's {self.spacing.word} bars can be made, found one "
                f"every {raw_minutes} minutes: bring 1-minute bars, or take a checkpoint of {raw_minutes}-minute bars"
            )
        known = known_bars(checked, self.config, raw_minutes, self.spacing)
        source = raw.attrs.get("source", Path(bars).name if isinstance(bars, str | Path) else "")
        known.attrs["source"], trained_on = source, self.metadata.data.source
        if trained_on.startswith(SIMULATED) and not source.startswith(SIMULATED):
            self._say_once("market", f"this network was trained on the {trained_on}: of real bars it knows nothing")
        return build_bars(known, changed(self.ingest, {"stamps": "start"})).bars

    def _frame(self, quantiles_HQ: Floats, bar: pd.Series, anchor: Anchor, online_HQ: Floats | None) -> pd.DataFrame:
        issued, price = bar["ts"] + self.spacing.bar, float(bar["raw_close"])
        horizons, levels = list(self.metadata.horizons), list(self.levels)
        frame = pd.DataFrame(
            {
                "horizon": pd.array(np.repeat(horizons, len(levels)), dtype="str"),
                "level": levels * len(horizons),
                "return_quantile": quantiles_HQ.ravel(),
            }
        )
        ends = target_times(pd.Series([bar["ts"]]), [anchor.session_close], horizons, self.ingest)[0]
        frame["return_quantile"] = frame["return_quantile"].where(np.repeat(pd.notna(ends), len(levels)))
        by_clock = [issued + pd.Timedelta(minutes=horizon(name).minutes) for name in horizons]
        shown = [clock if pd.isna(end) else end for end, clock in zip(ends, by_clock, strict=True)]
        target_time = pd.Series(pd.DatetimeIndex(shown).repeat(len(levels)))
        frame["price_quantile"] = price * np.exp(frame["return_quantile"])
        online = np.full(quantiles_HQ.size, np.nan) if online_HQ is None else online_HQ.ravel()
        frame["return_quantile_online"] = pd.Series(online).where(frame["return_quantile"].notna())
        frame["price_quantile_online"] = price * np.exp(frame["return_quantile_online"])
        frame.insert(0, "issue_time", pd.Series(issued, index=frame.index).dt.as_unit("ns"))
        frame.insert(1, "target_time", target_time.dt.as_unit("ns"))
        return frame.assign(last_price=price, contract=pd.array([bar["contract"]] * len(frame), dtype="str"))


def _as_trained(given: tuple[OwnFeature, ...], trained: Sequence[str]) -> tuple[OwnFeature, ...]:
    expected, found = [name for name in trained if is_own(name)], [feature.name for feature in given]
    if expected != found:
        cure = "give them" if expected else "leave them out of what is given"
        raise ValueError(
            f"expected the own features that the checkpoint was trained with, {expected or 'none'}, found {found}: "
            f"{cure} by features.own or nqcast.load(…, own_features=[…]), a Python file unchanged (the digits name its "
            "content), another market's bars as NAME=FILE"
        )
    return given
