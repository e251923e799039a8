"""One place of a process's training announced and held, so that a signal surely falls into it; only once.

`step` holds the second optimiser step, `validation` the first batch validated after a step.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from nqcast.training import step, validation

SECONDS = 4.0  # as long as that place is held


def hold(place: str) -> None:
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
            time.sleep(SECONDS)

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
