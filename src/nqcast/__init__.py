"""nqcast: calibrated quantile forecasts of NASDAQ-100 futures returns.

`nqcast.load("data/06_models/checkpoint").forecast(bars)` forecasts from the newest bars on.
"""

import os

from nqcast.lazy import lazily

# Read by OpenMP when torch loads. Threads that spin while they wait take the cores from those that work: on a machine
# that does something else besides, training is then several times slower (docs/speed.md).
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Read by MLflow as it is imported: it would else make itself an identity in the user's home and open its telemetry.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

__version__ = "0.1.0"

__all__, __getattr__ = lazily(__name__, **{"forecast.loading": "load"})
