"""`nqcast run`: the options of `kedro run`, and --conf-source for the configuration beside the wheel.

`nqcast` alone shows them, and what `run` precedes may be given without it. `python -m nqcast` is the same command.
`python -m nqcast check FILE` says what a file of bars is taken for, without Kedro and without a project.
`python -m nqcast watch SOURCE` forecasts as bars come in (nqcast.live.command).
"""

import sys
from pathlib import Path
from typing import Any


def main(*args: Any, **kwargs: Any) -> Any:
    """Look at a file of bars; or configure the project from the installed package and hand over to Kedro's command."""
    if sys.argv[1:2] == ["check"]:
        from nqcast.market.look import main as look

        sys.exit(look(sys.argv[2:]))
    if sys.argv[1:2] == ["watch"]:
        from nqcast.live.command import main as watch

        sys.exit(watch(sys.argv[2:]))
    if not args:
        args = (["--help"] if len(sys.argv) == 1 else sys.argv[2 if sys.argv[1] == "run" else 1 :],)
    from kedro.framework.cli.utils import find_run_command
    from kedro.framework.project import configure_project

    package = Path(__file__).parent.name
    configure_project(package)
    from nqcast.hooks.mistakes import show_bad_input_in_one_line

    show_bad_input_in_one_line()
    kwargs.setdefault("standalone_mode", not hasattr(sys, "ps1"))
    return find_run_command(package)(*args, **kwargs)


if __name__ == "__main__":
    main()
