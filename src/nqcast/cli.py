"""`kedro run` as Kedro has it, with a --config file that is bounded: it is read or refused within a second."""

import copy
from pathlib import Path
from typing import Any

import click
import yaml
from kedro.framework.cli.project import run as _kedro_run

MOST_BYTES = 100_000
"""Size of a --config file; the parameters of a tuning are one of 500 bytes."""
MOST_LEVELS = 20
"""Levels of a --config file, each within the next."""


@click.group()
def cli() -> None:
    """Commands that this project has of its own."""


def check_config(file: Path) -> None:
    """Raise click.BadParameter for a --config file that is large, deep, or grows when its aliases are written out."""
    if not file.is_file() or (size := file.stat().st_size) > MOST_BYTES:
        found = f"{size:,}" if file.is_file() else "no file"
        raise click.BadParameter(f"expected at most {MOST_BYTES:,} bytes of options in {file}, found {found}")
    depth = 0
    try:
        for event in yaml.parse(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise click.BadParameter(f"expected options in {file}, found an alias (*name): write the value instead")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MOST_LEVELS:  # the parser's time grows with the square of them
                raise click.BadParameter(f"expected at most {MOST_LEVELS} levels of options in {file}, found more")
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"expected options as YAML in {file}, found none ({error})") from error


def _with_a_hint(option: click.Parameter) -> click.Parameter:
    """Kedro's --params, which says how a list is given."""
    hinted, read = copy.copy(option), option.callback

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        try:
            return read(context, parameter, value) if read is not None else value
        except click.UsageError as error:
            hint = "Commas part the parameters; the items of a list are joined by +: quantiles=.1+.5+.9"
            raise click.UsageError(f"{error.message} {hint}", context) from None

    hinted.callback = callback
    return hinted


def _bounded(option: click.Parameter) -> click.Parameter:
    """Kedro's --config, whose file is looked at before it is read."""
    bounded, read = copy.copy(option), option.callback

    def callback(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if value:
            check_config(Path(value))
        return read(context, parameter, value) if read is not None else value

    bounded.callback = callback
    return bounded


run = copy.copy(_kedro_run)
_OWN = {"config": _bounded, "params": _with_a_hint}
run.params = [_OWN.get(str(option.name), copy.copy)(option) for option in run.params]
run.epilog = (
    "Beside it: `nqcast check FILE` says what a file of bars is taken for, `nqcast watch SOURCE` forecasts live."
)
cli.add_command(run)
