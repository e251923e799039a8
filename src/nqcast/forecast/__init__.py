"""Forecasts from now: the newest bars and a checkpoint in, quantiles of returns and prices out.

Names are loaded on first use, so that `nqcast.forecast.config` can be imported without torch.
"""

from nqcast.lazy import lazily

_HOME = {
    "ForecastConfig": "config",
    "ForecastRefusedError": "freshness",
    "Forecaster": "forecaster",
    "load": "loading",
    "forecast_page": "page",
}
__all__ = sorted(_HOME)

__getattr__ = lazily(__name__, _HOME)
