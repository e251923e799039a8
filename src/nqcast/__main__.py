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
    if sys.argv[1:] and not args:
        _refuse_a_word(sys.argv[1])
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


def _refuse_a_word(word: str) -> None:
    """Exit with 2 and one line where a word stands that is neither an option nor a command: often a pipeline's name."""
    if word.startswith("-") or word == "run":
        return
    from nqcast.fields import closest

    meant = closest(word, ["check", "watch", "run"], 0.6)
    cure = f"did you mean nqcast {meant}?" if meant else f"a pipeline is run by nqcast --pipelines {word}"
    sys.stderr.write(f"error: expected check, watch, run or an option, found {word!r}: {cure}\n")
    sys.exit(2)


if __name__ == "__main__":
    main()
