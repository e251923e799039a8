"""A forecast that was made from now, with what it was made from."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Issued:
    """A forecast and what it was made from.

    forecast: one row per horizon and level (see `Forecaster.forecast`); recent: ts, raw_close and traded of the bars
    before it; session_close and newest (end of the newest bar), both UTC; calibrated: whether offsets were applied;
    short_of: how many sessions were known where the scale looks back further, 0 where it knew all;
    paths: `config.paths` joint paths, a row per path and horizon (path, horizon, target_time, log_return, price).
    """

    forecast: pd.DataFrame
    recent: pd.DataFrame
    session_close: pd.Timestamp
    newest: pd.Timestamp
    calibrated: bool
    paths: pd.DataFrame
    short_of: int = 0

    def notes(self) -> dict[str, str]:
        """From which bar it speaks, where that is not the newest one of the last hour: by `close` or `age`."""
        issue_time = self.forecast["issue_time"].iloc[0]
        notes = {}
        if self.newest > issue_time:
            notes["close"] = (
                f"The bars end at {self.newest:%Y-%m-%d %H:%M} UTC, too near the close: the forecast is the last one "
                "of that session with every horizon."
            )
        age = pd.Timestamp.now(tz="UTC") - issue_time
        if age > pd.Timedelta(hours=1):
            old = f"{age.days:,} days" if age.days > 1 else f"{age // pd.Timedelta(hours=1)} hours"
            notes["age"] = f"Issued {old} ago: history, not the market (forecast.max_age_minutes refuses old bars)."
        return notes
