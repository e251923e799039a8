"""predictions (or walk_forward_predictions), features → trades, sessions, results, chart."""

from kedro.pipeline import Node, Pipeline

from nqcast.pipelines.backtest import nodes

_SETTINGS = ("params:backtest", "params:evaluate", "params:features")


def create_pipeline() -> Pipeline:
    """Name the backtest of the forecasts of the test split."""
    return Pipeline(
        [
            Node(
                nodes.trade_test,
                inputs=["predictions", "features", "checkpoint", *_SETTINGS],
                outputs=["backtest_trades", "backtest_sessions", "backtest_results", "test_uses"],
                name="trade_test",
            ),
            _chart("backtest"),
        ]
    )


def create_walk_forward_pipeline() -> Pipeline:
    """Name the backtest of the out-of-sample forecasts of a walk-forward."""
    name = "walk_forward_backtest"
    return Pipeline(
        [
            Node(
                nodes.trade_walk_forward,
                inputs=["walk_forward_predictions", "features", *_SETTINGS],
                outputs=[f"{name}_trades", f"{name}_sessions", f"{name}_results"],
                name="trade_walk_forward",
            ),
            _chart(name),
        ]
    )


def _chart(name: str) -> Node:
    return Node(
        nodes.draw_equity, inputs=[f"{name}_sessions", f"{name}_results"], outputs=f"{name}_chart", name=f"draw_{name}"
    )
