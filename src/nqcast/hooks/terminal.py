"""What is printed at a run's end, on whatever terminal there is: printing costs no complete run its exit status."""

import io
import os
import sys


def print_what_the_terminal_can() -> None:
    """Let a question mark stand for a character that the terminal does not know, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # no notebook's
            stream.reconfigure(errors="replace")


def tell(text: str) -> None:
    """Print `text`. A terminal that has gone, or a full disk behind it, costs the text alone."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more when it leaves
