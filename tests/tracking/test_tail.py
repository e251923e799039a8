"""The Trainer's metrics reach the spool: all of them, once, and nobody else's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nqcast.tracking.spool import Spool
from nqcast.tracking.tail import MetricsTail
from nqcast.training.loggers import numbers


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool.create(tmp_path / "spool", "run")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "runs [1] é"
    root.mkdir()
    return root


def write(folder: Path, text: str) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(text)


def line(step: int, **values: object) -> str:
    return json.dumps({"step": step, **values}) + "\n"


def steps(spool: Spool) -> list[int]:
    return [record["step"] for record, _ in spool.read(0)]


def test_lines_are_copied_once_and_a_half_written_one_when_it_is_whole(spool: Spool, root: Path) -> None:
    tail = MetricsTail(spool, poll_interval=0.01)
    tail.watch(root)
    tail.start()
    write(root / "fp", line(0, loss=1.0) + line(1, loss=0.5)[:9])
    while steps(spool) != [0]:
        assert tail.is_alive()
    write(root / "fp", line(1, loss=0.5)[9:] + line(2, loss=0.25))
    tail.finish(timeout=5)
    assert [(record["step"], record["values"]["loss"]) for record, _ in spool.read(0)] == [
        (0, 1.0),
        (1, 0.5),
        (2, 0.25),
    ]


def test_old_runs_are_left_alone_and_a_resumed_one_shows_its_whole_curve(spool: Spool, root: Path) -> None:
    write(root / "old", line(100, loss=1.0))
    write(root / "resumed", line(0, loss=1.0) + line(1, loss=1.0))
    tail = MetricsTail(spool, poll_interval=60)
    tail.watch(root)
    tail.start()
    write(root / "resumed", line(2, loss=1.0))
    tail.finish(timeout=5)
    assert steps(spool) == [0, 1, 2]


def test_a_file_started_anew_is_read_from_its_beginning(spool: Spool, root: Path) -> None:
    tail = MetricsTail(spool, poll_interval=60)
    tail.watch(root)
    write(root / "fp", line(0, loss=1.0) + line(1, loss=1.0))
    tail._look()
    (root / "fp" / "metrics.jsonl").write_text(line(7, loss=2.0))
    tail._look()
    assert steps(spool) == [0, 1, 7]


def test_a_run_that_another_live_process_holds_is_not_ours(spool: Spool, root: Path) -> None:
    tail = MetricsTail(spool, poll_interval=60)
    tail.watch(root)
    write(root / "theirs", line(0, loss=1.0))
    (root / "theirs" / ".lock").write_text(json.dumps({"pid": 1, "host": "here"}))
    write(root / "ours", line(1, loss=1.0))
    (root / "ours" / ".lock").write_text(json.dumps({"pid": os.getpid(), "host": "here"}))
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    write(root / "of our worker", line(2, loss=1.0))
    (root / "of our worker" / ".lock").write_text(json.dumps({"pid": child.pid, "host": "here"}))
    tail._look()
    child.communicate(b"\n")
    assert sorted(steps(spool)) == [1, 2]


def test_a_garbled_line_is_named_and_skipped(spool: Spool, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    tail = MetricsTail(spool, poll_interval=60)
    tail.watch(root)
    write(root / "fp", line(0, loss=1.0) + "nonsense\n" + '{"no": "step"}\n[1]\n' + line(1, loss=1.0))
    tail._look()
    assert steps(spool) == [0, 1]
    assert caplog.text.count("skipped") == 3


def test_only_numbers_are_metrics() -> None:
    record = {"step": 3, "time": 1.5, "epoch": 2, "loss": 0.5, "note": "x", "ok": True, "skill": None, "per": {"a": 1}}
    assert numbers(record) == {"epoch": 2.0, "loss": 0.5}


def test_what_is_found_out_about_the_code_comes_before_the_first_look(spool: Spool) -> None:
    tail = MetricsTail(spool, poll_interval=60, first=lambda: spool.append("tags", values={"commit": "abc"}))
    tail.start()
    tail.finish(timeout=5)
    assert [record["values"] for record, _ in spool.read(0)] == [{"commit": "abc"}]
