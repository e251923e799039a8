"""Every pipeline by name; the default one is composed here."""

from kedro.pipeline import Pipeline

from nqcast.pipelines import (
    ablation,
    backtest,
    evaluate,
    features,
    forecast,
    ingest,
    monitor,
    score_file,
    train,
    train_many,
    tune,
    update,
    walk_forward,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Name every pipeline that `kedro run --pipelines NAME` takes.

    An explicit dict instead of `find_pipelines`: names stay what they are, and asking for one loads no other. Every
    node carries the name of its pipeline as a tag: `kedro run --tags train` is that part of the default pipeline.
    """
    pipelines = {
        "ingest": ingest.create_pipeline(),
        "features": features.create_pipeline(),
        "features_many": train_many.create_features_pipeline(),
        "train_many": train_many.create_features_pipeline() + train_many.create_pipeline(),
        "forecast_many": train_many.create_forecast_pipeline(),
        "train": train.create_pipeline(),
        "evaluate": evaluate.create_pipeline(),
        "forecast": forecast.create_pipeline(),
        "sweep": forecast.create_sweep_pipeline(),
        "walk_forward": walk_forward.create_pipeline(),
        "register": walk_forward.create_register_pipeline(),
        "verdict": walk_forward.create_verdict_pipeline(),
        "ablation": ablation.create_pipeline(),
        "tune": tune.create_pipeline(),
        "update": update.create_pipeline(),
        "backtest": backtest.create_pipeline(),
        "backtest_walk_forward": backtest.create_walk_forward_pipeline(),
        "monitor": monitor.create_pipeline(),
        "score_file": score_file.create_pipeline(),
    }
    pipelines = {name: pipeline.tag(name) for name, pipeline in pipelines.items()}
    pipelines["__default__"] = pipelines["ingest"] + pipelines["features"] + pipelines["train"] + pipelines["evaluate"]
    return pipelines
