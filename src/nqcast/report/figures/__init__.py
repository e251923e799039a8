"""All figures: every function returns a matplotlib Figure and writes nothing.

Colours are those of Okabe and Ito, told apart by the colour-blind and in grey; no figure relies on colour alone.
"""

from nqcast.lazy import lazily

_HOME = {
    "fan_chart": "fan",
    "reliability_diagram": "calibration",
    "pit_histogram": "calibration",
    "coverage_over_time": "calibration",
    "skill_by_horizon": "skill",
    "gain_by_session": "skill",
    "pinball_by_time_of_day": "skill",
    "training_curves": "training",
    "scale_against_realised": "calibration",
    "importance_by_feature": "explanation",
    "variables_inside": "explanation",
    "attention_over_time": "explanation",
    "draw_equity": "backtest",
    "draw_forecast": "fan",
    "draw_monitor": "monitoring",
    "tuning_figures": "training",
    "with_source": "style",
}
__all__ = sorted(_HOME)

__getattr__ = lazily(__name__, _HOME)
