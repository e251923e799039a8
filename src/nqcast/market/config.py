"""Parameters of ingest: what a vendor file must hold, what is refused, how contracts are joined."""

from __future__ import annotations

import math
from datetime import date, time
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from nqcast.constants import BAR_MINUTES
from nqcast.fields import Configuration, changed, require
from nqcast.market.instruments import Instrument, instrument
from nqcast.spacing import BarMinutes, Spacing

if TYPE_CHECKING:
    from nqcast.storage.json_values import Json

SOURCE_SPACINGS = (1, 5)
"""Bar spacings taken from a vendor, in minutes."""


def zone_and_hours(text: str) -> tuple[str, int]:
    """A zone's name and the hours that clocks are ahead of it: America/New_York+7 is how many brokers' servers run.

    Raises ValueError where the zone does not exist.
    """
    from zoneinfo import ZoneInfo

    name, _, hours = text.rpartition("+")
    if text.startswith("Etc/") or not hours.isdigit() or not name:
        name, hours = text, "0"
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"expected the name of a time zone such as America/Chicago or UTC, found {text!r}") from error
    return name, int(hours)


class IngestConfig(Configuration):
    """How raw vendor bars become the grid of each session; every default is the safe choice."""

    instrument: Instrument = Field(
        default_factory=lambda: instrument("NQ"),
        description="Row of the table of instruments: calendar, halts, contract months; a name or a row.",
    )
    bar_minutes: BarMinutes = Field(
        BAR_MINUTES,
        exclude_if=lambda minutes: minutes == BAR_MINUTES,
        description="How far the bars of the grid stand apart (minutes); the run sets it.",
    )
    volume: bool = Field(True, description="Whether the file must have a volume column; false writes volume 0.")
    naive_timezone: str | None = Field(
        None,
        description="Zone of time stamps that carry none, such as America/Chicago, or America/New_York+7 for clocks "
        "seven hours ahead of it; none makes them an error.",
    )
    stamps: Literal["start", "end"] = Field(
        "start", description="Which end of a bar its time stamp marks; end moves stamps back by one bar."
    )
    tick: float = Field(0.25, gt=0, description="Price tick in points; prices off it are counted, not refused.")
    max_off_tick_share: float = Field(
        0.01, ge=0, le=1, description="Share of source bars off the tick above which the report doubts the prices."
    )
    zero_volume: Literal["drop", "quarantine", "keep"] = Field(
        "drop", description="Flat bars of volume 0, with which vendors fill minutes without a trade."
    )
    mixed_spacing: Literal["stop", "newest"] = Field(
        "stop",
        description="A file whose bars are 1-minute in one part and 5-minute in another; newest takes the last part.",
    )
    continuous: Literal["unadjusted", "adjusted"] = Field(
        "unadjusted",
        description="Series without contracts: jumps in the weeks of rolls are left out of features, or taken as moves "
        "where the vendor has adjusted them.",
    )
    print_multiple: float = Field(
        30.0,
        gt=1,
        description="A price that leaves the bars around it and comes back at once, as a multiple of the volatility of "
        "its hour, from which on its bar is quarantined.",
    )
    stale_bars: int = Field(
        30,
        ge=2,
        description="Repetitions in a row of one bar, equal in prices and volume, from which on they are quarantined.",
    )
    level_jump: float = Field(
        0.001, gt=0, description="Least jump to another contract's level and back, in log return, that is looked for."
    )
    level_jump_multiple: float = Field(
        8.0,
        gt=0,
        description="Such a jump as a multiple of the median absolute return of its hour and day; down to half of it "
        "where trade is all the thinner.",
    )
    level_stretch_bars: int = Field(
        10, ge=2, description="Fewest bars between the two jumps that make another contract's stretch."
    )
    level_stretch_days: float = Field(8.0, gt=0, description="Longest such stretch (days).")
    thin_share: float = Field(
        0.25, gt=0, le=1, description="Volume of such a stretch, as a share of what is usual at its hours, below which "
        "its rows are quarantined.",
    )  # fmt: skip
    volume_unit_multiple: float = Field(
        50.0, gt=1, description="Change of volume between five sessions and the next five that is a change of unit."
    )
    doubtful: Literal["stop", "warn"] = Field(
        "stop", description="What a file that looks wrong as a whole meets: end stamps, a change of the volume's unit."
    )
    min_rows: int = Field(300, ge=1, description="Fewest usable source bars; below it ingest stops.")
    max_quarantined_share: float = Field(
        0.01, ge=0, le=1, description="Largest share of source bars that may be quarantined before ingest stops."
    )
    max_question_share: float = Field(
        0.025,
        ge=0,
        le=1,
        description="Largest share of source bars in long runs outside the calendar before ingest stops: "
        "a time zone wrong by one hour gives about 0.04.",
    )
    question_minutes: int = Field(
        5, ge=2, description="Consecutive minutes outside the calendar that make a question instead of strays."
    )
    session_closes: dict[date, time] = Field(
        default_factory=dict,
        description="Answers to questions to the calendar: trading date to its close, exchange time.",
    )
    overlap_hours: float = Field(
        24.0, gt=0, description="Hours before the last common bar over which the roll factor is measured."
    )
    overlap_max_age_days: float = Field(
        7.0, gt=0, description="Oldest common bar, in days before the roll, from which a factor is still taken."
    )
    end_confirmation_minutes: int = Field(
        60, ge=0, description="Minutes the next contract must be seen after the old one's last bar to call it ended."
    )
    jump_multiple: float = Field(
        8.0, gt=0, description="Contracts unknown: opening gaps above this multiple of their median are listed."
    )
    missing_stretch_minutes: int = Field(
        30, ge=5, description="Shortest stretch without a trade, in minutes, that the data report lists."
    )

    @property
    def spacing(self) -> Spacing:
        """The spacing of the grid."""
        return Spacing(self.bar_minutes)

    def at(self, spacing: Spacing) -> IngestConfig:
        """These settings for a grid of this spacing; ValueError where another one was asked for."""
        if "bar_minutes" in self.model_fields_set and self.spacing != spacing:
            raise ValueError(
                f"expected bar_minutes={spacing.minutes}, as what is there has it, found {self.bar_minutes}: leave it "
                "out, or ingest and train anew"
            )
        return changed(self, {"bar_minutes": spacing.minutes})

    def of_product(self, instrument: Json | None = None, tick: float | None = None, **words: str) -> IngestConfig:
        """These settings for what is made of this row's product by this tick; `words` are `nqcast.fields.require`'s.

        Raises:
            ValueError: another product or tick was asked for.
        """
        chosen, row = self.model_fields_set, Instrument(**instrument) if instrument else self.instrument
        require("instrument", row.symbol, self.instrument.symbol if "instrument" in chosen else row.symbol, **words)
        tick = tick or (self.tick if "tick" in chosen else row.tick)
        if not math.isclose(tick, self.tick, rel_tol=1e-6):  # that of a checkpoint was read from its features
            require("ingest.tick", tick, self.tick if "tick" in chosen else tick, **words)
        return changed(self, {"instrument": row, "tick": tick})

    @field_validator("naive_timezone")
    @classmethod
    def _zone_exists(cls, zone: str | None) -> str | None:
        if zone is not None:
            zone_and_hours(zone)
        return zone

    @field_validator("instrument", mode="before")
    @classmethod
    def _by_name(cls, value: object) -> object:
        return instrument(value) if isinstance(value, str) else value
