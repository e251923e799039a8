"""Parameters of work on many symbols."""

from pydantic import BaseModel, ConfigDict, Field


class PartitionsConfig(BaseModel):
    """Who builds the partitions, and how many at a time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scheduler: str = Field(
        default="processes",
        pattern=r"^(processes|dask://[^/\s:]+:\d+)$",
        description="processes: on this machine; dask://HOST:PORT: on the cluster of that scheduler, whose workers "
        "have this package and see the files under the same paths.",
    )
    workers: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Processes of this machine (count), each with one symbol in memory: about 0.5 GB per million "
        "one-minute bars. None: one per core. On a cluster the cluster's workers count.",
    )
