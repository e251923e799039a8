"""What trading on the forecasts would have earned, after costs, and how sure that is.

predictions (or walk_forward_predictions), features → trades, sessions, results, chart.
"""

import pandas as pd
from kedro.pipeline import Node, Pipeline

from nqcast.backtest.config import BacktestConfig
from nqcast.data.fingerprint import require_tick, require_trained_on
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import require_outcomes_of
from nqcast.evaluation.split_uses import use_by_checkpoint
from nqcast.report import figures
from nqcast.storage.checkpoint import Checkpoint
from nqcast.storage.json_values import Json


def trade_walk_forward(
    predictions: pd.DataFrame,
    features: pd.DataFrame,
    config: BacktestConfig,
    evaluate: EvaluateConfig,
) -> tuple[pd.DataFrame, pd.DataFrame, Json]:
    """Trades, profits by session, and results whose text ends the run; the test split as such is not scored.

    ValueError for forecasts of other bars at the same stamps.
    """
    from nqcast.backtest.run import backtest

    require_outcomes_of(features, predictions)
    return backtest(predictions, features, config, evaluate, require_tick(features))


def trade_test(
    predictions: pd.DataFrame,
    features: pd.DataFrame,
    checkpoint: Checkpoint,
    config: BacktestConfig,
    evaluate: EvaluateConfig,
) -> tuple[pd.DataFrame, pd.DataFrame, Json, Json]:
    """Trades, profits by session and results of the test split, and the record that it was used."""
    require_trained_on(features, checkpoint.metadata.data.fingerprint)
    done = trade_walk_forward(predictions, features, config, evaluate)
    record = use_by_checkpoint(checkpoint, int(predictions["ts"].nunique()), evaluate)
    return *done, {**record, "backtest": config.model_dump(mode="json")}


def draw_equity(sessions: pd.DataFrame, results: Json) -> object:
    """Equity beside its controls (a matplotlib Figure)."""
    return figures.draw_equity(sessions, results)


_SETTINGS = ("params:backtest", "params:evaluate")


def create_pipeline() -> Pipeline:
    return Pipeline(
        [
            Node(
                trade_test,
                inputs=["predictions", "features", "checkpoint", *_SETTINGS],
                outputs=["backtest_trades", "backtest_sessions", "backtest_results", "test_uses"],
                name="trade_test",
            ),
            _chart("backtest"),
        ]
    )


def create_walk_forward_pipeline() -> Pipeline:
    name = "walk_forward_backtest"
    return Pipeline(
        [
            Node(
                trade_walk_forward,
                inputs=["walk_forward_predictions", "features", *_SETTINGS],
                outputs=[f"{name}_trades", f"{name}_sessions", f"{name}_results"],
                name="trade_walk_forward",
            ),
            _chart(name),
        ]
    )


def _chart(name: str) -> Node:
    return Node(
        draw_equity, inputs=[f"{name}_sessions", f"{name}_results"], outputs=f"{name}_chart", name=f"draw_{name}"
    )
