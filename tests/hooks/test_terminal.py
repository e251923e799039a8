"""What a run shows while it goes on and at its end, on terminals of all kinds."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from tests.kedro_command import KEDRO, PROJECT, environment

from nqcast.hooks import mistakes

SHOWN = """
import sys, time
from kedro.pipeline import node, pipeline
from nqcast.hooks.terminal import ProgressHook
hook = ProgressHook()
steps = pipeline([node(lambda: 1, None, "a", name="train_model"), node(lambda a: a, "a", "b", name="score")])
hook.before_pipeline_run(steps)
for step in steps.nodes:
    hook.before_dataset_loaded(step)
    hook.before_node_run(step)
    time.sleep(1.1)
hook.after_pipeline_run()
"""

LOGGED = """
import logging, sys
from kedro.logging import RichHandler
from kedro.pipeline import node, pipeline
from rich.console import Console
from tqdm import tqdm
from nqcast.hooks.terminal import ProgressHook
handler = RichHandler(console=Console(file=sys.stderr), show_path=False, show_time=False)
logging.basicConfig(level="INFO", format="%(message)s", handlers=[handler], force=True)  # over Kedro's
hook = ProgressHook()
steps = pipeline([node(lambda: 1, None, "a", name="train_model")])
hook.before_pipeline_run(steps)
hook.before_node_run(steps.nodes[0])
logging.info("begun")
with tqdm(range(3), desc="epoch 1", mininterval=0, leave=False) as epoch:
    for _ in epoch:
        pass
logging.info("epoch 1")
hook.after_pipeline_run()
assert logging.root.handlers == [handler]
logging.info("done")
"""

ENDED = """
import sys
from kedro.framework.hooks import hook_impl
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.pipeline import node, pipeline
from nqcast import settings
from nqcast.hooks.terminal import ProgressHook
from nqcast.hooks.terminal import SummaryHook
class Summary(SummaryHook):
    @hook_impl
    def after_pipeline_run(self):
        print("summary", file=sys.stderr)
steps = pipeline([node(lambda: 1, None, "a", name="train_model")])
manager = _create_hook_manager()
progress = ProgressHook()
for hook in settings.HOOKS:  # in their order
    if isinstance(hook, ProgressHook | SummaryHook):
        manager.register(progress if isinstance(hook, ProgressHook) else Summary())
progress.before_pipeline_run(steps)
progress.before_node_run(steps.nodes[0])
manager.hook.after_pipeline_run(run_params={}, run_result={}, pipeline=steps, catalog=None)
"""


def screen(written: str) -> list[str]:
    """The lines that stand on a terminal of 80 columns after `written`."""
    lines, row, column = [[" "] * 80 for _ in range(24)], 0, 0
    for part in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|.", written, re.DOTALL):
        if part == "\x1b[A":
            row -= 1
        elif part == "\r":
            column = 0
        elif part == "\n":
            row += 1
        elif not part.startswith("\x1b"):
            row, column = (row + 1, 0) if column == 80 else (row, column)
            lines[row][column] = part
            column += 1
    return ["".join(line).rstrip() for line in lines]


def on_a_terminal(program: str) -> str:
    """What `program` writes to its standard error where that is a terminal."""
    reader, writer = pty.openpty()
    os.set_blocking(reader, False)
    termios.tcsetwinsize(writer, (24, 80))
    with subprocess.Popen([sys.executable, "-c", program], stderr=writer) as process:
        process.wait(timeout=60)
    shown = os.read(reader, 100_000).decode()
    os.close(writer)
    os.close(reader)
    return shown


def test_the_line_over_a_run_names_what_is_done_and_since_when_and_counts_no_nodes() -> None:
    shown = on_a_terminal(SHOWN)
    train, score = (re.search(rf"{name}, since (\d\d:\d\d:\d\d)", shown) for name in ("train model", "score"))
    assert train and score and train[1] != score[1], shown
    assert not re.search(r"node|it/s|%|\d/\d", shown), shown


def test_a_line_of_the_log_stands_above_the_bars_from_its_first_column_on() -> None:
    shown = screen(on_a_terminal(LOGGED))
    assert shown[:3] == ["INFO     begun", "INFO     epoch 1", "INFO     done"], shown
    assert not any(shown[3:]), "a bar is left behind"


def test_the_line_over_a_run_is_gone_when_its_summary_is_printed() -> None:
    assert screen(on_a_terminal(ENDED))[:2] == ["summary", ""]


def test_a_character_that_the_terminal_does_not_know_is_a_question_mark() -> None:
    program = "from nqcast.hooks.terminal import *; print_what_the_terminal_can(); tell('skill −0.1 é')"
    variables = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, check=True, timeout=60)
    assert done.stdout == b"skill ?0.1 ?\n"


@pytest.mark.parametrize("target", ["/dev/full", "a closed pipe"])
def test_a_terminal_that_takes_nothing_leaves_a_complete_run_its_exit_status(target: str) -> None:
    program = "from nqcast.hooks.terminal import *; tell('x' * 100_000); tell('more')"
    if target == "/dev/full":
        place = os.open(target, os.O_WRONLY)
    else:
        reader, place = os.pipe()
        os.close(reader)
    done = subprocess.run([sys.executable, "-c", program], stdout=place, stderr=subprocess.PIPE, timeout=60)
    os.close(place)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
def test_a_run_on_a_terminal_of_plain_letters_is_complete_and_a_refusal_shows_no_password(tmp_path: Path) -> None:
    variables = {**environment(tmp_path), "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    command = [str(KEDRO), "run", "--env", "test", "--pipelines", "ingest"]
    done = subprocess.run(command, env=variables, cwd=PROJECT, capture_output=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr.decode()[-3000:]
    secret = ["--params", "tracking.enabled=maybe,tracking.uri=http://me:hunter2@host"]
    refused = subprocess.run(
        [*command, *secret], env=variables, cwd=PROJECT, capture_output=True, timeout=200, check=False
    )
    assert refused.returncode == 1
    assert b"tracking.enabled" in refused.stderr and b"hunter2" not in refused.stderr + refused.stdout


def test_an_error_breaks_between_words_on_a_terminal() -> None:
    path = "/a/folder/of/some/length/with-hyphens/that/is/not/to/be/broken/wherever/it/ends/bars.csv"
    text = f"error: expected a file of bars, found nothing at {path}: give one with --params bars=FILE"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        lines = mistakes._wrapped(f"{text}\n  - a second line").splitlines()
    assert f"{path}:" in lines and lines[-1].strip() == "- a second line"
    assert all(len(line) < 80 for line in lines if path not in line)
