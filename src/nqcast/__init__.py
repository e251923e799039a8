"""nqcast: calibrated quantile forecasts of NASDAQ-100 futures returns.

`nqcast.load("data/06_models/checkpoint").forecast(bars)` forecasts from the newest bars on.
"""

from nqcast.lazy import lazily

__version__ = "0.1.0"

__getattr__ = lazily(__name__, {"load": "forecast.loading"})
