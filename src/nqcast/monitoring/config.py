"""Parameters of monitoring; imports neither torch nor matplotlib."""

from pydantic import Field

from nqcast.fields import Configuration


class MonitorConfig(Configuration):
    """Which sessions are judged, and how rarely data of the same distribution may cross a limit."""

    sessions: int = Field(
        default=20,
        ge=2,
        le=1000,
        description="Newest sessions that are judged together (count); fewer where fewer came.",
    )
    shown_sessions: int = Field(
        default=120, ge=2, le=5000, description="Newest sessions whose rolling figures are drawn (count)."
    )
    false_alarms: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="Share of runs on data of the same distribution that may cross any limit; a third goes to "
        "each of feature drift, coverage and skill (probability).",
    )
    bins: int = Field(default=10, ge=4, le=50, description="Equally filled bins of each feature in training (count).")
    mean_block: float = Field(
        default=10.0, ge=1, le=250, description="Mean length of a bootstrap block of coverage and skill (sessions)."
    )
    draws: int = Field(default=2000, ge=200, le=100_000, description="Draws of that bootstrap (count).")
    seed: int = Field(default=0, ge=0, description="Seed of the bootstrap.")
