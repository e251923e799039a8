"""`pip install` that says every ten seconds how far it is, in place of several lines per package or of none at all."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import threading
import time
from pathlib import Path

EVERY_SECONDS = 10.0


def main(arguments: list[str]) -> int:
    """Install what pip's arguments name for this Python; pip's errors and its exit status pass through."""
    command = [sys.executable, "-u", "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar=off"]
    collected: list[str] = []
    print("  pip install", *arguments, flush=True)
    over = threading.Event()
    threading.Thread(target=_report, args=(collected, over), daemon=True).start()
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as pip:
        for line in pip.stdout or ():
            if line.startswith(("Collecting ", "Processing ")):
                collected.append(Path(line.split()[1]).name)
    over.set()
    return pip.returncode


def _report(collected: list[str], over: threading.Event) -> None:
    before, start = _installed(), time.monotonic()
    while not over.wait(EVERY_SECONDS):
        new, seconds = _installed() - before, time.monotonic() - start
        if new > 0:
            print(f"  {seconds:4.0f} s: {new} of {len(collected)} packages installed", flush=True)
        elif collected:
            print(f"  {seconds:4.0f} s: {len(collected)} packages found, now {collected[-1]}"[:79], flush=True)


def _installed() -> int:
    """How many packages lie in this environment, finished or under way."""
    return sum(1 for _ in Path(sysconfig.get_path("purelib")).glob("*.dist-info"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
