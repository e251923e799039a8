"""The `kedro` command with one place of its training announced and held, so that a signal surely falls into it.

python -m tests.faults.slowed_kedro step|validation SECONDS kedro-arguments…

`step` holds the second optimiser step, `validation` the first batch validated after a step; only once in a process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

from nqcast.training import step, validation


def hold(place: str, seconds: float) -> None:
    """Slow down `place`; nothing of what is computed changes."""
    steps = 0
    held = False
    stepped, forecast = step.Stepper.__call__, validation._quantiles

    def wait() -> None:
        nonlocal held
        if not held:
            held = True
            sys.stdout.write(f"held in {place}\n")
            sys.stdout.flush()
            time.sleep(seconds)

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal steps
        steps += 1
        if place == "step" and steps == 2:
            wait()
        return stepped(*arguments, **options)

    def watched(*arguments: Any) -> Any:
        if place == "validation" and steps:
            wait()
        return forecast(*arguments)

    step.Stepper.__call__ = counted  # type: ignore[method-assign]
    validation._quantiles = watched


def main(kedro: Callable[[], None]) -> None:
    place, seconds, *arguments = sys.argv[1:]
    hold(place, float(seconds))
    sys.argv = ["kedro", *arguments]
    kedro()


if __name__ == "__main__":
    from kedro.framework.cli.cli import main as kedro_main

    main(kedro_main)
