"""symbol_features → pool_checkpoints → symbol_models, pool → symbol_forecasts."""

from kedro.pipeline import Node, Pipeline

from nqcast.pipelines.train_many import nodes

_SETTINGS = ["params:ingest", "params:features", "params:instruments"]


def create_pipeline() -> Pipeline:
    """Name the road from feature tables by symbol to one network, its validation and its forecasts."""
    return (
        Pipeline(
            [
                Node(
                    nodes.choose_symbols,
                    inputs=["symbol_features", "symbol_files", *_SETTINGS, "params:horizons"],
                    outputs="pool_tables",
                    name="choose_symbols",
                ),
                Node(
                    nodes.train_pool,
                    inputs=[
                        *("pool_tables", "run_directory", "params:split", "params:scale"),
                        *("params:model", "params:train", "params:quantiles"),
                    ],
                    outputs=["pool_checkpoints", "pool_splits", "pool_history"],
                    name="train_pool",
                ),
                Node(
                    nodes.validate_symbols,
                    inputs=["pool_checkpoints", "pool_splits", "pool_tables", "finished_models", "params:evaluate"],
                    outputs=["symbol_models", "model_log"],
                    name="validate_symbols",
                ),
                Node(
                    nodes.describe_pool,
                    inputs=["pool_checkpoints", "symbol_models"],
                    outputs="pool",
                    name="describe_pool",
                ),
            ]
        )
        + create_forecast_pipeline()
    )


def create_forecast_pipeline() -> Pipeline:
    """Name the inputs and outputs of forecasts by a trained pool."""
    return Pipeline(
        [
            Node(
                nodes.forecast_symbols,
                inputs=["symbol_files", "pool", "symbol_models", "params:forecast", *_SETTINGS, "params:split"],
                outputs=["symbol_forecasts", "symbol_forecasts_summary"],
                name="forecast_symbols",
            )
        ]
    )
