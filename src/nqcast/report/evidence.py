"""What the report is made from: forecasts of every kind on the same anchors, and where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from nqcast.data.splits import positions
from nqcast.evaluation.calibration import quantiles_by_row
from nqcast.evaluation.compared import Compared
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import Positions, as_arrays
from nqcast.evaluation.judged import beside_baselines
from nqcast.evaluation.significance import Overlap, overlaps
from nqcast.report import figures, html
from nqcast.storage.checkpoint import Metadata

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Evidence(Compared):
    """Forecasts of the test split beside the baselines', and what they were made from.

    predictions: the model's frame; features: what it saw; train: positions of the train anchors; metadata: its
    checkpoint's.
    """

    predictions: pd.DataFrame
    features: pd.DataFrame
    train: Positions
    metadata: Metadata

    @classmethod
    def gather(
        cls,
        predictions: pd.DataFrame,
        calibrated: pd.DataFrame | None,
        features: pd.DataFrame,
        splits: pd.DataFrame,
        metadata: Metadata,
        config: EvaluateConfig,
    ) -> Evidence:
        """Fit the baselines on the train anchors and put them beside the model's rows, on the same anchors."""
        train = positions(splits, "train")
        own = beside_baselines(as_arrays(predictions, metadata.quantiles, metadata.horizons), features, train, config)
        rows = {} if calibrated is None else quantiles_by_row(calibrated)
        return cls(
            anchors=own.anchors,
            forecasts={**own.forecasts, **rows},
            config=config,
            oracle=own.oracle,
            predictions=predictions,
            features=features,
            train=train,
            metadata=metadata,
        )

    @property
    def overlaps(self) -> tuple[Overlap, ...]:
        """The overlap of each horizon's outcomes, on the rows of the table that was forecast."""
        return overlaps(self.metadata.horizons, self.features["ts"])

    @property
    def source(self) -> str:
        """Where the bars come from: a file's name, or the simulated market; empty where nothing says so."""
        return self.metadata.data.source

    def picture(self, figure: Figure, caption: str) -> str:
        """A figure on the page, marked where no exchange has traded what it shows."""
        return html.picture(figures.with_source(figure, self.source), caption)
