"""The model as MLflow serves it: raw bars in, quantiles of returns and prices out.

MLflow copies this file and runs it to load the model (models from code), so that nothing is pickled.
"""

from typing import Any

import mlflow
import pandas as pd


class ServedForecaster(mlflow.pyfunc.PythonModel):
    """`nqcast.load(folder).forecast(bars)` behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Read and verify the checkpoint and the calibration beside it."""
        import nqcast

        self.forecaster = nqcast.load(context.artifacts["forecaster"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row per horizon and level from the newest bar on; what JSON cannot hold as text (times) or null (NaN)."""
        bars = model_input.dropna(axis="columns", how="all")
        forecast = self.forecaster.forecast(bars)
        for name in ("issue_time", "target_time"):
            forecast[name] = forecast[name].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        empty = forecast.columns[forecast.isna().any()]
        return forecast.astype(dict.fromkeys(empty, object)).where(forecast.notna(), None)


mlflow.models.set_model(ServedForecaster())
