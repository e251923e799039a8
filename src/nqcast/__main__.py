"""`python -m nqcast`: the options of `kedro run`, and --conf-source for the configuration beside the wheel."""

import sys
from pathlib import Path
from typing import Any

from kedro.framework.cli.utils import find_run_command
from kedro.framework.project import configure_project


def main(*args: Any, **kwargs: Any) -> Any:
    """Configure the project from the installed package and hand over to Kedro's run command."""
    package = Path(__file__).parent.name
    configure_project(package)
    from nqcast.hooks.mistakes import show_bad_input_in_one_line

    show_bad_input_in_one_line()
    kwargs.setdefault("standalone_mode", not hasattr(sys, "ps1"))
    return find_run_command(package)(*args, **kwargs)


if __name__ == "__main__":
    main()
