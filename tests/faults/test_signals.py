"""A signal loses nothing: the step is finished, a checkpoint written, the tracked run closed, the way back told."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults.kedro_process import KedroProcess
from tests.kedro_command import kedro, newest, output_of

from nqcast import stopping
from nqcast.hooks.signals import SignalHook, resume_command

LONG = ("--pipelines", "train", "--params", "train.epochs=300,train.patience=300")


@pytest.fixture
def data(toy_features: Path, tmp_path: Path) -> Path:
    """A data folder of the test's own, with features."""
    return Path(shutil.copytree(toy_features, tmp_path / "data"))


def ends_of_tracked_runs(data: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(data / "09_tracking" / "mlflow.db")) as store:
        return [status for (status,) in store.execute("select status from runs order by start_time")]


@pytest.mark.slow
def test_signals_in_training_leave_a_checkpoint_the_same_command_goes_on_from(data: Path) -> None:
    """SIGTERM under the sequential runner, then SIGINT under the thread runner, then a changed parameter."""
    first = KedroProcess("run", "--env", "test", *LONG, data=data)
    first.wait_for("epoch   1")
    first.send(signal.SIGTERM)
    status, _ = first.end()
    assert status == 143, first.output
    command = f"NQCAST_DATA={data} kedro run --env test {' '.join(LONG)}"
    assert f"stopped by SIGTERM. This goes on from here: {command}" in first.output
    assert "Traceback" not in first.output
    assert ends_of_tracked_runs(data)[-1] == "KILLED"
    assert not (data / "08_reporting" / "validation_metrics.json").exists()

    second = KedroProcess("run", "--env", "test", *LONG, "--runner", "ThreadRunner", data=data)
    second.wait_for("resuming from checkpoint_epoch_0001")
    second.wait_for("epoch   2")
    second.send(signal.SIGINT)
    status, _ = second.end()
    assert status == 130, second.output
    assert ends_of_tracked_runs(data)[-1] == "KILLED"
    (card,) = (data / "06_models" / "runs").glob("*/run.json")
    assert json.loads(card.read_text())["status"] == "unfinished"

    changed = (*LONG[:-1], f"{LONG[-1]},train.learning_rate=0.02")
    text = output_of(kedro("run", "--env", "test", *changed, data=data), fails=True)
    assert "train.learning_rate: saved 0.001, now 0.02" in text
    assert "train.resume=never" in text and "Traceback" not in text
    short = ("--pipelines", "train", "--params", "train.learning_rate=0.02,train.resume=never")
    output_of(kedro("run", "--env", "test", *short, data=data))


# Warm-up lasts to the run's end, four steps and one validation an epoch.
HELD = ("--pipelines", "train", "--params", "train.warmup_steps=1000,train.epochs=2,train.seed=4")


def end_of_training(data: Path) -> dict[str, Any]:
    """The checkpoint's files, the history and the metrics by step: what an interruption must not change."""
    checkpoint = newest(data / "06_models" / "checkpoint")
    (log,) = (data / "06_models" / "runs").glob("*/metrics.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return {
        "files": {path.name: path.read_bytes() for path in checkpoint.rglob("*.safetensors")},
        "history": json.loads((data / "08_reporting" / "history.json").read_text()),
        "lines": [{k: v for k, v in line.items() if k != "validation_seconds"} for line in lines],
    }


@pytest.fixture(scope="module")
def undisturbed(toy_features: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The end of HELD in one go."""
    data = tmp_path_factory.mktemp("undisturbed") / "data"
    shutil.copytree(toy_features, data)
    output_of(kedro("run", "--env", "test", *HELD, data=data))
    return end_of_training(data)


@pytest.mark.slow
@pytest.mark.parametrize(
    "runners",
    [
        ("SequentialRunner", "ThreadRunner"),
        pytest.param(("ThreadRunner", "SequentialRunner"), marks=pytest.mark.nightly),
    ],
)
def test_stops_in_warm_up_and_in_validation_end_bit_equal_under_either_runner(
    runners: tuple[str, str], data: Path, undisturbed: dict[str, Any]
) -> None:
    """SIGTERM in the second step of warm-up, then SIGINT in the first validation, then the same command to the end."""
    stops = [("step", signal.SIGTERM, 143), ("validation", signal.SIGINT, 130)]
    for runner, (place, number, code) in zip(runners, stops, strict=True):
        run = KedroProcess("run", "--env", "test", *HELD, "--runner", runner, data=data, held=place)
        run.wait_for(f"held in {place}")
        run.send(number)
        status, _ = run.end()
        assert status == code, run.output
        assert f"stopped by {number.name}. This goes on from here: NQCAST_DATA=" in run.output
        assert "Traceback" not in run.output
        assert ends_of_tracked_runs(data)[-1] == "KILLED"
    text = output_of(kedro("run", "--env", "test", *HELD, data=data))
    assert "resuming from checkpoint_epoch_0000_batch" in text
    assert end_of_training(data) == undisturbed


@pytest.mark.slow
def test_a_second_interrupt_ends_the_process_at_once_and_harms_nothing(data: Path, undisturbed: dict[str, Any]) -> None:
    """Both fall into one long step; the tracked run is closed all the same, and nothing but that step is lost."""
    run = KedroProcess("run", "--env", "test", *HELD, data=data, held="step")
    run.wait_for("held in step")
    run.send(signal.SIGINT)
    run.wait_for("finishing the step")
    run.send(signal.SIGINT)
    status, seconds = run.end()
    assert status == 130, run.output
    assert "SIGINT again: stopped at once" in run.output
    assert seconds < 3.5  # the step alone would have been held for four
    assert ends_of_tracked_runs(data)[-1] == "KILLED"
    output_of(kedro("run", "--env", "test", *HELD, data=data))
    assert end_of_training(data) == undisturbed


@pytest.mark.slow
def test_a_signal_reaches_the_processes_that_share_a_run_and_it_goes_on_to_the_end_of_one_process(data: Path) -> None:
    """SIGTERM to `kedro run` with train.devices=2; the same command then ends with the weights of one process."""
    chosen = "train.seed=6,train.accumulation=2,train.windows_per_epoch=1024,train.patience=99,train.epochs"
    shared = ("run", "--env", "test", "--pipelines", "train", "--params", f"train.devices=2,{chosen}=99")
    run = KedroProcess(*shared, data=data)
    run.wait_for("epoch   1")
    run.send(signal.SIGTERM)
    status, _ = run.end()
    assert status == 143, run.output
    assert "stopped by SIGTERM. This goes on from here: " in run.output and "Traceback" not in run.output
    assert ends_of_tracked_runs(data)[-1] == "KILLED"
    (log,) = (data / "06_models" / "runs").glob("*/metrics.jsonl")
    reached = max(json.loads(line).get("epoch", 0) for line in log.read_text().splitlines())
    alone = shutil.copytree(data, data.parent / "alone", ignore=shutil.ignore_patterns("06_models"))
    last = str(reached + 1)
    assert "resuming from " in output_of(kedro(*shared[:-1], f"train.devices=2,{chosen}={last}", data=data))
    output_of(kedro(*shared[:-1], f"{chosen}={last}", data=alone))
    assert end_of_training(data) == end_of_training(alone)


@pytest.mark.slow
def test_a_second_run_names_the_holder_and_leaves_and_a_dead_holders_lock_is_taken_over(data: Path) -> None:
    chosen = ("run", "--env", "test", "--pipelines", "train", "--params", "train.seed=9,train.epochs=300")
    holder = KedroProcess(*chosen, data=data)
    holder.wait_for("epoch   0")
    try:
        text = output_of(kedro(*chosen, data=data), fails=True)
    finally:
        holder.send(signal.SIGKILL)
        holder.end()
    assert "found it held by process" in text and "Traceback" not in text
    output_of(kedro(*chosen[:-1], "train.seed=9,train.epochs=1", data=data))


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["ThreadRunner", pytest.param("SequentialRunner", marks=pytest.mark.nightly)])
def test_a_signal_while_features_are_built_leaves_no_half_written_version(runner: str, tmp_path: Path) -> None:
    chosen = ("--pipelines", "ingest,features", "--runner", runner)
    run = KedroProcess("run", "--env", "test", *chosen, data=tmp_path)
    run.wait_for("rows of 1-minute bars")
    run.send(signal.SIGTERM)
    status, _ = run.end()
    assert status == 143, run.output
    assert f"stopped by SIGTERM. This goes on from here: NQCAST_DATA={tmp_path} kedro run" in run.output
    assert not list((tmp_path / "04_feature").rglob("*.parquet"))
    assert ends_of_tracked_runs(tmp_path) == ["KILLED"]


@pytest.fixture
def hook() -> Iterator[SignalHook]:
    hook = SignalHook()
    hook.before_pipeline_run({"runner": "SequentialRunner"})
    yield hook
    hook.after_pipeline_run()
    stopping.forget()


def test_outside_of_training_a_signal_ends_the_run_where_it_stands(hook: SignalHook) -> None:
    with pytest.raises(stopping.RunStopped) as stopped:
        signal.raise_signal(signal.SIGTERM)
    assert stopped.value.code == 143
    with pytest.raises(stopping.RunStopped):
        hook.before_node_run()


@pytest.mark.parametrize(("seconds", "closed"), [(0.0, True), (60.0, False)], ids=["store answers", "store is silent"])
def test_a_second_interrupt_closes_the_tracked_run_or_leaves_without_it_in_time(seconds: float, closed: bool) -> None:
    """The handler interrupts a thread that holds what closing might need; the process leaves all the same."""
    program = f"""
import os, signal, sys, time
from nqcast import stopping
from nqcast.hooks.signals import SignalHook
def close():
    time.sleep({seconds})
    os.write(1, b"closed")
signal.signal(signal.SIGINT, signal.default_int_handler)
SignalHook(close).before_pipeline_run({{"runner": None}})
with stopping.finishing(lambda: None):
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 130, done.stderr
    assert "SIGINT again: stopped at once" in done.stderr
    assert done.stdout == ("closed" if closed else "")


def test_what_must_be_finished_is_told_once_and_the_run_ends_with_it(hook: SignalHook) -> None:
    told = []
    with pytest.raises(stopping.RunStopped), stopping.finishing(lambda: told.append(1)):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)  # a scheduler may repeat itself
        told.append("finished")
    assert told == [1, "finished"]


def test_a_stop_asked_for_before_training_reaches_it() -> None:
    told = []
    stopping.ask(signal.SIGTERM)
    try:
        with pytest.raises(stopping.RunStopped), stopping.finishing(lambda: told.append(1)):
            pass
    finally:
        stopping.forget()
    assert told == [1]


def test_handlers_of_the_users_own_stay_and_ours_go_with_the_run() -> None:
    own = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    hook = SignalHook()
    try:
        hook.before_pipeline_run({"runner": None})
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) == hook._on_signal
        hook.after_pipeline_run()
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, own)
        signal.signal(signal.SIGINT, interrupt)


def test_a_stop_that_is_over_leaves_no_trace_in_its_process() -> None:
    """A notebook or a test that survives a stop: the way back is told then, not at its end, and Ctrl-C is Ctrl-C."""
    program = """
import os, signal
from nqcast import stopping
from nqcast.hooks.signals import SignalHook
signal.signal(signal.SIGINT, signal.default_int_handler)
SignalHook().before_pipeline_run({"runner": None})
try:
    with stopping.finishing(lambda: None):
        signal.raise_signal(signal.SIGINT)
except stopping.RunStopped:
    os.write(2, b"goes on\\n")
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    os.write(2, b"interrupted as ever\\n")
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
assert stopping.asked() is None
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    *before, told, alive, interrupted = done.stderr.splitlines()
    assert "finishing the step" in "".join(before)
    assert told.startswith("stopped by SIGINT. This goes on from here")
    assert (alive, interrupted) == ("goes on", "interrupted as ever")


def test_the_way_back_holds_no_password() -> None:
    arguments = [
        "kedro",
        "run",
        "--params",
        "tracking.uri=http://me:hunter2@host/x,vendor.api_key=hunter2,train.epochs=3",
    ]
    told = resume_command(arguments, {})
    assert "hunter2" not in told
    assert "train.epochs=3" in told and "http://[redacted]@host/x" in told


def test_the_command_that_resumes_is_the_same_one_and_never_starts_anew() -> None:
    arguments = ["/opt/x/bin/kedro", "run", "--params", "bars=my file.csv,train.resume=never"]
    assert resume_command(arguments, {}) == "kedro run --params 'bars=my file.csv,train.resume=auto'"
    variables = {"NQCAST_DATA": "/a b", "NQCAST_WORK": "/c"}
    assert resume_command(["/x/__main__.py"], variables) == "NQCAST_DATA='/a b' NQCAST_WORK=/c python -m nqcast"
