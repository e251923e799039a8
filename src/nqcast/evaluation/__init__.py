"""What a forecast is worth: predictions, metrics, baselines, significance, calibration, figures and the report."""

from nqcast.lazy import lazily

_HOME = {
    "EvaluateConfig": "config",
    "named_metrics": "metrics",
    "make_baselines": "baselines",
    "predictions_frame": "frames",
    "score_table": "scores",
    "render_scores": "scores",
    "ConformalCalibration": "conformal",
    "OnlineCalibration": "conformal",
}
__all__ = sorted(_HOME)

__getattr__ = lazily(__name__, _HOME)
