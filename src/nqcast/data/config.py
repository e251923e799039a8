"""What the data layer is asked for: the configuration models."""

import datetime as dt
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from nqcast.constants import CONTEXT, WARMUP_BARS
from nqcast.fields import Configuration

if TYPE_CHECKING:
    import pandas as pd


KINDS = ("fomc", "employment", "cpi")
"""Announcements of the shipped list."""


def is_file(kind: str) -> bool:
    """Whether a kind of announcement is a file of the user's own."""
    return kind.endswith(".csv")


def inside_the_project(files: Sequence[str]) -> None:
    """Raise ValueError for paths that lead out of the project's folder."""
    outside = [file for file in files if Path(file).is_absolute() or ".." in Path(file).parts]
    if outside:
        raise ValueError(
            f"expected files inside the project, as paths from its folder, found {outside}: move them there"
        )


class FeaturesConfig(Configuration):
    """How features are computed from bars."""

    volume: bool | Literal["auto"] = Field(
        default=True,
        description="Use volume; without it log_volume, amihud and volume_ma_ratio are 0; auto = where a file has it.",
    )

    def has_volume(self, bars: "pd.DataFrame") -> bool:
        """Whether `bars` are to be used with their volume."""
        return ("volume" in bars and bool((bars["volume"] > 0).any())) if self.volume == "auto" else self.volume

    tick: float = Field(
        default=0.25, gt=0, description="Smallest price step, in index points; half of it floors the logs."
    )
    own: tuple[str, ...] = Field(
        default=(),
        description="Python files of features of your own, one function each, inside the project. A list, or text such "
        "as mine/one.py+mine/two.py. They are code, and are run. es=FILE gives two of another market's bars.",
    )

    @field_validator("own", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        """`--params` takes no lists, since Kedro splits at commas."""
        return [file for file in value.split("+") if file] if isinstance(value, str) else value

    @field_validator("own")
    @classmethod
    def _inside(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        code = [file for file in files if "=" not in file]
        if other := [file for file in code if not file.endswith(".py")]:
            raise ValueError(f"expected Python files, or another market's bars as es=FILE, found {other}: name them so")
        inside_the_project(code)
        return files


class SplitConfig(Configuration):
    """Which anchors belong to train, validation and test: by fraction of the sessions, or by trading dates."""

    train: float = Field(
        default=0.70, gt=0, lt=1, description="Share of the sessions that train, where no dates are given."
    )
    validation: float = Field(default=0.15, gt=0, lt=1, description="Share of the sessions that validate.")
    test: float = Field(default=0.15, gt=0, lt=1, description="Share of the sessions that test.")
    train_start: dt.date | None = Field(
        default=None, description="First trading date of train (None: the first there is)."
    )
    validation_start: dt.date | None = Field(default=None, description="First trading date of validation.")
    test_start: dt.date | None = Field(default=None, description="First trading date of test.")
    test_end: dt.date | None = Field(default=None, description="Last trading date of test (None: the last there is).")
    context: int = Field(
        default=CONTEXT, ge=1, description="Bars (of five minutes) in a window; an anchor needs a full one."
    )
    embargo_bars: int = Field(
        default=CONTEXT,
        ge=0,
        description="A split ends where its labels end at least this many bars (of five minutes) before the first "
        "anchor of the next split; at least `context`.",
    )
    warmup_bars: int = Field(
        default=WARMUP_BARS, ge=0, description="Grid bars (of five minutes) before the first anchor."
    )

    @property
    def by_date(self) -> bool:
        """Whether trading dates, not fractions, divide the sessions."""
        return self.validation_start is not None or self.test_start is not None

    @model_validator(mode="after")
    def _consistent(self) -> "SplitConfig":
        total = self.train + self.validation + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"expected train, validation and test to sum to 1, found {total:g}: change the fractions")
        if self.embargo_bars < self.context:
            raise ValueError(
                f"expected embargo_bars of at least the context of {self.context}, so that no window holds bars of the "
                f"split before, found {self.embargo_bars}: raise embargo_bars"
            )
        if self.by_date and (self.validation_start is None or self.test_start is None):
            raise ValueError("expected validation_start and test_start to split by dates, found one of them: give both")
        given = [day for day in (self.train_start, self.validation_start, self.test_start) if day is not None]
        if any(later <= day for day, later in pairwise(given)):
            raise ValueError(f"expected split dates in time order, found {[str(day) for day in given]}: reorder them")
        if self.test_end and given and self.test_end < given[-1]:
            raise ValueError(f"expected test_end not to be before {given[-1]}, found {self.test_end}: move it")
        return self


class ScaleConfig(Configuration):
    """The classical volatility model under the network, and its quantiles."""

    kind: Literal["seasonal_har", "constant"] = Field(
        default="seasonal_har", description="`constant` switches the scale off."
    )
    predictors: Literal["realized", "returns", "ewma12", "none"] = Field(
        default="realized",
        description="Predictors beside the time of day: realized variance and range, returns of bars only, one "
        "average of squared returns (half-life an hour), or none.",
    )
    realized_half_lives: tuple[float, ...] = Field(
        default=(1, 3, 12, 48, 276, 1380),
        description="Half-lives of the averages of realized variance, in bars of five minutes.",
    )
    range_half_lives: tuple[float, ...] = Field(
        default=(3, 12, 276),
        description="Half-lives of the averages of the squared log range, in bars of five minutes.",
    )
    return_half_lives: tuple[float, ...] = Field(
        default=(1380, 5520),
        description="Half-lives of the averages of squared returns of a bar, in bars of five minutes.",
    )
    log_offset: float = Field(
        default=0.03, gt=0, le=1, description="Added to each average (whose mean is about 1) before its logarithm."
    )
    ridge: float = Field(default=0.02, ge=0, description="Penalty on the squared coefficients, per observation.")
    floor: float = Field(default=1e-5, gt=0, description="Smallest scale, as a return.")
    announcements: tuple[str, ...] = Field(
        default=(),
        description="Scheduled announcements that the network knows of: whether each horizon holds one. A list, or "
        "text such as fomc+employment, or none; a CSV file of your own (date, time in New York, kind) inside the "
        "project is one more kind. The scale itself does not look at them.",
    )
    long_memory: bool | Literal["auto"] = Field(
        default=False,
        description="Tell the network of the months before and the clock ahead too: signed returns, drawdowns, the "
        "session so far and more (nqcast.data.long_memory); auto = from some two years of sessions on. The scale "
        "itself does not look at them.",
    )
    memory_reach: int = Field(
        default=120,
        ge=1,
        le=120,
        description="Sessions over which the longest sums, averages and places of long_memory go.",
    )
    rolling_quantiles: bool = Field(default=False, description="Take the unit quantiles from the latest sessions.")
    rolling_sessions: int = Field(default=80, ge=1, description="Sessions in the rolling table of unit quantiles.")
    rolling_weight: float = Field(
        default=0.5, ge=0, le=1, description="Share of the rolling table; the rest is that of all train anchors."
    )

    @field_validator("announcements", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        """`--params` takes no lists, since Kedro splits at commas."""
        return [kind for kind in value.split("+") if kind != "none"] if isinstance(value, str) else value

    @field_validator("announcements")
    @classmethod
    def _listed(cls, kinds: tuple[str, ...]) -> tuple[str, ...]:
        """Kinds of the shipped list, or files inside the project that hold events."""
        files = [kind for kind in kinds if is_file(kind)]
        unknown = sorted(set(kinds) - set(files) - set(KINDS))
        if unknown:
            raise ValueError(f"expected {', '.join(KINDS)} or CSV files of your own, found {unknown}: name these")
        inside_the_project(files)
        return kinds

    @property
    def event_files(self) -> list[str]:
        """The user's own files among the announcements."""
        return [kind for kind in self.announcements if is_file(kind)]

    @model_validator(mode="after")
    def _consistent(self) -> "ScaleConfig":
        if (self.announcements or self.long_memory) and self.kind == "constant":
            raise ValueError(
                "expected kind=seasonal_har with announcements or long memory, which its predictors carry, found "
                f"{self.announcements or 'long_memory'} with kind=constant: leave them out"
            )
        return self


class LoaderConfig(Configuration):
    """How the data module hands out windows."""

    context: int | None = Field(default=None, ge=1, description="Rows in a window (None: those of a day).")
    seed: int = Field(default=0, ge=0, description="Seed of the order of the training windows.")
    windows_per_epoch: int | None = Field(
        default=None, ge=1, description="Training anchors drawn at random per epoch (None: all of them)."
    )
    volatility: bool = Field(
        default=False, description="Also hand out the scale's own predictors, for a model that takes them."
    )
    device: str = Field(default="cpu", description="Where the table lives: any torch device.")
