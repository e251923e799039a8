"""Forecasts from now: the newest bars and a checkpoint in, quantiles of returns and prices out.

Names are loaded on first use, so that `nqcast.forecast.config` can be imported without torch.
"""

from nqcast.lazy import lazily

__all__, __getattr__ = lazily(
    __name__,
    config="ForecastConfig",
    freshness="ForecastRefusedError",
    forecaster="Forecaster",
    loading="load",
    page="forecast_page",
)
