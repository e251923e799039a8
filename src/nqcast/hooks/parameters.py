"""Bad parameters are refused before anything runs, and bad input of any kind ends in one line."""

from __future__ import annotations

import os
import sys
from types import TracebackType

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DatasetError

from nqcast.parameters import check_parameters, with_instrument
from nqcast.stopping import RunEndedError
from nqcast.storage.errors import StorageError


class ParameterHook:
    """Refuses unknown or bad parameters before any pipeline is built.

    Kedro itself validates only the parameters that the chosen nodes take: a misspelt group would pass in silence.
    """

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Fill in what the instrument's row says, and check all groups at once."""
        show_bad_input_in_one_line()
        parameters = with_instrument(context.config_loader["parameters"])
        check_parameters(parameters)
        context.config_loader["parameters"] = parameters


def show_bad_input_in_one_line() -> None:
    """Let bad input and a full disk end in their message: they are no crash to debug.

    NQCAST_TRACEBACK=1 keeps the traceback; any other exception keeps it always.
    """
    if os.environ.get("NQCAST_TRACEBACK") or getattr(sys.excepthook, "is_short", False):
        return
    previous = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, ValueError | DatasetError | StorageError | RunEndedError):
            sys.stderr.write(f"\nerror: {error}\n(NQCAST_TRACEBACK=1 shows where it was raised)\n")
        else:
            previous(kind, error, trace)

    show.is_short = True  # type: ignore[attr-defined]
    sys.excepthook = show
