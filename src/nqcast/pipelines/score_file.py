"""Forecasts of anyone's making against the baselines, on the same anchors and by the same tests as the model.

forecast_file, features → file_predictions, file_scores, test_uses.
"""

from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline

from nqcast.data.config import SplitConfig
from nqcast.data.fingerprint import fingerprint
from nqcast.data.splits import make_splits
from nqcast.evaluation.config import EvaluateConfig, ScoreFileConfig
from nqcast.evaluation.split_uses import count_uses, use_by_file
from nqcast.storage.json_values import Json


def place_forecasts(
    forecast_file: pd.DataFrame, features: pd.DataFrame, split: SplitConfig, config: ScoreFileConfig
) -> tuple[pd.DataFrame, pd.DataFrame, Json]:
    """The file as a predictions frame, the splits, and the record that test anchors were scored."""
    from nqcast.evaluation.given_forecasts import anchors_held, as_predictions

    splits = make_splits(features, split)
    predictions = as_predictions(forecast_file, features, splits, config.values)
    scored, _ = anchors_held(predictions, splits)["test"]
    return predictions, splits, use_by_file(forecast_file, features, scored)


def score_forecasts(
    predictions: pd.DataFrame,
    splits: pd.DataFrame,
    features: pd.DataFrame,
    true_quantiles: Any,
    test_uses: list[Json],
    config: EvaluateConfig,
) -> Json:
    """Scores of the file and of every baseline on the same anchors; the text of the table ends the run."""
    from nqcast.evaluation.comparison import market_of
    from nqcast.evaluation.given_forecasts import score_given

    uses = count_uses(test_uses, fingerprint(features))
    market = market_of(features.attrs.get("source", ""), true_quantiles)
    return score_given(predictions, splits, features, market, uses, config)


def create_pipeline() -> Pipeline:
    return Pipeline(
        [
            Node(
                place_forecasts,
                inputs=["forecast_file", "features", "params:split", "params:score_file"],
                outputs=["file_predictions", "file_splits", "test_uses"],
                name="place_forecasts",
            ),
            Node(
                score_forecasts,
                inputs=[
                    *("file_predictions", "file_splits", "features"),
                    *("true_quantiles", "test_uses", "params:evaluate"),
                ],
                outputs="file_scores",
                name="score_forecasts",
            ),
        ]
    )
