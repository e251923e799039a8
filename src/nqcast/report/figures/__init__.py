"""All figures: every function returns a matplotlib Figure and writes nothing.

Colours are those of Okabe and Ito, told apart by the colour-blind and in grey; no figure relies on colour alone.
"""

from nqcast.lazy import lazily

__all__, __getattr__ = lazily(
    __name__,
    fan="fan_chart draw_forecast",
    scores="skill_by_horizon gain_by_session pinball_by_time_of_day reliability_diagram pit_histogram "
    "coverage_over_time scale_against_realised",
    training="training_curves tuning_figures",
    explanation="importance_by_feature variables_inside attention_over_time",
    backtest="draw_equity",
    monitoring="draw_monitor",
    style="with_source",
)
