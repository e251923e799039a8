"""`nqcast check FILE`: what a file of bars is taken for and what is odd about it, before anyone trains."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import Any

import pandas as pd
import yaml
from pydantic import ValidationError

from nqcast.fields import changed, complaints
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.instruments import instrument
from nqcast.market.vendor import read_bars


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report of ingest, or the line that refuses the file; 0 for a file without doubts, 1 for another."""
    parser = argparse.ArgumentParser(prog="nqcast check", description=__doc__)
    parser.add_argument("file", help="a file of bars, or a folder of files that are one series")
    parser.add_argument(
        "--params", default="", metavar="NAME=VALUE,…", help="as of kedro run: ingest.naive_timezone=America/Chicago,…"
    )
    given = parser.parse_args(arguments)
    logging.disable(logging.WARNING)  # the report says it all
    try:
        raw, config = read_bars(given.file), ingest_config(given.params)
        if "volume" not in config.model_fields_set:  # as of --env nq, which takes a file without
            config = changed(config, {"volume": "volume" in raw and bool((raw["volume"] > 0).any())})
        report = _report(raw, config)
    except (ValueError, OSError) as error:
        sys.stdout.write(f"{error}\n")
        return 1
    finally:
        logging.disable(logging.NOTSET)
    sys.stdout.write(f"{report['text']}\n")
    if (found := report["sessions"]["count"]) < _FEWEST:
        sys.stdout.write(f"short: {found} sessions; a forecast takes {_FEWEST} before it, training three months\n")
    return int(any(doubt["check"] not in _HARMLESS for doubt in report["doubts"]))


def _report(raw: pd.DataFrame, config: IngestConfig) -> dict[str, Any]:
    """The report of ingest; where that ends in an error, the doubt that comes first says more than what it led to."""
    try:
        return build_bars(raw, config).report
    except ValueError:
        return build_bars(raw, changed(config, {"doubtful": "stop"})).report


_FEWEST = 20
_HARMLESS = ("unadjusted roll", "off tick")


def ingest_config(params: str, doubtful: str = "warn") -> IngestConfig:
    """The settings of ingest in parameters as `kedro run` takes them; volume also of features.

    Raises:
        ValueError: a parameter is none, or its value does not fit.
    """
    fields: dict[str, Any] = {"doubtful": doubtful}
    for pair in filter(None, params.split(",")):
        name, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f"expected parameters as name=value, found {pair!r}: write ingest.stamps=end")
        group, _, key = name.strip().rpartition(".")
        if group not in ("", "ingest") and key != "volume":
            raise ValueError(f"expected settings of ingest, such as ingest.stamps=end, found {name}: leave it out")
        fields[key] = yaml.safe_load(value)
    if "instrument" in fields:
        row = instrument(fields["instrument"])
        fields |= {"instrument": row, "tick": fields.get("tick", row.tick)}
    try:
        return IngestConfig.model_validate(fields)
    except ValidationError as error:
        raise ValueError("; ".join(f"ingest.{text}" for text in complaints(error, IngestConfig))) from None
