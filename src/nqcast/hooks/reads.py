"""Which parameters a run reads: what its nodes take as `params:`, of which some read no more than a part."""

from collections.abc import Iterable, Mapping

from kedro.pipeline import Pipeline

_ANCHORS = {"context", "embargo_bars", "warmup_bars"}
_PREDICT = {"batch_size", "device"}
_CALIBRATE = {"conformal", "online_rate", "online_by_part"}
_INTERVALS = {"seed", "mean_block", "bootstrap_replications", "confidence"}
_COMPARE = {*_INTERVALS, "baselines", "newey_west_lag"}

_FOLDS = {"split": _ANCHORS, "evaluate": _PREDICT | _CALIBRATE | _COMPARE}
_REGISTERED = {"split": _ANCHORS, "evaluate": _FOLDS["evaluate"] - {"baselines"}}  # verdict.baselines take their place

IN_PART: Mapping[str, Mapping[str, set[str]]] = {
    "check_rows": {"features": {"volume", "tick"}},
    "make_features": {"ingest": {"instrument", "bar_minutes", "tick"}},
    "load_features": {"ingest": {"instrument", "bar_minutes"}},
    "validation_metrics": {"evaluate": {*_PREDICT, "seed"}},
    "fit_calibration": {"evaluate": _PREDICT | _CALIBRATE},
    "validate_symbols": {"evaluate": {*_PREDICT, *_CALIBRATE, "seed"}},
    "forecast_symbols": {
        "split": {"warmup_bars"},
        "forecast": {"as_of", "max_age_minutes", "max_gap_minutes", "min_bars", "device"},
    },
    "update_forecaster": {"split": _ANCHORS, "evaluate": _PREDICT | _CALIBRATE},
    "compare_with_training": {"split": _ANCHORS, "evaluate": _PREDICT},
    "predict_test": {"evaluate": _PREDICT},
    "score": {"evaluate": {*_COMPARE, "truth_anchors", "phase_lag"}},
    "draw_fan_chart": {"evaluate": {"fan_session", "fan_horizon"}},
    "explain_network": {"evaluate": {*_PREDICT, *_INTERVALS, "explain_anchors"}},
    "score_forecasts": {"evaluate": {*_COMPARE, "truth_anchors"}},
    "sweep_forecasts": {"forecast": {"as_of", "min_bars", "device"}},
    "trade_test": {"evaluate": _INTERVALS},
    "trade_walk_forward": {"evaluate": _INTERVALS},
    "settle_walk_forward": _FOLDS,
    "join_folds": {"evaluate": _COMPARE},
    "settle_registration": _REGISTERED,
    "settle_verdict": _REGISTERED,
    "settle_ablation": {"evaluate": _PREDICT | _INTERVALS},
}
"""By node and group, the fields that it reads; a group that is not named here it reads whole."""


def is_read(pipeline: Pipeline, group: str, field: str | None = None) -> bool:
    """Whether a node of the pipeline reads a group of parameters, or this field of it."""
    readers = (node.name for node in pipeline.nodes if f"params:{group}" in node.inputs)
    return any(field is None or field in IN_PART.get(name, {}).get(group, {field}) for name in readers)


def readers_of(pipelines: Mapping[str, Pipeline], group: str, field: str | None = None) -> Iterable[str]:
    """The names of the pipelines that read it."""
    return sorted(name for name, one in pipelines.items() if name != "__default__" and is_read(one, group, field))
