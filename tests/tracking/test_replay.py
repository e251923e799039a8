"""Every line arrives, once, whatever fails: a store that fails at random must end with what a faultless one has."""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nqcast.tracking.config import TrackingConfig
from nqcast.tracking.logger import TrackedRun
from nqcast.tracking.replay import Delivery, end_dead_runs
from nqcast.tracking.spool import Spool, waiting_spools
from nqcast.tracking.store import RefusedError
from nqcast.tracking.tail import MetricsTail


class OutageError(Exception):
    pass


class FakeStore:
    """Keeps runs as MLflow does: by key, with metrics as a set of rows; fails before or after it has obeyed."""

    def __init__(self, rng: np.random.Generator | None = None, refuse: str = "") -> None:
        self._rng = rng
        self._refuse = refuse
        self.runs: dict[str, dict[str, Any]] = {}
        self.calls: list[str] = []

    def ensure_run(self, start: dict[str, Any], key: str, parent: str | None = None) -> str:
        assert parent is None or parent in self.runs
        self._maybe_fail()
        self.runs.setdefault(key, {"metrics": set(), "params": {}, "tags": dict(start["tags"]), "ends": []})
        self.runs[key]["parent"] = parent
        self._maybe_fail()
        return key

    def send(self, run_id: str, lines: list[dict[str, Any]], files: Path) -> None:
        self._maybe_fail()
        for line in lines:
            if self._refuse and self._refuse in line.get("values", {}):
                raise RefusedError(f"invalid {self._refuse}")
        self.calls.append(lines[0]["kind"])
        run = self.runs[run_id]
        for line in lines:
            values = line.get("values", {})
            if line["kind"] == "metrics":
                run["metrics"] |= {(name, line["step"], line["time"], value) for name, value in values.items()}
            elif line["kind"] in ("params", "tags"):
                run[line["kind"]].update(values)
            elif line["kind"] == "end":
                run["ends"].append(line["status"])
        self._maybe_fail()

    def _maybe_fail(self) -> None:
        if self._rng is not None and self._rng.random() < 0.3:
            raise OutageError("no answer")


def fill(spool: Spool, steps: int = 50) -> None:
    spool.append("start", name="n", experiment="e", tags={"t": "1"}, time=1)
    spool.append("params", values={"train.lr": "0.1"})
    for step in range(steps):
        spool.append("metrics", step=step, time=100 + step, values={"loss": 1 / (1 + step), "skill": float("nan")})
        if step % 10 == 3:
            spool.append("tags", values={f"tag{step}": "x"})
    spool.append("end", status="FINISHED", time=999)


def test_every_line_arrives_once_though_the_store_fails_at_random_before_and_after_obeying(tmp_path: Path) -> None:
    faultless = FakeStore()
    for seed in range(25):
        spool = Spool.create(tmp_path, f"run {seed}")
        fill(spool)
        store = FakeStore(np.random.default_rng(seed))
        for _ in range(500):
            delivery = Delivery(Spool(spool.folder), "uri")  # as after a restart: only the files are left
            try:
                delivery.send_news(store)
            except OutageError:
                continue
            break
        assert delivery.sent_all
        Delivery(spool, "other").send_news(faultless)
        key = spool.folder.name
        assert list(store.runs) == [key]
        assert json.dumps(sorted(store.runs[key]["metrics"])) == json.dumps(sorted(faultless.runs[key]["metrics"]))
        assert {m[1] for m in store.runs[key]["metrics"]} == set(range(50))
        assert store.runs[key]["tags"] == faultless.runs[key]["tags"]
        assert set(store.runs[key]["ends"]) == {"FINISHED"}


def fill_nested(spool: Spool) -> None:
    """Two runs inside the run; the second one's own end never comes."""
    spool.append("start", name="n", experiment="e", tags={}, time=1)
    for child in ("a", "b"):
        spool.append("start", child=child, name=child, tags={}, time=2)
        spool.append("params", child=child, values={"lr": child})
    for step in range(30):
        spool.append("metrics", child="ab"[step % 2], step=step, time=step, values={"loss": 1.0})
        spool.append("metrics", step=step, time=step, values={"memory": 2.0})
    spool.append("end", child="a", status="FINISHED", time=3)
    spool.append("end", status="KILLED", time=4)


def test_nested_runs_get_their_own_lines_and_end_with_their_parent_at_the_latest(tmp_path: Path) -> None:
    for seed in range(10):
        spool, store = Spool.create(tmp_path, f"run {seed}"), FakeStore(np.random.default_rng(seed))
        fill_nested(spool)
        for _ in range(500):
            delivery = Delivery(Spool(spool.folder), "uri")  # as after a restart: only the files are left
            try:
                delivery.send_news(store)
            except OutageError:
                continue
            break
        key = spool.folder.name
        assert delivery.sent_all
        assert set(store.runs) == {key, f"{key}/a", f"{key}/b"}
        for number, child in enumerate("ab"):
            run = store.runs[f"{key}/{child}"]
            assert (run["parent"], run["params"]) == (key, {"lr": child})
            assert sorted(m[1] for m in run["metrics"]) == list(range(number, 30, 2))
        assert {m[0] for m in store.runs[key]["metrics"]} == {"memory"}
        assert set(store.runs[f"{key}/a"]["ends"]) == {"FINISHED"}
        assert set(store.runs[f"{key}/b"]["ends"]) == set(store.runs[key]["ends"]) == {"KILLED"}


def test_metrics_go_in_few_requests_and_in_their_order(tmp_path: Path) -> None:
    spool, store = Spool.create(tmp_path, "run"), FakeStore()
    spool.append("start", name="n", experiment="e", tags={}, time=1)
    for step in range(1000):
        spool.append("metrics", step=step, time=step, values={"loss": 1.0})
    spool.append("end", status="FINISHED", time=1)
    Delivery(spool, "uri").send_news(store)
    assert store.calls == ["metrics", "metrics", "end"]


def test_a_refused_line_is_left_out_by_name_and_the_others_arrive(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool, store = Spool.create(tmp_path, "run"), FakeStore(refuse="bad")
    spool.append("start", name="n", experiment="e", tags={}, time=1)
    for name in ("a", "bad", "c"):
        spool.append("metrics", step=0, time=0, values={name: 1.0})
    spool.append("end", status="FINISHED", time=1)
    with caplog.at_level(logging.WARNING):
        Delivery(spool, "uri").send_news(store)
    assert {m[0] for m in store.runs[spool.folder.name]["metrics"]} == {"a", "c"}
    assert "invalid bad" in caplog.text


def test_another_store_is_sent_everything_from_the_start(tmp_path: Path) -> None:
    spool, first, second = Spool.create(tmp_path, "run"), FakeStore(), FakeStore()
    fill(spool, steps=3)
    Delivery(spool, "first").send_news(first)
    Delivery(spool, "first").send_news(first)
    Delivery(spool, "second").send_news(second)
    assert first.runs[spool.folder.name]["ends"] == second.runs[spool.folder.name]["ends"] == ["FINISHED"]


def test_a_line_that_a_kill_cut_short_waits_and_a_garbled_one_is_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool.create(tmp_path, "run")
    spool.append("tags", values={"a": "1"})
    spool.news.write_bytes(spool.news.read_bytes() + b"\xff garbled\n" + b'{"kind": "tags", "val')
    assert [line["values"] for line, _ in spool.read(0)] == [{"a": "1"}]
    assert "garbled" in caplog.text
    spool.news.write_bytes(b'[1]\n{"no": "kind"}\n' + b"[" * 100_000 + b"\n")
    assert list(spool.read(0)) == []
    spool.news.write_bytes(b'{"kind": "tags", "values": {}}')
    assert list(spool.read(0)) == []
    spool.news.write_bytes(b'{"kind": "tags", "values": {}}\n')
    assert len(list(spool.read(0))) == 1


def test_a_spool_is_locked_while_its_holder_lives(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, "run")
    [seen] = waiting_spools(tmp_path)
    assert not seen.try_lock()
    spool.unlock()
    assert seen.try_lock()
    seen.unlock()


def test_two_threads_write_whole_lines(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, "run")

    def write(name: str) -> None:
        for i in range(200):
            spool.append("tags", values={f"{name}{i}": "x" * 300})

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    names = {name for line, _ in spool.read(0) for name in line["values"]}
    assert names == {f"{name}{i}" for name in "ab" for i in range(200)}


def test_a_kept_artifact_is_what_it_was_when_it_was_reported(tmp_path: Path) -> None:
    from nqcast.storage.verified import replace_file

    spool = Spool.create(tmp_path / "spool", "run")
    report = tmp_path / "report.md"
    replace_file(report, b"first")
    kept = spool.folder / "files" / spool.keep(report)
    replace_file(report, b"second, of a later run")
    assert kept.read_bytes() == b"first"
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "model").write_bytes(b"weights")
    assert (spool.folder / "files" / spool.keep(tmp_path / "checkpoint") / "model").read_bytes() == b"weights"


def session(folder: Path, connect: Any, **settings: Any) -> TrackedRun:
    config = TrackingConfig(**{"poll_interval": 0.01, "uri": "uri", "system_metrics": False, **settings})
    return TrackedRun(folder, "run", config, folder, connect)


def wait_until(arrived: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not arrived():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def _no_server_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_the_thread_survives_an_outage_and_tidies_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    answers = iter([OutageError("http://me:hunter2@host is down"), OutageError("still"), store])

    def connect(*_: object) -> FakeStore:
        answer = next(answers)
        if isinstance(answer, OutageError):
            raise answer
        return answer

    with caplog.at_level(logging.WARNING):
        mine = session(tmp_path, connect)
        mine.start("n", {})
        mine.metrics({"loss": 1.0})
        mine.close("FINISHED")
    [run] = store.runs.values()
    assert run["ends"] == ["FINISHED"]
    assert not list((tmp_path / "spool").iterdir())
    assert caplog.text.count("does not answer") == 1
    assert "hunter2" not in caplog.text


def test_no_error_of_a_look_or_of_a_sample_ends_the_thread(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that is half imported, as torch is while another thread imports it, has no attributes yet."""

    def half_imported(self: object) -> None:
        raise AttributeError("partially initialized module 'torch' has no attribute 'cuda'")

    monkeypatch.setattr("nqcast.tracking.tail.SystemSamples.sample", half_imported)
    monkeypatch.setattr("nqcast.tracking.tail.SystemSamples.__init__", lambda self: None)
    monkeypatch.setattr("nqcast.tracking.tail.MetricsTail.look", half_imported)
    store = FakeStore()
    mine = session(tmp_path, lambda *_: store, system_metrics=True, system_interval=0.01)
    with caplog.at_level(logging.WARNING):
        mine.start("n", {})
        time.sleep(0.2)
        mine.metrics({"loss": 1.0}, step=7)
        wait_until(lambda: any(run["metrics"] for run in store.runs.values()))
        mine.close("FINISHED")
    [run] = store.runs.values()
    assert [(name, step) for name, step, *_ in run["metrics"]] == [("loss", 7)]
    assert run["ends"] == ["FINISHED"]
    assert caplog.text.count("system metrics are left out for now") == 1


def test_a_slow_store_never_holds_up_who_reports(tmp_path: Path) -> None:
    release, store = threading.Event(), FakeStore()

    def connect(*_: object) -> FakeStore:
        release.wait(10)
        return store

    mine = session(tmp_path, connect, final_wait=0.1)
    mine.start("n", {})
    begun = time.monotonic()
    for step in range(500):
        mine.metrics({"loss": 1.0}, step)
    mine.close("KILLED")
    assert time.monotonic() - begun < 5
    release.set()
    wait_until(lambda: not list((tmp_path / "spool").iterdir()))
    [run] = store.runs.values()
    assert len(run["metrics"]) == 500


def test_the_end_of_a_line_that_a_kill_cut_short_does_not_swallow_the_next(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path / "spool", "run")
    spool.append("start", name="n", experiment="e", tags={}, time=1, uri="uri")
    with spool.news.open("ab") as file:
        file.write(b'{"kind": "tags", "val')
    spool.unlock()
    end_dead_runs(tmp_path)
    assert [line["kind"] for line, _ in spool.read(0)] == ["start", "end"]


def test_a_killed_runs_last_epochs_are_taken_up_before_a_later_run_writes_there(tmp_path: Path) -> None:
    """A kill between the last epoch and the next look: the file holds more than the spool."""
    metrics = tmp_path / "runs" / "fp" / "metrics.jsonl"
    metrics.parent.mkdir(parents=True)
    home = tmp_path / "09_tracking"
    spool = Spool.create(home / "spool", "run")
    spool.append("start", name="n", experiment="e", tags={}, time=1, uri="uri")
    tail = MetricsTail(spool, curves=("val_*",))
    tail.follow(metrics.parent)
    metrics.write_text("".join(json.dumps({"step": i, "val_loss": 1.0, "noise": 2.0}) + "\n" for i in range(8)))
    tail.look()
    with metrics.open("a") as file:
        file.write(json.dumps({"step": 8, "val_loss": 1.0, "noise": 2.0}) + "\n")
    spool.unlock()  # as the kernel does for a dead process
    copied = shutil.copytree(tmp_path, tmp_path.with_name("copied"))
    for root in (tmp_path, Path(copied)):
        end_dead_runs(root / "09_tracking")
        end_dead_runs(root / "09_tracking")
        [ended] = waiting_spools(root / "09_tracking" / "spool")
        lines = [line for line, _ in ended.read(0)]
        assert [(line["step"], line["values"]) for line in lines if line["kind"] == "metrics"] == [
            (step, {"val_loss": 1.0}) for step in range(9)
        ]
        assert [line["status"] for line in lines if line["kind"] == "end"] == ["KILLED"]


def test_the_next_run_sends_what_an_outage_kept_back_and_leaves_what_is_for_another_store(tmp_path: Path) -> None:
    """The same store's news follow those of the run that finds them; a living run's stay its own."""

    def down(*_: object) -> FakeStore:
        raise OutageError("no answer")

    for uri in ("http://here", "http://me:hunter2@there"):
        lost = session(tmp_path, down, final_wait=0.0, uri=uri)
        lost.start("lost", {})
        lost.metrics({"loss": 1.0})
        lost.close("FINISHED")
        lost._spool.unlock()
    alive = Spool.create(tmp_path / "spool", "alive")
    alive.append("start", name="n", experiment="e", tags={}, time=1, uri="http://here")
    assert b"hunter2" not in b"".join(path.read_bytes() for path in tmp_path.rglob("news.jsonl"))
    store = FakeStore()
    mine = session(tmp_path, lambda *_: store, uri="http://here")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nqcast.tracking.replay.MlflowStore", lambda *_: store)
        mine.start("mine", {})
        mine.close("FINISHED")
    assert len(store.runs) == 2
    assert all(run["ends"] == ["FINISHED"] for run in store.runs.values())
    assert len(waiting_spools(tmp_path / "spool")) == 2


def test_a_spool_that_is_a_link_is_left_alone(tmp_path: Path) -> None:
    """Ending its run would write to where the link leads."""
    elsewhere = Spool.create(tmp_path / "elsewhere", "run")
    elsewhere.append("start", name="n", experiment="e", tags={}, time=1, uri="uri")
    elsewhere.unlock()
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "run").symlink_to(elsewhere.folder)
    end_dead_runs(tmp_path)
    assert [line["kind"] for line, _ in elsewhere.read(0)] == ["start"]


def test_one_spool_in_trouble_keeps_no_other_from_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "spool" / "a" / "news.jsonl").mkdir(parents=True)
    ended = []
    for name in "bc":
        spool = Spool.create(tmp_path / "spool", name)
        spool.append("start", name="n", experiment="e", tags={}, time=1, uri="uri")
        spool.unlock()
        ended.append(spool)
    (ended[0].folder / ".lock").unlink()
    (ended[0].folder / ".lock").mkdir()
    end_dead_runs(tmp_path)
    assert [line["kind"] for line, _ in ended[1].read(0)] == ["start", "end"]
    assert f"{ended[0].folder.name}: not ended" in caplog.text
