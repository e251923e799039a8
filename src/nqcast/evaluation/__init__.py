"""What a forecast is worth: predictions, metrics, baselines, significance, calibration, figures and the report."""

from nqcast.lazy import lazily

_HOME = {
    "EvaluateConfig": "config",
    "named_metrics": "metrics",
    "make_baselines": "baselines",
    "predict_frame": "predict",
    "predictions_frame": "forecasts",
    "score_table": "scores",
    "render_scores": "scores",
    "ConformalCalibration": "calibration",
    "OnlineCalibration": "calibration",
    "fan_chart": "figures",
    "render_report": "report",
}
__all__ = sorted(_HOME)

__getattr__ = lazily(__name__, _HOME)
