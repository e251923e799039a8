"""Settings of experiment tracking."""

from typing import Literal

from pydantic import Field

from nqcast.fields import Configuration, changed

Promote = Literal["never", "validation", "walk_forward", "always"]


class TrackingConfig(Configuration):
    """Whether and where a run is tracked; the variable MLFLOW_TRACKING_URI wins over `uri`."""

    enabled: bool = Field(default=True, description="Track runs in MLflow; false writes nothing.")
    experiment: str | None = Field(
        default=None,
        min_length=1,
        max_length=500,  # MLflow's own bound: it would refuse the run for good
        description="MLflow experiment of the runs; null is nqcast, with another environment nqcast_ENV.",
    )
    uri: str | None = Field(
        default=None,
        description="MLflow tracking URI; null is a SQLite file in the data folder (09_tracking/mlflow.db).",
    )
    request_timeout: float = Field(default=2.0, gt=0, le=60, description="Longest wait for one answer, in seconds.")
    poll_interval: float = Field(default=0.5, gt=0, le=60, description="Pause between two looks for news, in seconds.")
    final_wait: float = Field(
        default=2.5, ge=0, le=60, description="Longest wait for the last news to arrive when a run ends, in seconds."
    )
    register_model: bool = Field(
        default=True, description="Register the checkpoint and its calibration as an MLflow model when train ends."
    )
    registered_model: str | None = Field(
        default=None,
        min_length=1,
        max_length=256,
        description="Name in MLflow's model registry; null is nqcast, with another environment nqcast_ENV.",
    )
    promote: Promote = Field(
        default="validation",
        description="When a version becomes the champion: its loss is lower on the same validation anchors, or its "
        "recipe's on the same out-of-sample anchors of the walk-forward; the test split has no say.",
    )
    curves: tuple[str, ...] = Field(
        default=(
            *("train_loss", "val_loss", "val_loss_returns", "learning_rate", "epoch", "picp_50", "picp_80"),
            *("crossing_rate", "skipped_steps", "skill_constants*", "skill_seasonal_har*"),
        ),
        description="Metrics that are sent of every epoch, by patterns of names; metrics.jsonl holds all.",
    )
    system_metrics: bool = Field(
        default=True, description="Also send memory and load of this process, of the machine and of its GPUs."
    )
    system_interval: float = Field(
        default=10.0, gt=0, le=3600, description="Pause between two samples of the system metrics, in seconds."
    )
    tensorboard: bool = Field(
        default=False, description="Also write the metrics for TensorBoard, below 09_tracking/tensorboard."
    )

    def named(self, env: str | None) -> "TrackingConfig":
        """These settings, with the names that are null set to those of a Kedro environment."""
        own = "nqcast" if env in (None, "", "base", "local") else f"nqcast_{env}"
        names = {"experiment": self.experiment or own, "registered_model": self.registered_model or own}
        return changed(self, names)
