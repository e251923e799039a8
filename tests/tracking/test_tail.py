"""The Trainer's metrics reach the spool: all of them, once, and nobody else's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from nqcast.tracking.spool import Line, Spool
from nqcast.tracking.tail import MetricsTail, SystemSamples
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


def metrics(spool: Spool) -> list[Line]:
    return [record for record, _ in spool.read(0) if record["kind"] == "metrics"]


def steps(spool: Spool) -> list[int]:
    return [record["step"] for record in metrics(spool)]


def test_lines_are_copied_once_and_a_half_written_one_when_it_is_whole(spool: Spool, root: Path) -> None:
    tail = MetricsTail(spool)
    tail.follow(root / "fp")
    tail.look()
    write(root / "fp", line(0, loss=1.0) + line(1, loss=0.5)[:9])
    tail.look()
    assert steps(spool) == [0]
    write(root / "fp", line(1, loss=0.5)[9:] + line(2, loss=0.25))
    tail.look()
    tail.look()
    found = [(record["step"], record["values"]["loss"]) for record in metrics(spool)]
    assert found == [(0, 1.0), (1, 0.5), (2, 0.25)]


def test_only_the_runs_that_are_followed_are_read_and_a_resumed_one_shows_its_whole_curve(
    spool: Spool, root: Path
) -> None:
    write(root / "another", line(100, loss=1.0))
    write(root / "resumed", line(0, loss=1.0) + line(1, loss=1.0))
    tail = MetricsTail(spool)
    tail.follow(root / "resumed")
    tail.follow(root / "resumed")
    write(root / "another", line(101, loss=1.0))
    write(root / "resumed", line(2, loss=1.0))
    tail.look()
    assert steps(spool) == [0, 1, 2]


def test_a_file_started_anew_is_read_from_its_beginning(spool: Spool, root: Path) -> None:
    tail = MetricsTail(spool)
    tail.follow(root / "fp")
    write(root / "fp", line(0, loss=1.0) + line(1, loss=1.0))
    tail.look()
    (root / "fp" / "metrics.jsonl").write_text(line(7, loss=2.0))
    tail.look()
    assert steps(spool) == [0, 1, 7]


def test_curves_are_the_metrics_that_are_asked_for(spool: Spool, root: Path) -> None:
    tail = MetricsTail(spool, curves=("val_*", "epoch"))
    tail.follow(root / "fp")
    write(root / "fp", line(0, epoch=0, val_loss=1.0, coverage_q05=0.1))
    tail.look()
    assert [record["values"] for record in metrics(spool)] == [{"epoch": 0.0, "val_loss": 1.0}]


def test_a_garbled_line_is_named_and_skipped(spool: Spool, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    tail = MetricsTail(spool)
    tail.follow(root / "fp")
    write(root / "fp", line(0, loss=1.0) + "nonsense\n" + '{"no": "step"}\n[1]\n' + line(1, loss=1.0))
    tail.look()
    assert steps(spool) == [0, 1]
    assert caplog.text.count("skipped") == 3


def test_only_numbers_are_metrics() -> None:
    record = {"step": 3, "time": 1.5, "epoch": 2, "loss": 0.5, "note": "x", "ok": True, "skill": None, "per": {"a": 1}}
    assert numbers(record) == {"epoch": 2.0, "loss": 0.5}


def test_memory_and_load_have_the_names_of_the_system_metrics_page() -> None:
    found = {name.removeprefix("system/"): value for name, value in SystemSamples().sample().items()}
    assert 10 < found["process_memory_megabytes"] <= found["process_peak_memory_megabytes"] * 1.1
    assert 0 <= found["cpu_utilization_percentage"] <= 100
    assert 0 < found["system_memory_usage_percentage"] < 100


def test_without_psutil_this_process_is_still_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow.system_metrics.metrics.cpu_monitor", None)
    found = SystemSamples().sample()
    assert found["system/process_memory_megabytes"] > 10
    assert "system/cpu_utilization_percentage" not in found
