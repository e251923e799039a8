"""A small market and the ways in which vendors' files of it deceive; what each must end in."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nqcast.market.calendar import nanoseconds
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate

PRICES = ["open", "high", "low", "close"]
NAMES = ["ts", *PRICES, "volume"]
Write = Callable[[pd.DataFrame, Path], Path]


@cache
def _simulated(start: date, sessions: int, seed: int = 5) -> pd.DataFrame:
    return simulate(SimulationConfig(start=start, sessions=sessions, seed=seed, stray_bars_per_week=0.0))


def market(start: date = date(2016, 2, 22), sessions: int = 5) -> pd.DataFrame:
    """One contract's minutes, without its text."""
    raw = _simulated(start, sessions)
    return raw[raw["contract"] == raw["contract"].iloc[0]][NAMES].reset_index(drop=True)


def _another() -> pd.DataFrame:
    """Minutes of another product at the same level."""
    raw = _simulated(date(2016, 2, 22), 5, 9)
    return raw[raw["contract"] == raw["contract"].iloc[0]][NAMES].reset_index(drop=True)


def two_contracts() -> pd.DataFrame:
    """Two weeks around a roll: ts, prices, volume and contract (YYYYMM)."""
    return _simulated(date(2016, 3, 7), 10, 3).reset_index(drop=True)


def five_minute(raw: pd.DataFrame, minutes: int = 5) -> pd.DataFrame:
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    return raw.groupby(raw["ts"].dt.floor(f"{minutes}min")).agg(rules).reset_index()


def local(raw: pd.DataFrame, zone: str = "America/Chicago") -> pd.Series:
    return raw["ts"].dt.tz_convert(zone).dt.tz_localize(None)


def as_csv(frame: pd.DataFrame, folder: Path, name: str = "bars.csv", **options: Any) -> Path:
    frame.to_csv(folder / name, **{"index": False, **options})
    return folder / name


@dataclass(frozen=True)
class Case:
    """A way of writing a market to a file, the parameters it needs, and its end: equal bars, a reason, or an error."""

    write: Write
    config: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    quarantine: dict[str, int] = field(default_factory=dict)
    raw: Callable[[], pd.DataFrame] = market
    notes: str = ""


def _text(frame: Callable[[pd.DataFrame], pd.DataFrame], **options: Any) -> Write:
    return lambda raw, folder: as_csv(frame(raw), folder, **options)


def _stamped(stamps: Callable[[pd.DataFrame], pd.Series], name: str = "ts", **options: Any) -> Write:
    return _text(lambda raw: raw.assign(ts=stamps(raw)).rename(columns={"ts": name}), **options)


def _lines(change: Callable[[list[str]], list[str]]) -> Write:
    def write(raw: pd.DataFrame, folder: Path) -> Path:
        path = as_csv(raw, folder)
        path.write_text("\n".join(change(path.read_text().splitlines())))
        return path

    return write


def _with_line(line: str, at: int | None = None) -> Write:
    return _lines(lambda lines: [*lines[:at], line, *(lines[at:] if at is not None else [])])


def _named_files(*names: str) -> Write:
    """A file for each contract, which its name alone tells."""

    def write(raw: pd.DataFrame, folder: Path) -> Path:
        (folder / "contracts").mkdir()
        for name, (_, part) in zip(names, raw.groupby("contract"), strict=True):
            as_csv(part.drop(columns="contract"), folder / "contracts", name)
        return folder / "contracts"

    return write


def _with_far_contract(raw: pd.DataFrame) -> pd.DataFrame:
    far = raw[raw["contract"] == "201606"].iloc[::40]
    far = far.assign(contract="201609", volume=1, **{name: far[name] - 6.25 for name in PRICES})
    both = pd.concat([raw, far]).sort_values("ts", kind="stable")
    return _renamed(both, {"201603": 7002, "201606": 7001, "201609": 7000}, "instrument_id")


def _written(folder: Path, text: str) -> Path:
    (folder / "bars.csv").write_text(text)
    return folder / "bars.csv"


def _cut(ending: str) -> Write:
    def write(raw: pd.DataFrame, folder: Path) -> Path:
        path = as_csv(raw, folder, f"bars.csv{ending}")
        path.write_bytes(path.read_bytes()[:-4000])
        return path

    return write


def _locked(raw: pd.DataFrame, folder: Path) -> Path:
    """A zip whose flag says that its file is encrypted."""
    with zipfile.ZipFile(folder / "bars.zip", "w") as archive:
        archive.writestr("bars.csv", raw.to_csv(index=False))
    content = bytearray((folder / "bars.zip").read_bytes())
    for mark, flag in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + flag] |= 1
    (folder / "bars.zip").write_bytes(content)
    return folder / "bars.zip"


def _zip(raw: pd.DataFrame, folder: Path) -> Path:
    with zipfile.ZipFile(folder / "bars.zip", "w") as archive:
        for name, part in (("NQ_H16.txt", raw.head(3000)), ("NQ_M16.txt", raw.tail(3000))):
            archive.writestr(name, part.to_csv(index=False))
    return folder / "bars.zip"


def _daily(raw: pd.DataFrame, folder: Path) -> Path:
    (folder / "days").mkdir()
    for day, part in raw.groupby(raw["ts"].dt.date):
        part.to_parquet(folder / "days" / f"{day}.parquet")
    return folder / "days"


def _described(raw: pd.DataFrame, folder: Path) -> Path:
    (_daily(raw, folder) / "README.txt").write_text("Bars of the front contract.\nOne file a day.\n")
    return folder / "days"


def _two_formats(raw: pd.DataFrame, folder: Path) -> Path:
    (folder / "both").mkdir()
    raw[raw["ts"] < "2016-02-25"].to_csv(folder / "both" / "a.csv", index=False)
    raw[raw["ts"] >= "2016-02-24"].to_parquet(folder / "both" / "b.parquet")
    return folder / "both"


def _spike(factor: float, columns: list[str], rows: int = 1, begin: int = 4000) -> Write:
    def write(raw: pd.DataFrame, folder: Path) -> Path:
        spoilt, at = raw.copy(), raw.index[begin:][:rows]
        spoilt.loc[at, columns] = (spoilt.loc[at, columns] * factor).round()
        return as_csv(spoilt, folder)

    return write


def _heikin_ashi(raw: pd.DataFrame) -> pd.DataFrame:
    close, opens = raw[PRICES].mean(axis=1), [float(raw["open"].iloc[0])]
    for each in close[:-1]:
        opens.append((opens[-1] + each) / 2)
    made = raw.assign(open=opens, close=close)
    return made.assign(high=made[PRICES].max(axis=1), low=made[PRICES].min(axis=1))


def _windows(raw: pd.DataFrame, bars: int) -> pd.DataFrame:
    """Windows of so many bars, one written at each bar."""
    rows = raw.set_index("ts")
    rolled = {"high": rows["high"].rolling(bars).max(), "low": rows["low"].rolling(bars).min(), "close": rows["close"]}
    opens, volume = rows["open"].shift(bars - 1), rows["volume"].rolling(bars).sum()
    return pd.DataFrame({"open": opens, **rolled, "volume": volume}).dropna().astype({"volume": int}).reset_index()


def _at_another_level(raw: pd.DataFrame, begin: str, factor: float) -> pd.DataFrame:
    late = raw["ts"] >= begin
    return raw.assign(**{name: raw[name].mask(late, (raw[name] * factor * 4).round() / 4) for name in PRICES})


def _two_levels(raw: pd.DataFrame, folder: Path) -> Path:
    return _daily(_at_another_level(raw, "2016-02-25", 0.95), folder)


def _part(part: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Write:
    """A file of which one day, or the nights, are changed."""

    def changed(raw: pd.DataFrame) -> pd.DataFrame:
        minute = local(raw).dt.hour * 60 + local(raw).dt.minute
        night = (minute < 510) | (minute >= 1020)
        rows = {"day": raw["ts"].between("2016-02-23 23:00", "2016-02-24 22:00"), "nights": night}[part]
        return change(raw).where(rows, raw)

    return _text(changed)


def _exchanged(raw: pd.DataFrame) -> pd.DataFrame:
    return raw.assign(open=raw["close"], close=raw["open"])


def _closes(raw: pd.DataFrame) -> pd.DataFrame:
    return raw.assign(**dict.fromkeys(PRICES, raw["close"]))


def _opens_of(bars: int) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Opens of the bar after (-1) or before (1), each inside its bar's range."""

    def change(raw: pd.DataFrame) -> pd.DataFrame:
        made = raw.assign(open=raw["open"].shift(bars).fillna(raw["open"]))
        return made.assign(high=made[PRICES].max(axis=1), low=made[PRICES].min(axis=1))

    return change


def _times(factor: float) -> Write:
    return _text(lambda raw: raw.assign(**{name: raw[name] * factor for name in PRICES}))


def _ended(begin: str) -> Write:
    return _stamped(lambda raw: raw["ts"] + pd.to_timedelta((raw["ts"] >= begin).astype(int), unit="min"))


def _at_24(raw: pd.DataFrame) -> pd.Series:
    return (raw["ts"] - pd.Timedelta(days=1)).dt.strftime("%Y-%m-%d 24:00")


def _day_session(raw: pd.DataFrame) -> pd.DataFrame:
    minute = local(raw).dt.hour * 60 + local(raw).dt.minute
    return raw[(minute >= 510) & (minute < 900)].reset_index(drop=True)


def _resampled(raw: pd.DataFrame) -> pd.DataFrame:
    grid = raw.set_index("ts").resample("1min").first()
    return grid.assign(volume=grid["volume"].fillna(0)).reset_index()


def _filled(raw: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Every minute, with some of the columns as they were in the minute before."""
    grid = raw.set_index("ts").resample("1min").first()
    grid[columns] = grid[columns].ffill()
    return grid.reset_index()


def _two_products(
    raw: pd.DataFrame, names: tuple[str, str], column: str = "symbol", other: pd.DataFrame | None = None
) -> pd.DataFrame:
    if other is None:
        other = raw.assign(**{name: (raw[name] * 0.4444 * 4).round() / 4 for name in PRICES})
    both = pd.concat([raw.assign(**{column: names[0]}), other.assign(**{column: names[1]}, volume=other["volume"] * 5)])
    return both.sort_values("ts", kind="stable")


def _renamed(raw: pd.DataFrame, names: dict[str, Any], column: str = "symbol") -> pd.DataFrame:
    """Two contracts under other names, the later one first where stamps are equal."""
    renamed = raw.assign(**{column: raw["contract"].map(names)}).drop(columns="contract")
    return renamed.sort_values(["ts", column], ascending=[True, False], kind="stable")


def _yfinance(raw: pd.DataFrame, folder: Path) -> Path:
    order = ["close", "high", "low", "open", "volume"]
    rows = [["Price", *(name.title() for name in order)], ["Ticker", *["NQ=F"] * 5], ["Datetime", *[""] * 5]]
    body = raw.assign(ts=raw["ts"].astype(str))[["ts", *order]].astype(str).to_numpy().tolist()
    path = folder / "bars.csv"
    path.write_text("\n".join(",".join(row) for row in rows + body))
    return path


def _mixed(raw: pd.DataFrame, stop: str, begin: str = "2000") -> pd.DataFrame:
    early = (raw["ts"] < stop) & (raw["ts"] >= begin)
    return pd.concat([five_minute(raw[early]), raw[~early]], ignore_index=True).sort_values("ts")


def older(raw: pd.DataFrame, minutes: int, until: str = "2016-02-23 23:00") -> pd.DataFrame:
    """Bars of so many minutes, then those of the file."""
    early = raw["ts"] < until
    return pd.concat([five_minute(raw[early], minutes), raw[~early]], ignore_index=True)


def _days_first(raw: pd.DataFrame) -> pd.DataFrame:
    days = pd.bdate_range("2015-02-02", "2016-02-19", tz="UTC")
    close = (4500 * np.exp(0.01 * np.sin(np.arange(len(days)))) * 4).round() / 4
    bars = pd.DataFrame({"ts": days, "open": close, "high": close + 10, "low": close - 10, "close": close})
    return pd.concat([bars.assign(volume=250_000), raw], ignore_index=True)


def hours(raw: pd.DataFrame, begin: str, end: str) -> pd.DataFrame:
    """Bars of a part of the day in exchange time, which may go over midnight."""
    clock = local(raw).dt.strftime("%H:%M")
    inside = (clock >= begin) & (clock < end) if begin < end else (clock >= begin) | (clock < end)
    return raw[inside].reset_index(drop=True)


def _in_new_york(raw: pd.DataFrame) -> pd.DataFrame:
    return raw.assign(ts=local(raw, "America/New_York"))


def _cumulative(raw: pd.DataFrame) -> pd.DataFrame:
    session = (raw["ts"] + pd.Timedelta(hours=1)).dt.date  # 17:00 Chicago is 23:00 UTC in winter
    return raw.assign(volume=raw.groupby(session)["volume"].cumsum())


CHICAGO, NEW_YORK, UTC = ({"naive_timezone": zone} for zone in ("America/Chicago", "America/New_York", "UTC"))
AUTUMN = lambda: market(date(2016, 10, 17), 25)  # noqa: E731
NO_LINE = "no bar: nothing in the line can be read"
SPIKE = "bad print: away from the bars around it, and back at once"

CASES: dict[str, Case] = {
    # 1. identity
    "A1 two continuous products": Case(
        _text(lambda raw: _two_products(raw, ("NQ=F", "ES=F"))), error="bars of one product, found contracts of ES, NQ"
    ),
    **{
        f"A1 a file of {symbol}": Case(
            _text(lambda raw, symbol=symbol: raw.assign(symbol=symbol)),
            error=f"found contracts of {symbol}, of which the table of instruments has no row",
        )
        for symbol in ("AAPL", "NDX")
    },
    **{
        f"A1 a file of {symbol}, as NQ is called too": Case(_text(lambda raw, symbol=symbol: raw.assign(symbol=symbol)))
        for symbol in ("US100", "ENQH6", "NQ100", "CONTINUOUS")
    },
    "A1 two products by number alone": Case(
        _text(lambda raw: _two_products(raw, ("7001", "7002"), "instrument_id")),
        error="two products|opens do not follow",
    ),
    "A1 two products that the names hide": Case(
        _text(lambda raw: _two_products(raw, ("NQ1!", "NQ2!"))), error="their order would be a guess"
    ),
    "B1 integers of 1e-9 without rtype": Case(
        _text(lambda raw: raw.assign(**{name: (raw[name] * 1e9).astype("int64") for name in PRICES})),
        error="price level: .*1e9",
    ),
    "B prices times 100": Case(
        _text(lambda raw: raw.assign(**{name: raw[name] * 100 for name in PRICES})), error="price (level|unit)"
    ),
    "B prices by 100": Case(
        _text(lambda raw: raw.assign(**{name: raw[name] / 100 for name in PRICES})), error="price level"
    ),
    "B3 volume summed up": Case(_text(_cumulative), error="volume only rises: volume never falls inside a session"),
    "B4 open and close exchanged": Case(
        _text(lambda raw: raw.rename(columns={"open": "close", "close": "open"})), error="opens do not follow closes"
    ),
    **{
        f"B {what} of {part}": Case(_part(part, change), error=error)
        for what, change, error in (
            ("open and close exchanged", _exchanged, "opens do not follow closes: from"),
            ("the close alone", _closes, "bars without a range: from 2016-02-2. to"),
            ("opens of the bar after", _opens_of(-1), "opens do not follow closes: from"),
            ("volume summed up", _cumulative, "volume only rises: from"),
        )
        for part in ("day", "nights")
    },
    "B opens of the bar after": Case(_text(_opens_of(-1)), error="opens do not follow closes"),
    "B opens of the bar before": Case(_text(_opens_of(1)), error="rolling windows|opens do not follow closes"),
    "B volume summed up by the hour": Case(
        _text(lambda raw: raw.assign(volume=raw.groupby(raw["ts"].dt.floor("h"))["volume"].cumsum())),
        error="volume only rises",
    ),
    "B volume times 100 from some day on": Case(
        _text(lambda raw: raw.assign(volume=raw["volume"].mask(raw["ts"] >= "2016-10-30", raw["volume"] * 100))),
        error="volume unit: from 2016-10-31 on volume is",
        raw=AUTUMN,
    ),
    "B minutes filled with the bar before and its volume": Case(
        _text(lambda raw: raw[raw.index % 40 != 7].reindex(raw.index).ffill().assign(ts=raw["ts"])),
        error="repeated bars: bars repeat the bar before and its volume",
    ),
    "B1 prices times two": Case(_times(2), error="price unit: prices move in steps of 0.5 only, 2 ticks"),
    "B1 prices times five": Case(_times(5), error="price unit: prices move in steps of 1.25 only, 5 ticks"),
    "B5 the close alone": Case(
        _text(lambda raw: raw.assign(open=raw["close"], high=raw["close"], low=raw["close"])),
        error="bars without a range: no high or low is beyond",
    ),
    "B high and low made from open and close": Case(
        _text(lambda raw: raw.assign(high=raw[["open", "close"]].max(axis=1), low=raw[["open", "close"]].min(axis=1))),
        error="no high or low is beyond",
    ),
    "B fractions of contracts": Case(
        _text(lambda raw: raw.assign(volume=raw["volume"] / 1000)), error="no whole numbers"
    ),
    "B prices in ticks": Case(
        _text(lambda raw: raw.assign(**{name: raw[name] * 4 for name in PRICES})), error="price unit: .*4 ticks"
    ),
    "A two products of one level by number alone": Case(
        _text(lambda raw: _two_products(raw, ("7001", "7002"), "instrument_id", _another())),
        error="two products: .* move apart by",
    ),
    "B opens that are closes": Case(_text(lambda raw: raw.assign(open=raw["close"])), error="bars without an open"),
    "B every fifth minute as five-minute bars": Case(
        _text(lambda raw: raw[raw["ts"].dt.minute % 5 == 0]), error="parts of bars: the moves between closes are larger"
    ),
    "B windows of five minutes at each minute": Case(_text(lambda raw: _windows(raw, 5)), error="rolling windows"),
    "B windows of five minutes that open at the last close": Case(
        _text(lambda raw: _windows(raw, 5).assign(open=lambda rows: rows["close"].shift(1).fillna(rows["open"]))),
        error="rolling windows: bars share highs and lows",
    ),
    "B windows of ten minutes at every fifth": Case(
        _text(lambda raw: _windows(five_minute(raw), 2)), error="rolling windows"
    ),
    "B one volume for all bars": Case(
        _text(lambda raw: raw.assign(volume=100)), error="volume unit: every bar has the volume of the bar before"
    ),
    "B one volume that cannot be": Case(
        _text(lambda raw: raw.assign(volume=raw["volume"].mask(raw.index == 4000, 10**12))),
        quarantine={"volume that no bar has": 1},
    ),
    "B another level from some minute on": Case(
        _text(lambda raw: _at_another_level(raw, "2016-02-25 15:00", 1.05)), error="jump of level: at 2016-02-25 15:00"
    ),
    "B another level after a weekend": Case(
        _text(lambda raw: _at_another_level(raw, "2016-10-30", 0.85)),
        error="jump of level: at 2016-10-30 22:00.* from 4,587.25 to",
        raw=lambda: market(date(2016, 10, 17), 25),
    ),
    "B another level in the next file of a folder": Case(_two_levels, error="jump of level: at 2016-02-25 00:00"),
    "B five-minute bars once for each minute": Case(
        _text(
            lambda raw: pd.concat([raw.assign(ts=raw["ts"] + pd.Timedelta(minutes=k)) for k in range(5)]).sort_values(
                "ts"
            )
        ),
        error="repeated bars",
        raw=lambda: five_minute(market()),
    ),
    # 3. clock
    "C stamps of the end from some day on": Case(
        _stamped(lambda raw: raw["ts"] + pd.to_timedelta((raw["ts"] >= "2016-10-27").astype(int), unit="min")),
        error="16 of 25 sessions have a bar stamped at their close.*first on 2016-10-28.*export the file anew",
        raw=AUTUMN,
    ),
    "C1 day session of New York declared Chicago": Case(
        _stamped(lambda raw: local(raw, "America/New_York")),
        CHICAGO,
        "they fit America/New_York",
        raw=lambda: _day_session(market()),
    ),
    "C1 day session of Chicago declared New York": Case(
        _stamped(local), NEW_YORK, "they fit America/Chicago", raw=lambda: _day_session(market())
    ),
    "C2 fixed EST declared New York": Case(
        _stamped(lambda raw: local(five_minute(raw), "Etc/GMT+5")),
        NEW_YORK,
        "fit Etc/GMT\\+5",
        raw=lambda: five_minute(AUTUMN()),
    ),
    "C2 New York declared fixed EST": Case(
        _stamped(lambda raw: local(raw, "America/New_York")),
        {"naive_timezone": "Etc/GMT+5"},
        "fit America/New_York",
        raw=lambda: five_minute(AUTUMN()),
    ),
    "C London's clock called UTC": Case(
        _stamped(lambda raw: local(raw, "Europe/London").dt.tz_localize("UTC")),
        error="fit Europe/London",
        raw=lambda: five_minute(market(date(2016, 6, 6), 10)),
    ),
    "C a broker's server seven hours ahead of New York": Case(
        _stamped(lambda raw: local(raw, "America/New_York") + pd.Timedelta(hours=7)),
        UTC,
        "fit America/New_York\\+7",
        raw=lambda: five_minute(AUTUMN()),
    ),
    **{
        f"A1 a column {name} that holds {held}, beside NQ": Case(
            _text(lambda raw, name=name, held=held: raw.assign(symbol="NQ", **{name: held}))
        )
        for name, held in {"leg": "ESH6", "next_contract": "NQM6"}.items()
    },
    **{
        f"A1 a note of NQH6, then {then or 'nothing'}": Case(
            _text(lambda raw, then=then: raw.assign(note=["NQH6", *[then] * (len(raw) - 1)]))
        )
        for then in ("", "NQM6 watched", "ESH6")
    },
    "C2 EST behind the stamps of summer": Case(
        _stamped(lambda raw: local(raw, "America/New_York").dt.strftime("%Y-%m-%d %H:%M EST")),
        error="fit America/New_York: set ingest.naive_timezone=America/New_York and write the stamps without a zone",
        raw=lambda: five_minute(market(date(2016, 6, 6), 10)),
    ),
    "C2 an offset behind the stamps of summer that is winter's": Case(
        _stamped(lambda raw: local(raw, "America/Chicago").dt.strftime("%Y-%m-%d %H:%M:%S-06:00")),
        error="fit America/Chicago: set ingest.naive_timezone=America/Chicago and write the stamps without a zone",
        raw=lambda: five_minute(market(date(2016, 6, 6), 10)),
    ),
    "C2 Denver's clock declared as fixed": Case(
        _stamped(lambda raw: local(raw, "America/Denver")),
        {"naive_timezone": "Etc/GMT+6"},
        "time zone: .*fit America/Denver",
        raw=AUTUMN,
    ),
    "C2 a zone that changes half way": Case(
        _stamped(lambda raw: local(raw, "UTC").where(raw["ts"] < "2016-10-27 15:00", local(raw))),
        CHICAGO,
        "time zone: .*, the first from 2016-10-18 at 22:00",
        raw=AUTUMN,
    ),
    **{
        f"C2 a clock of twelve hours, {what}": Case(
            _stamped(lambda raw, form=form: local(raw).dt.strftime(form)),
            CHICAGO,
            "AM and PM, found none after 12:59, and 2016-02-.. 01:00:00 behind 2016-02-.. 12:59:00 in line",
            raw=raw,
        )
        for what, form, raw in (
            ("of the day's trade", "%m/%d/%Y %I:%M", lambda: _day_session(market())),
            ("of all hours", "%Y-%m-%d %I:%M:%S", market),
        )
    },
    "C4 one stamp in 2066": Case(
        _stamped(lambda raw: raw["ts"].where(raw.index != 3000, pd.Timestamp("2066-02-24 15:00", tz="UTC"))),
        quarantine={"time stamp after now": 1},
    ),
    "C4 one stamp ten years early": Case(
        _stamped(lambda raw: raw["ts"].where(raw.index != 3000, pd.Timestamp("2006-02-24 15:00", tz="UTC"))),
        quarantine={"time stamp days or months from the rows around it": 1},
    ),
    "C4 one stamp in 9999": Case(
        _stamped(lambda raw: raw["ts"].astype(str).where(raw.index != 3000, "9999-12-31 00:00:00+00:00")),
        quarantine={"time stamp after now": 1},
    ),
    "C5 five minutes, then one": Case(
        _text(lambda raw: _mixed(raw, "2016-02-24 10:10")), error="mixed spacing: .*5-minute"
    ),
    "C6 one minute on the last day": Case(_text(lambda raw: _mixed(raw, "2016-02-26 12:00")), error="mixed spacing"),
    "C5 three hours of five minutes": Case(
        _text(lambda raw: _mixed(raw, "2016-02-24 16:00", "2016-02-24 13:00")), error="mixed spacing.*from 2016-02-24"
    ),
    **{
        f"C5 {minutes} minutes, then one": Case(
            _text(lambda raw, minutes=minutes: older(raw, minutes)), error=rf"mixed spacing: .*\({minutes}-minute\)"
        )
        for minutes in (4, 6, 20, 60, 120, 240)
    },
    "C5 days for a year, then minutes": Case(_text(_days_first), error=r"mixed spacing: .*\(1440-minute\)"),
    "C7 beginnings that are said to be ends": Case(
        _text(lambda raw: raw),
        {"stamps": "end"},
        "stamped at their open and none at their close.*leave ingest.stamps=end",
    ),
    "C7 beginnings of five minutes that are said to be ends": Case(
        _text(five_minute), {"stamps": "end"}, "5 of 5 sessions.*the stamps mark the beginning of a bar"
    ),
    "C7 beginnings of a day session that are said to be ends": Case(
        _text(lambda raw: hours(raw, "08:30", "15:00").pipe(lambda day: day.assign(ts=local(day)))),
        {**CHICAGO, "stamps": "end"},
        "mark the beginning",
    ),
    **{
        f"C1 New York's hours {begin} to {end} declared Chicago": Case(
            _text(lambda raw, begin=begin, end=end: _in_new_york(hours(raw, begin, end))),
            CHICAGO,
            "time zone: .*1 h off",
        )
        for begin, end in (
            ("06:00", "15:00"),
            ("02:00", "10:30"),
            ("08:30", "14:00"),
            ("08:00", "15:00"),
            ("17:00", "08:30"),
        )
    },
    **{
        f"C1 hours {begin} to {end} in their own zone": Case(
            _text(_in_new_york),
            NEW_YORK,
            raw=lambda begin=begin, end=end: hours(market(), begin, end),
        )
        for begin, end in (
            ("06:00", "15:00"),
            ("02:00", "08:00"),
            ("09:00", "15:00"),
            ("09:30", "15:00"),
            ("09:30", "16:00"),
            ("17:00", "08:30"),
        )
    },
    "C2 two sessions an hour ahead": Case(
        _stamped(
            lambda raw: (
                raw["ts"] + pd.to_timedelta(raw["ts"].between("2016-02-22 22:30", "2016-02-24 22:30") * 1, unit="h")
            )
        ),
        error="time zone: .*first from 2016-02-23 at 18:00",
    ),
    "C7 stamps at second 59 from some day on": Case(
        _stamped(lambda raw: raw["ts"] + pd.to_timedelta((raw["ts"] >= "2016-02-25") * 59, unit="s"))
    ),
    "C7 stamps at second 59 in one row of a thousand": Case(
        _stamped(lambda raw: raw["ts"] + pd.to_timedelta((raw.index % 1000 == 7) * 59, unit="s")),
        quarantine={"time stamp between the bars of its spacing": 7},
    ),
    "C7 stamps at second 59": Case(_stamped(lambda raw: raw["ts"] + pd.Timedelta(seconds=59))),
    "C7 stamps just before the minute": Case(_stamped(lambda raw: raw["ts"] + pd.Timedelta(milliseconds=59_999))),
    "C the last two sessions stamped at the end": Case(
        _ended("2016-11-16"), error="2 of 25 sessions have a bar stamped at their close", raw=AUTUMN
    ),
    "C the last session stamped at the end": Case(
        _ended("2016-11-18"),
        quarantine={"out of session: at a close, as the last bar of a session is stamped at its END": 1},
        raw=AUTUMN,
    ),
    "C2 fixed EST declared New York, of a contract that dies": Case(
        _stamped(lambda raw: local(raw, "Etc/GMT+5")),
        NEW_YORK,
        "first from 2016-03-1[34] at 16:00 .*fit Etc/GMT\\+5",
        raw=lambda: market(sessions=25),
    ),
    # 2. bad prints
    "D1 a minute ten percent away": Case(_spike(1.1, PRICES), quarantine={SPIKE: 1}),
    "D1 a feed that is ten percent away for an hour": Case(_spike(1.1, PRICES, 60), quarantine={SPIKE: 60}),
    "D1 the last two bars six percent away": Case(
        _spike(1.06, PRICES, 2, -2), error="jump of level: at 2016-02-26 21:5"
    ),
    "D1 a high three percent away": Case(_spike(1.03, ["high"]), quarantine={SPIKE: 1}),
    "D1 a low three percent away": Case(_spike(0.97, ["low"]), quarantine={SPIKE: 1}),
    "D1 a close two percent away": Case(_spike(0.98, ["low", "close"]), quarantine={SPIKE: 1}),
    "D1 the first minute ten percent away": Case(_spike(1.1, PRICES, begin=0), quarantine={SPIKE: 1}),
    "D1 three minutes five percent away": Case(_spike(0.95, PRICES, 3), quarantine={SPIKE: 3}),
    "D1 nine minutes six percent away": Case(_spike(1.06, PRICES, 9), quarantine={SPIKE: 9}),
    # 6. empty rows
    "E1 empty rows of a resample": Case(_text(_resampled)),
    "E1 prices filled, volume left empty": Case(_text(lambda raw: _filled(raw, PRICES))),
    "E1 closes filled alone": Case(_text(lambda raw: _filled(raw, ["close"]).fillna({"volume": 0}))),
    "E1 zeros where nothing traded": Case(_text(lambda raw: _filled(raw, []).fillna(0))),
    "E volume that is all empty": Case(_text(lambda raw: raw.assign(volume=np.nan)), error="found 0 in every row, or"),
    "E1 empty rows without volume either": Case(
        _text(lambda raw: raw.set_index("ts").resample("1min").first().reset_index())
    ),
    # 7. messages
    "E3 a last line of words": Case(_with_line('"Downloaded on 02-26-2016 04:12pm CST"'), quarantine={NO_LINE: 1}),
    "E3 a first line of words": Case(_with_line("NQ H16, one minute", 0)),
    "E20 ticks of .NET": Case(_stamped(lambda raw: nanoseconds(raw["ts"]) // 100 + 621_355_968 * 10**9)),
    "E20 milliseconds, then microseconds": Case(
        _stamped(lambda raw: nanoseconds(raw["ts"]) // np.where(raw.index < 3000, 10**6, 10**3), "timestamp")
    ),
    "E21 the header again": Case(_with_line(",".join(NAMES), 3000), quarantine={NO_LINE: 1}),
    "E a number that is none": Case(
        _with_line("2016-02-24 12:00:30+00:00,4100.00,41x0.00,4100.00,4100.00,7", 3000),
        error=r"numbers in column 'high', found '41x0.00' in line 3001",
    ),
    "E a stamp that is none": Case(
        _with_line("2016-02-24 noon,4100.00,4100.25,4100.00,4100.00,7", 3000),
        error="found '2016-02-24 noon' in line 3001",
    ),
    "E23 columns of other names": Case(
        _text(lambda raw: raw.rename(columns={"volume": "Contracts traded"})),
        error="'volume', found .*'Contracts traded'",
    ),
    # 8. dialects
    "E5 two blanks": Case(_stamped(lambda raw: local(raw).dt.strftime("%Y%m%d  %H:%M:%S"), "date"), CHICAGO),
    "E6 a zone's name in every row": Case(
        _stamped(lambda raw: local(raw).dt.strftime("%Y%m%d %H:%M:%S US/Central"), "date")
    ),
    "E7 UTC behind": Case(_stamped(lambda raw: raw["ts"].dt.strftime("%Y-%m-%d %H:%M:%S UTC"))),
    "E8 GMT and a fraction behind": Case(
        _stamped(lambda raw: raw["ts"].dt.strftime("%d.%m.%Y %H:%M:%S.000 GMT+0000"), "Gmt time")
    ),
    "E8 GMT in the column's name": Case(
        _stamped(lambda raw: raw["ts"].dt.strftime("%d.%m.%Y %H:%M:%S.000"), "Gmt time")
    ),
    "E12 volume 0 beside ticks": Case(
        _text(lambda raw: raw.rename(columns={"volume": "<TICKVOL>"}).assign(**{"<VOL>": 0}), sep="\t"), notes="TICKVOL"
    ),
    "E13 three header lines": Case(_yfinance),
    "E14 a column t": Case(
        _text(lambda raw: raw.assign(ts=nanoseconds(raw["ts"]) // 10**6).set_axis(list("tohlcv"), axis=1))
    ),
    "E15 an index of symbol and time": Case(
        lambda raw, folder: _parquet(raw.assign(symbol="NQH6").set_index(["symbol", "ts"]), folder)
    ),
    "E16 a first column without a name": Case(
        lambda raw, folder: as_csv(raw.set_index("ts").rename_axis(None), folder, index=True)
    ),
    "E17 times without leading zeros": Case(
        _text(
            lambda raw: pd.DataFrame(
                {"date": raw["ts"].dt.strftime("%Y%m%d"), "time": raw["ts"].dt.strftime("%H%M%S").astype(int)}
            ).join(raw[NAMES[1:]])
        ),
        UTC,
    ),
    "E18 UTF-16": Case(_text(lambda raw: raw, encoding="utf-16")),
    "E19 thousands": Case(_text(lambda raw: raw.assign(**{name: raw[name].map("{:,.2f}".format) for name in PRICES}))),
    "E19 decimal commas and thousands": Case(
        _text(
            lambda raw: raw.assign(
                **{name: raw[name].map(lambda p: f"{p:,.2f}".translate(str.maketrans(",.", ".,"))) for name in PRICES}
            ),
            sep=";",
        )
    ),
    "E23 up and down": Case(
        _text(
            lambda raw: raw.assign(Up=raw["volume"] // 2, Down=raw["volume"] - raw["volume"] // 2).drop(
                columns="volume"
            )
        ),
        notes="Up",
    ),
    "E a year of two digits first": Case(
        _stamped(lambda raw: raw["ts"].dt.strftime("%y-%m-%d %H:%M")), UTC, raw=lambda: market(sessions=8)
    ),
    "E a year of two digits, first or last": Case(
        _stamped(lambda raw: raw["ts"].dt.strftime("%y-%m-%d %H:%M")),
        UTC,
        error="'16-03-07 00:00' in line 2, which may be 2016-03-07 or 2007-03-16",
        raw=lambda: two_contracts()[lambda raw: raw["ts"].between("2016-03-07", "2016-03-07T23:00")],
    ),
    "E a last line cut off in its stamp": Case(
        lambda raw, folder: _written(
            folder, raw.assign(ts=raw["ts"].dt.strftime("%m/%d/%Y %H:%M")).to_csv(index=False) + "02/26/20"
        ),
        UTC,
        quarantine={NO_LINE: 1},
    ),
    **{
        f"E20 one number with {what}": Case(
            _stamped(
                lambda raw, to=to: (nanoseconds(raw["ts"]) // 10**6).astype(object) * np.where(raw.index == 61, *to)
            ),
            quarantine=quarantine,
        )
        for what, to, quarantine in (
            ("a digit more", (10, 1), {"time stamp after now": 1}),
            ("six digits more", (10**6, 1), {}),
        )
    },
    "E6 a zone of several words": Case(
        _stamped(lambda raw: local(raw).dt.strftime("%m/%d/%Y %H:%M Central Standard Time"))
    ),
    "E6 a zone that nobody knows": Case(
        _stamped(lambda raw: local(raw).dt.strftime("%m/%d/%Y %H:%M XMT")),
        error="name of a time zone behind the stamps of column 'ts', found 'XMT' in line 2",
    ),
    **{
        f"E23 {up} and {down}": Case(
            _text(
                lambda raw, up=up, down=down: raw.assign(
                    **{up: raw["volume"] // 2, down: raw["volume"] - raw["volume"] // 2}
                ).drop(columns="volume")
            ),
            notes=up,
        )
        for up, down in (("upVolume", "downVolume"), ("buy_volume", "sell_volume"), ("UpTickVol", "DownTickVol"))
    },
    "E12 volume 0 beside up and down": Case(
        _text(
            lambda raw: raw.assign(Volume=0, Up=raw["volume"] // 2, Down=raw["volume"] - raw["volume"] // 2).drop(
                columns="volume"
            )
        ),
        notes=r"volume from 'Up \+ Down': 'Volume' is 0",
    ),
    **{
        f"E12 volume in thousands beside {' and '.join(other)}": Case(
            _text(
                lambda raw, other=other: raw.assign(
                    Volume=raw["volume"].map("{:,}".format), **dict.fromkeys(other, 7)
                ).drop(columns="volume")
            )
        )
        for other in (("size",), ("BidVolume", "AskVolume"))
    },
    "E names with capitals inside": Case(
        _text(
            lambda raw: raw.set_axis(
                ["barTime", "openPrice", "highPrice", "lowPrice", "closePrice", "tradeVolume"], axis=1
            )
        )
    ),
    "E a date and its minute": Case(
        _text(
            lambda raw: pd.DataFrame(
                {"date": raw["ts"].dt.strftime("%Y.%m.%d"), "minute": raw["ts"].dt.strftime("%H:%M")}
            ).join(raw[NAMES[1:]])
        ),
        UTC,
    ),
    "E days since 1899": Case(_stamped(lambda raw: (nanoseconds(raw["ts"]) / 86_400e9 + 25_569).round(10)), UTC),
    "E the months by name": Case(_stamped(lambda raw: raw["ts"].dt.strftime("%d-%b-%Y %I:%M %p")), UTC),
    "E an abbreviation of a zone": Case(_stamped(lambda raw: local(raw).dt.strftime("%m/%d/%Y %H:%M:%S CST"))),
    "E a zone that begins with A": Case(
        _stamped(lambda raw: local(raw).dt.strftime("%Y-%m-%d %H:%M:%S America/Chicago"))
    ),
    "E a zone in brackets": Case(
        _stamped(lambda raw: local(raw).dt.strftime("%Y-%m-%dT%H:%M:%S-06:00[America/Chicago]"))
    ),
    "E UTC in parentheses": Case(_stamped(lambda raw: raw["ts"].dt.strftime("%Y-%m-%d %H:%M:%S (UTC)"))),
    "E rows with a number that has no name": Case(
        _lines(lambda lines: [lines[0], *(f"{k},{line}" for k, line in enumerate(lines[1:]))]),
        error="a name for each column, found 6 names above 7 cells in line 2",
    ),
    # 9. headerless
    "E9 no header, a symbol": Case(
        _text(
            lambda raw: raw.assign(s="NQH6", ts=raw["ts"].dt.strftime("%Y-%m-%d %H:%M:%S"))[["s", *NAMES]], header=False
        ),
        UTC,
        notes="symbol, date and time",
    ),
    "E10 no header, AM and PM": Case(
        _stamped(lambda raw: raw["ts"].dt.strftime("%m/%d/%Y %I:%M:%S %p"), header=False), UTC, notes="date and time"
    ),
    "E11 no header, date and time": Case(
        _text(
            lambda raw: raw.assign(date=raw["ts"].dt.strftime("%Y.%m.%d"), time=raw["ts"].dt.strftime("%H:%M"))[
                ["date", "time", *NAMES[1:]]
            ],
            header=False,
        ),
        UTC,
        notes="date, time, open",
    ),
    "E9 no header, volume 0 before the volume": Case(
        _text(lambda raw: raw.assign(more=raw["volume"], volume=0), header=False),
        notes="volume 2 left out volume from 'volume 2': 'volume' is 0 in every row",
    ),
    "E9 no header, a title above": Case(
        _lines(lambda lines: ["# NQ 1 min", "", *lines[1:]]), notes="read as date and time"
    ),
    "E9 no header, a row of nothing": Case(
        _lines(lambda lines: [*lines[1:8], "2016-02-21 22:59:00+00:00,,,,,0", *lines[8:]]),
        notes="read as date and time",
    ),
    "E no header, another order": Case(
        _text(
            lambda raw: raw.assign(ts=raw["ts"].dt.strftime("%Y%m%d %H%M%S"))[["ts", "close", "low", "high", "open"]],
            header=False,
        ),
        UTC,
        "expected a first line that names the columns",
    ),
    # 10. libraries
    "E22 a page that calls itself CSV": Case(
        _lines(lambda lines: ["<!DOCTYPE html>", "<html><body>log in, please</body></html>"]), error="begins with <!"
    ),
    "E22 records of JSON": Case(
        lambda raw, folder: _written(folder, raw.head(500).astype(str).to_json(orient="records")),
        error=r"begins with \[",
    ),
    "E22 zstandard that was cut off": Case(_cut(".zst"), error=r"csv\.zst that is none \(Truncated"),
    "E22 gzip that was cut off": Case(_cut(".gz"), error=r"csv\.gz that is none \(Compressed file ended"),
    "E22 a zip with a password": Case(_locked, error="bars.zip that is none .*encrypted"),
    "E22 columns aligned by blanks": Case(
        lambda raw, folder: _written(
            folder, raw.assign(ts=raw["ts"].dt.strftime("%Y-%m-%d %H:%M:%S")).to_string(index=False)
        ),
        UTC,
    ),
    "E22 a zip of two": Case(_zip, error="one file of bars in .*found 2 .NQ_H16.txt, NQ_M16.txt.*folder"),
    "E a column twice": Case(
        _text(lambda raw: pd.concat([raw, raw[["close"]] + 1], axis=1)), error="one column 'close'"
    ),
    # 11. folders
    "A contracts of a product without a row": Case(
        _text(lambda raw: raw.assign(symbol="ZNH6")),
        error="found contracts of ZN, of which the table.*no row: leave.* or add a row",
    ),
    "B prices on another instrument's tick": Case(
        _text(lambda raw: raw.assign(**{name: (3 * raw[name]).round() / 10 for name in PRICES})),
        error=r"price unit: prices are multiples of 0\.1, not of 0\.25, the tick that is set",
    ),
    "B prices in thirty-seconds": Case(
        _text(lambda raw: raw.assign(close=(raw["close"] // 32).map("{:.0f}'16".format))),
        error="expected numbers in column 'close', found \"140'16\" in line 2",
    ),
    "B volume in money": Case(
        _text(lambda raw: raw.assign(volume=(20 * raw["volume"] * raw["close"]).astype(int))),
        error="volume unit: bars have a million contracts and more",
    ),
    "B Heikin-Ashi bars": Case(_text(_heikin_ashi), error="made-up bars: opens lie in the middle of the bar before"),
    "B high and low exchanged": Case(
        _text(lambda raw: raw.rename(columns={"high": "low", "low": "high"})), error=r"high below low: \d+ rows"
    ),
    "C bars of days": Case(
        _stamped(lambda raw: pd.Series(pd.date_range("2010-01-01", periods=len(raw)))),
        error="bars every 1 or 5 minutes, found one every 1440 minutes",
    ),
    "C an hour late since the clocks changed": Case(
        _stamped(lambda raw: local(raw) + pd.to_timedelta((raw["ts"] > "2016-03-13").astype(int), unit="h")),
        CHICAGO,
        error="time zone: .* begin in 1 of them, the first from 2016-03-13 at 18:00 exchange time .*1 h off",
        raw=two_contracts,
    ),
    "E midnight as 24:00": Case(
        _stamped(lambda raw: raw["ts"].dt.strftime("%Y-%m-%d %H:%M").where(raw["ts"].dt.time != time(0), _at_24(raw))),
        UTC,
    ),
    **{
        f"E6 a zone called {zone}": Case(
            _stamped(lambda raw, zone=zone, name=name: local(raw, name).dt.strftime(f"%Y%m%d %H:%M:%S {zone}"))
        )
        for zone, name in (
            ("EST5EDT", "America/New_York"),
            ("CST6CDT", "America/Chicago"),
            ("MET", "Europe/Berlin"),
            ("us/central", "America/Chicago"),
            ("Etc/GMT+5", "Etc/GMT+5"),
            ("+0000 UTC", "UTC"),
        )
    },
    "E5 a date, a dash, a clock": Case(_stamped(lambda raw: raw["ts"].dt.strftime("%Y%m%d-%H:%M:%S")), UTC),
    "E5 an ISO date, a dash, a clock": Case(_stamped(lambda raw: raw["ts"].dt.strftime("%Y-%m-%d-%H:%M:%S")), UTC),
    "E5 a clock of two parts with a point": Case(_stamped(lambda raw: raw["ts"].dt.strftime("%d.%m.%Y %H.%M")), UTC),
    **{
        f"E7 stamps such as {example}": Case(
            _stamped(lambda raw, zone=zone, form=form: local(raw, zone).dt.strftime(form)), config
        )
        for example, form, zone, config in (
            ("Sun May 01 2016 17:00:00 GMT-0600 (…)", "%a %b %d %Y %H:%M:%S GMT-0600 (C S T)", "America/Chicago", {}),
            ("01-May-16 05.00.00.000000 PM", "%d-%b-%y %I.%M.%S.000000 %p", "UTC", UTC),
            ("2016-05-01-17.00.00.000000", "%Y-%m-%d-%H.%M.%S.000000", "UTC", UTC),
            ("01May2016:17:00:00", "%d%b%Y:%H:%M:%S", "UTC", UTC),
            ("05:00:00 PM 05/01/2016", "%I:%M:%S %p %m/%d/%Y", "UTC", UTC),
            ("17:00, 05/01/2016", "%H:%M, %m/%d/%Y", "UTC", UTC),
            ("2016-05-01 00:00:00 17:00:00", "%Y-%m-%d 00:00:00 %H:%M:%S", "UTC", UTC),
        )
    },
    "E7 t and z": Case(_stamped(lambda raw: raw["ts"].dt.strftime("%Y-%m-%dt%H:%M:%Sz"))),
    "C4 a time of day that is none": Case(
        _stamped(lambda raw: raw["ts"].dt.strftime("%Y-%m-%d %H:%M").where(raw.index != 5000, "2016-02-25 25:10")),
        UTC,
        "expected a time stamp in column 'ts', found '2016-02-25 25:10' in line 5002",
    ),
    **{
        f"C7 stamps at {offset} past the minute": Case(
            _stamped(lambda raw, offset=offset: raw["ts"] + pd.Timedelta(offset)),
            error="stamps at full minutes, or all",
        )
        for offset in ("1s", "30s", "123ms")
    },
    **{
        f"C4 one stamp at {day}": Case(
            _stamped(lambda raw, day=day: raw["ts"].where(raw.index != 3000, pd.Timestamp(f"{day} 15:00", tz="UTC"))),
            quarantine={"time stamp days or months from the rows around it": 1},
        )
        for day in ("2016-05-25", "2016-03-10", "2015-12-01")
    },
    **{
        f"C4 {what} years ahead": Case(
            _stamped(lambda raw, rows=rows: raw["ts"] + pd.to_timedelta(raw.index.isin(rows) * 1092, unit="D")),
            error=r"days or months from the rows around it: 1\d\d\d rows",
            raw=lambda: market(sessions=10),
        )
        for what, rows in (("a thousand rows", range(2760, 3760)), ("the last session", range(11_800, 13_104)))
    },
    "C4 the last row a month on": Case(
        _stamped(lambda raw: raw["ts"] + pd.to_timedelta((raw.index == raw.index[-1]) * 30, unit="D")),
        quarantine={"time stamp days or months from the rows around it": 1},
    ),
    "D1 the newest bar's high 3 % above its close": Case(_spike(1.03, ["high"], begin=-1), quarantine={SPIKE: 1}),
    "B1 prices times a tenth at a level that the product had": Case(
        _text(lambda raw: raw.assign(**{name: raw[name] / 10 + 800 for name in PRICES})),
        error=r"price unit: prices are multiples of 0\.025",
    ),
    "E volume of -1 for unknown": Case(
        _text(lambda raw: raw.assign(volume=-1)), error="found 0 in every row, or nothing"
    ),
    "E stamps as C writes them": Case(_stamped(lambda raw: raw["ts"].dt.strftime("%a %b %d %H:%M:%S %Y")), UTC),
    "E the clock before the date": Case(_stamped(lambda raw: raw["ts"].dt.strftime("%H:%M %d.%m.%Y")), UTC),
    "E a clock with points": Case(_stamped(lambda raw: raw["ts"].dt.strftime("%Y-%m-%d %H.%M.%S")), UTC),
    "E names behind $FORMAT": Case(
        _lines(lambda lines: ["$FORMAT Timestamp, Open, High, Low, Close, Qty", "$SKIPLINES 0", *lines[1:]]),
        quarantine={NO_LINE: 1},
    ),
    "E names of columns with signs": Case(
        _text(lambda raw: raw.set_axis(["#Date-Time", "<Open>", "<High>", "<Low>", "Last", "TradeVolume"], axis=1))
    ),
    "E names of a terminal's fields": Case(
        _text(lambda raw: raw.set_axis(["Timestamp", "PX_OPEN", "PX_HIGH", "PX_LOW", "PX_LAST", "Vol."], axis=1))
    ),
    "E times of opening and closing": Case(
        _stamped(lambda raw: nanoseconds(raw["ts"]) // 10**6, "open_time"),
    ),
    "E blanks between": Case(
        _lines(lambda lines: [line.replace(",", "  ").replace("ts", "date time", 1) for line in lines]),
    ),
    "A1 products beside one date of expiry": Case(
        _text(lambda raw: pd.concat([raw.assign(symbol="NQ"), _another().assign(symbol="ES")]).assign(expiry=201603)),
        error="expected the bars of one product, found contracts of ES, NQ",
    ),
    "A1 a folder of products": Case(
        lambda raw, folder: _named_files("ES_1min.csv", "NQ_1min.csv")(
            pd.concat([raw.assign(contract="b"), _another().assign(contract="a")]), folder
        ),
        error="expected the bars of one product, found contracts of ES, NQ",
    ),
    "E24 a folder of months": Case(
        lambda raw, folder: _named_files("NQ_feb16.csv", "NQ_mar16.csv")(
            raw.assign(contract=(raw["ts"] >= "2016-03-01").astype(str)), folder
        ),
        raw=lambda: market(sessions=10),
        notes="2 files, NQ_feb16.csv",
    ),
    "E24 a folder of months as numbers": Case(
        lambda raw, folder: _named_files("NQ_201603.csv", "NQ_201606.csv")(
            raw.assign(contract=(raw["ts"] >= "2016-03-01").astype(str)), folder
        ),
        raw=lambda: market(sessions=10),
        notes="2 files, NQ_201603.csv",
    ),
    "E24 a folder of days and a page about it": Case(_described, error="README.txt: expected a column"),
    "E24 a folder of days": Case(_daily, notes="6 files"),
    "E24 a folder of text and parquet": Case(_two_formats, notes="2 files.*overlap"),
}


def _parquet(frame: pd.DataFrame, folder: Path) -> Path:
    frame.to_parquet(folder / "bars.parquet")
    return folder / "bars.parquet"


CONTRACTS: dict[str, Write] = {
    "A2 months as floats": _text(lambda raw: raw.assign(contract=raw["contract"].astype(float))),
    "A2 the next contract first": _text(
        lambda raw: _renamed(raw, {"201603": "CME_MINI:NQH2016", "201606": "CME_MINI:NQM2016"})
    ),
    "A2 codes of months alone": _text(lambda raw: _renamed(raw, {"201603": "H16", "201606": "M16"})),
    "A2 names of months alone": _text(lambda raw: _renamed(raw, {"201603": "Mar 2016", "201606": "Jun 2016"})),
    "A2 dates of expiry beside the product": _text(
        lambda raw: _renamed(raw, {"201603": "20160318", "201606": "20160617"}, "expiry").assign(symbol="NQ")
    ),
    "A2 in a spelling of MetaTrader": _text(
        lambda raw: _renamed(raw, {"201603": "NQ-3.16".replace("-3", "-03"), "201606": "NQ-06.16"})
    ),
    "A2 dates of expiration as a terminal writes them": _text(
        lambda raw: _renamed(raw, {"201603": "3/18/2016", "201606": "6/17/2016"}, "expiration_date").assign(ticker="NQ")
    ),
    "A2 a column of another name": _text(
        lambda raw: _renamed(raw, {"201603": "NQH16", "201606": "NQM16"}, "underlying")
    ),
    "A2 months of delivery beside the product": _text(
        lambda raw: _renamed(raw, {"201603": 201603, "201606": 201606}, "delivery_month").assign(symbol="NQ")
    ),
    "A2 dates of expiration with their hour": _text(
        lambda raw: _renamed(
            raw, {"201603": "2016-03-18 13:30:00+00:00", "201606": "2016-06-17 13:30:00+00:00"}, "expiration"
        ).assign(symbol="NQ")
    ),
    "A2 names of NinjaTrader's files": _named_files("NQ 03-16.Last.csv", "NQ 06-16.Last.csv"),
    "A2 names of Barchart's files": _named_files("nqh16_intraday-1min.csv", "nqm16_intraday-1min.csv"),
    "A2 names with a year of one digit": _named_files("NQH6.csv", "NQM6.csv"),
    "A2 names of FirstRate's files": _named_files("NQ_H16_1min.csv", "NQ_M16_1min.csv"),
    "A2 names of a product that no table holds": _named_files("ENQH16.csv", "ENQM16.csv"),
    "A2 names with the months as numbers": _named_files("NQ_201603.csv", "NQ_201606.csv"),
    "A2 names with the dates of expiry": _named_files("NQ_2016-03-18.csv", "NQ_2016-06-17.csv"),
    "A4 numbers alone": _text(lambda raw: _renamed(raw, {"201603": 7002, "201606": 7001}, "instrument_id")),
    "A4 numbers beside a product": _text(
        lambda raw: _renamed(raw, {"201603": 371749798, "201606": 215465490}, "conId").assign(symbol="NQ")
    ),
    "A4 numbers and a contract that is never in front": _text(_with_far_contract),
}
"""Files of two contracts that must give the bars, and the roll, of the same file with NQH6 and NQM6."""
