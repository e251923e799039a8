"""The hook against a real MLflow server: what arrives, how runs end, and what an outage costs."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nqcast.storage.lock import is_held
from nqcast.tracking.logger import NestedRun, follow, nested
from nqcast.tracking.replay import main, send_waiting

pytestmark = [
    pytest.mark.slow,
    # MLflow's own models of its SQLite store
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
]

PARAMETERS = {
    "quantiles": [0.05, 0.5],
    "train": {"lr": 1e-4, "resume": "auto", "device": None, "amp": True},
    "vendor": {"api_key": "db-0123456789abcdefghij", "url": "https://me:hunter2@host/x"},
    "note": "x" * 900,
    "unread": {"backtest": 1.0},
}


def write_metrics(root: Path, steps: range, run: str = "fingerprint") -> None:
    folder = root / run
    folder.mkdir(parents=True, exist_ok=True)
    follow(folder)
    with (folder / "metrics.jsonl").open("a") as file:
        for step in steps:
            file.write(
                json.dumps({"step": step, "epoch": step // 2, "val_loss": 1 / (1 + step), "skipped": None}) + "\n"
            )


def client_of(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(uri)


def runs_of(uri: str, experiment: str) -> list[Any]:
    client = client_of(uri)
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []


def history(uri: str, run_id: str) -> list[tuple[int, float]]:
    return [(metric.step, metric.value) for metric in client_of(uri).get_metric_history(run_id, "val_loss")]


def wait_for_history(uri: str, experiment: str, length: int) -> list[tuple[int, float]]:
    """The steps of the experiment's run once there are `length`, or what is there after half a minute."""
    seen: list[tuple[int, float]] = []
    deadline = time.monotonic() + 30
    while len(seen) < length and time.monotonic() < deadline:
        time.sleep(0.1)
        seen = [step for run in runs_of(uri, experiment) for step in history(uri, run.info.run_id)]
    return seen


def expected(steps: range) -> list[tuple[int, float]]:
    return [(step, 1 / (1 + step)) for step in steps]


def test_a_run_arrives_with_parameters_live_metrics_tags_and_artifacts(
    server: Any, tracked_run: Callable[..., Path]
) -> None:
    seen_live: list[list[tuple[int, float]]] = []

    def train(root: Path) -> dict:
        write_metrics(root, range(3))
        seen_live.append(wait_for_history(server.uri, "live", 3))
        write_metrics(root, range(3, 5))
        return {"model": {"15m": {"skill": 0.19}, "set": "all anchors"}}

    folder = tracked_run(server.uri, train, {**PARAMETERS, "tracking": {"experiment": "live"}})
    [run] = runs_of(server.uri, "live")
    assert seen_live == [expected(range(3))]
    assert history(server.uri, run.info.run_id) == expected(range(5))
    assert run.info.status == "FINISHED"
    assert run.data.params["train.lr"] == "0.0001"
    assert "unread.backtest" not in run.data.params  # what no node of this pipeline reads
    assert run.data.params["train.device"] == "None"
    assert run.data.params["quantiles"] == "[0.05, 0.5]"
    assert run.data.params["vendor.api_key"] == "[redacted]"
    assert run.data.params["vendor.url"] == "https://[redacted]@host/x"
    assert len(run.data.params["note"]) == 500
    assert "900 characters" in run.data.params["note"]
    assert run.data.metrics["scores/model/15m/skill"] == 0.19
    assert run.data.tags["kedro.pipeline"] == "train"
    assert len(run.data.tags["data.scores.sha256"]) == 64
    artifacts = [item.path for item in client_of(server.uri).list_artifacts(run.info.run_id)]
    assert artifacts == ["scores.json"]
    assert not list((folder / "spool").iterdir())


def test_a_failed_run_is_failed_and_its_error_keeps_no_secret(server: Any, tracked_run: Callable[..., Path]) -> None:
    def train(root: Path) -> dict:
        raise ValueError("no route to https://me:hunter2@vendor/x")

    with pytest.raises(ValueError, match="no route"):
        tracked_run(server.uri, train, {"tracking": {"experiment": "failing"}})
    [run] = runs_of(server.uri, "failing")
    assert run.info.status == "FAILED"
    assert "no route" in run.data.tags["error"]
    assert "hunter2" not in run.data.tags["error"]


SCRIPT = """
import json, sys, time
from pathlib import Path
from nqcast.hooks.signals import SignalHook
from nqcast.tracking.hook import TrackingHook
from nqcast.tracking.logger import follow

class Context:
    project_path = Path(sys.argv[1])
    params = {"tracking": {"experiment": sys.argv[2]}}
    config_loader = {"globals": {"data": "data"}}

hook = TrackingHook()
hook.after_context_created(Context)
signals = SignalHook(close=hook.close_as_killed)
signals.before_pipeline_run({})
begun = time.perf_counter()
from kedro.io import DataCatalog
from kedro.pipeline import pipeline
hook.before_pipeline_run({"run_id": "session", "pipeline_names": ["train"]}, pipeline([]), DataCatalog())
spent = time.perf_counter() - begun
root = Context.project_path / "runs"
(root / "fp").mkdir(parents=True)
hook.after_dataset_loaded("run_directory", root)
follow(root / "fp")
(root / "fp" / "metrics.jsonl").write_text(json.dumps({"step": 0, "val_loss": 1.0}) + "\\n")
print("training", flush=True)
end = time.monotonic() + float(sys.argv[3])
while time.monotonic() < end and not (Context.project_path / "end").exists():
    time.sleep(0.02)
begun = time.perf_counter()
hook.after_pipeline_run()
signals.after_pipeline_run()
print("cost", spent + time.perf_counter() - begun, flush=True)
"""


def run_script(project: Path, uri: str, experiment: str, seconds: float) -> subprocess.Popen[str]:
    project.mkdir()
    mine = {"MLFLOW_TRACKING_URI": uri, "PYTHONWARNINGS": "ignore"}
    others = ("NQCAST_DATA", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    environment = {**{name: value for name, value in os.environ.items() if name not in others}, **mine}
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(project), experiment, str(seconds)],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment, cwd=project,
    )  # fmt: skip


def told(process: subprocess.Popen[str], word: str) -> str:
    """What the script says after `word`, past whatever is logged before."""
    assert process.stdout is not None
    said = next((line for line in iter(process.stdout.readline, "") if line.startswith(word)), None)
    assert said is not None, f"the script ended without saying {word!r}"
    return said.removeprefix(word)


def cost_of(process: subprocess.Popen[str]) -> float:
    """Seconds that tracking took of a script's run; no thread of it may then keep the process from leaving."""
    cost = float(told(process, "cost"))
    assert process.wait(timeout=15) == 0
    return cost


@pytest.mark.parametrize(("kind", "work"), [("never answers", 3.0), ("never answers", 0.0), ("down", 0.0)])
def test_a_store_that_does_not_answer_costs_less_than_five_seconds(
    kind: str, work: float, black_hole: str, tmp_path: Path
) -> None:
    uri = black_hole if kind == "never answers" else "http://127.0.0.1:9"
    with run_script(tmp_path / "project", uri, "unreachable", work) as process:
        told(process, "training")
        assert cost_of(process) <= 4.0
    assert len(list((tmp_path / "project" / "data" / "09_tracking" / "spool").iterdir())) == 1


def test_what_an_outage_in_mid_run_held_back_arrives_once_by_replay(server: Any, line: Any, tmp_path: Path) -> None:
    project = tmp_path / "project"
    folder, metrics = project / "data" / "09_tracking", project / "runs" / "fp" / "metrics.jsonl"
    with run_script(project, line.uri, "outage", 60) as process:
        told(process, "training")
        assert wait_for_history(server.uri, "outage", 1) == expected(range(1))
        line.cut()
        write_metrics(project / "runs", range(1, 6), "fp")
        (project / "end").touch()
        assert cost_of(process) <= 4.0
    write_metrics(project / "runs", range(6, 9), "fp")  # a later run's, which this one must not report
    assert metrics.read_text().count("\n") == 9
    assert main(["--folder", str(folder)]) == 1  # still down
    line.mend()
    assert main(["--folder", str(folder)]) == 0
    assert main(["--folder", str(folder)]) == 0
    runs = runs_of(server.uri, "outage")
    assert [run.info.status for run in runs] == ["FINISHED"]
    assert history(server.uri, runs[0].info.run_id) == expected(range(6))


def wait_until_free(spools: list[Path]) -> None:
    """A killed run's lock outlives it where it was about to start git: the child holds it until it is git."""
    deadline = time.monotonic() + 30
    while any(is_held(spool) for spool in spools):
        assert time.monotonic() < deadline, "a dead run's lock is held"
        time.sleep(0.02)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_killed_run_is_killed_in_the_store_too(sent: signal.Signals, server: Any, tmp_path: Path) -> None:
    with run_script(tmp_path / "project", server.uri, sent.name, 60) as process:
        told(process, "training")
        if sent != signal.SIGKILL:  # nothing can be known of how far a SIGKILL lets the sender come
            assert wait_for_history(server.uri, sent.name, 1) == expected(range(1))
        process.send_signal(sent)
        process.communicate(timeout=60)
    assert process.returncode == 143 if sent == signal.SIGTERM else process.returncode != 0
    waiting = tmp_path / "project" / "data" / "09_tracking"
    left = list((waiting / "spool").iterdir())
    assert bool(left) == (sent == signal.SIGKILL)
    wait_until_free(left)
    assert send_waiting(waiting)
    runs = runs_of(server.uri, sent.name)
    assert [run.info.status for run in runs] == ["KILLED"]
    assert history(server.uri, runs[0].info.run_id) == expected(range(1))


def test_memory_and_load_arrive_under_the_names_of_the_system_metrics_page(
    server: Any, tracked_run: Callable[..., Path]
) -> None:
    def train(root: Path) -> dict:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and len(samples()) < 2:
            time.sleep(0.2)
        return {}

    def samples() -> list[Any]:
        runs = runs_of(server.uri, "system")
        return [
            metric
            for run in runs
            for metric in client_of(server.uri).get_metric_history(run.info.run_id, "system/process_memory_megabytes")
        ]

    tracked_run(server.uri, train, {"tracking": {"experiment": "system", "system_interval": 0.5}})
    [run] = runs_of(server.uri, "system")
    assert [metric.step for metric in samples()][:2] == [0, 1]
    found = {name.removeprefix("system/"): value for name, value in run.data.metrics.items()}
    assert 10 < found["process_memory_megabytes"] <= found["process_peak_memory_megabytes"] * 1.1
    assert 0 <= found["cpu_utilization_percentage"] <= 100
    assert 0 < found["system_memory_usage_percentage"] < 100


def trial(number: int) -> Any:
    return nested(NestedRun(f"tune_x/{number}", f"trial_000{number}", {"train.learning_rate": 0.001}, {"n": "x"}))


def test_nested_runs_arrive_while_they_live_and_stand_below_their_parent(
    server: Any, tracked_run: Callable[..., Path]
) -> None:
    def nested_ones() -> dict[str, Any]:
        runs = runs_of(server.uri, "nested")
        return {run.info.run_name: run for run in runs if "mlflow.parentRunId" in run.data.tags}

    def arrived(name: str) -> bool:
        return name in nested_ones() and "val_loss" in nested_ones()[name].data.metrics

    def tune(root: Path) -> dict:
        with trial(0) as run:
            write_metrics(root / "trial_0", range(3))
            run.metrics["best_val_loss"] = 0.25
        with trial(1) as run:
            write_metrics(root / "trial_1", range(2))
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline and not arrived("trial_0001"):
                time.sleep(0.2)
            assert nested_ones()["trial_0001"].info.status == "RUNNING"
            run.failed = True
        with trial(2):
            raise KeyboardInterrupt
        return {}

    with pytest.raises(KeyboardInterrupt):
        tracked_run(server.uri, tune, {"tracking": {"experiment": "nested"}})
    deadline = time.monotonic() + 30  # nobody ends the run that a stop has left; its nested runs have ended
    while time.monotonic() < deadline and "KILLED" not in {run.info.status for run in nested_ones().values()}:
        time.sleep(0.2)
    [parent] = [run for run in runs_of(server.uri, "nested") if "mlflow.parentRunId" not in run.data.tags]
    found = nested_ones()
    assert {run.data.tags["mlflow.parentRunId"] for run in found.values()} == {parent.info.run_id}
    assert [found[name].info.status for name in sorted(found)] == ["FINISHED", "FAILED", "KILLED"]
    assert found["trial_0000"].data.params == {"train.learning_rate": "0.001"}
    assert found["trial_0000"].data.metrics["best_val_loss"] == 0.25
    assert history(server.uri, found["trial_0000"].info.run_id) == expected(range(3))
    assert "val_loss" not in parent.data.metrics


def test_a_run_follows_its_own_run_directory_and_reads_a_finished_one_back_whole(
    server: Any, tracked_run: Callable[..., Path]
) -> None:
    """Another process's run of another fingerprint changes in the same folder at the same time."""

    def train(root: Path) -> dict:
        (root / "theirs").mkdir()
        (root / "theirs" / "metrics.jsonl").write_text('{"step": 77, "val_loss": 7.0}\n')
        if not (root / "mine").exists():
            write_metrics(root, range(4), "mine")
        follow(root / "mine")
        (root / "theirs" / "metrics.jsonl").unlink()
        (root / "theirs").rmdir()
        return {}

    for _ in range(2):  # the second time nothing is written
        tracked_run(server.uri, train, {"tracking": {"experiment": "own"}})
    runs = runs_of(server.uri, "own")
    assert len(runs) == 2
    assert [history(server.uri, run.info.run_id) for run in runs] == [expected(range(4))] * 2


def test_the_page_opens_on_training_and_runs_can_be_compared_by_name_data_and_headline(
    server: Any, tracked_run: Callable[..., Path]
) -> None:
    client = client_of(server.uri)
    for skill in (0.1, 0.3, 0.2):
        tracked_run(server.uri, lambda root, skill=skill: {"skill": skill}, {"tracking": {"experiment": "compared"}})
    experiment = client.get_experiment_by_name("compared")
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    best_first = client.search_runs([experiment.experiment_id], order_by=["metrics.`scores/skill` DESC"])
    assert [run.data.metrics["scores/skill"] for run in best_first] == [0.3, 0.2, 0.1]
    name = best_first[0].info.run_name
    assert re.fullmatch(r"train · \d\d \w{3} \d\d:\d\d", name), name
    assert "kedro run --pipelines train" in best_first[0].data.tags["mlflow.note.content"]


def test_headers_of_a_request_header_provider_reach_the_server(
    tmp_path: Path, tracked_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking.request_header import registry

    class Provider:
        def in_context(self) -> bool:
            return True

        def request_headers(self) -> dict[str, str]:
            return {"X-Own-Login": "let me in"}

    seen: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("X-Own-Login"))
            self.send_error(403)

        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setattr(registry._request_header_provider_registry, "_registry", [Provider()])
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, daemon=True)
        thread.start()
        settings = {"experiment": "headers", "final_wait": 2.0}
        tracked_run(f"http://127.0.0.1:{listener.server_port}", lambda root: {}, {"tracking": settings})
        listener.shutdown()
    assert seen and set(seen) == {"let me in"}


def test_without_a_uri_runs_go_to_a_sqlite_file_in_the_data_folder(tracked_run: Callable[..., Path]) -> None:
    def train(root: Path) -> dict:
        write_metrics(root, range(2))
        return {"skill": 0.1}

    folder = tracked_run(None, train)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    [run] = runs_of(uri, "nqcast")
    assert run.info.status == "FINISHED"
    assert history(uri, run.info.run_id) == expected(range(2))
    assert len(list((folder / "artifacts").rglob("scores.json"))) == 1
    assert not list((folder / "spool").iterdir())
