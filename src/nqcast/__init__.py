"""nqcast: calibrated quantile forecasts of NASDAQ-100 futures returns."""

__version__ = "0.1.0"
