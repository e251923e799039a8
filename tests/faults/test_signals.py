"""A signal loses nothing: the step is finished, a checkpoint written, the tracked run closed, the way back told."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.faults.kedro_process import KedroProcess
from tests.kedro_command import kedro, output_of

from nqcast import stopping
from nqcast.signal_hook import SignalHook, resume_command

LONG = ("--pipelines", "train", "--params", "train.epochs=300,train.patience=300")


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with features, ready for training."""
    data = tmp_path_factory.mktemp("signals") / "data"
    output_of(kedro("run", "--env", "test", "--pipelines", "ingest,features", data=data))
    return data


def ends_of_tracked_runs(data: Path) -> list[str]:
    with sqlite3.connect(data / "09_tracking" / "mlflow.db") as store:
        return [status for (status,) in store.execute("select status from runs order by start_time")]


@pytest.mark.slow
def test_signals_in_training_leave_a_checkpoint_the_same_command_goes_on_from(features: Path) -> None:
    """SIGTERM under the sequential runner, then SIGINT under the thread runner, then a changed parameter."""
    first = KedroProcess("run", "--env", "test", *LONG, data=features)
    first.wait_for("epoch   1")
    first.send(signal.SIGTERM)
    status, _ = first.end()
    assert status == 143, first.output
    command = f"NQCAST_DATA={features} kedro run --env test {' '.join(LONG)}"
    assert f"stopped by SIGTERM. This goes on from here: {command}" in first.output
    assert "Traceback" not in first.output
    assert ends_of_tracked_runs(features)[-1] == "KILLED"
    assert not (features / "08_reporting" / "validation_metrics.json").exists()

    second = KedroProcess("run", "--env", "test", *LONG, "--runner", "ThreadRunner", data=features)
    second.wait_for("resuming from checkpoint_epoch_0001")
    second.wait_for("epoch   2")
    second.send(signal.SIGINT)
    status, _ = second.end()
    assert status == 130, second.output
    assert ends_of_tracked_runs(features)[-1] == "KILLED"
    (card,) = (features / "06_models" / "runs").glob("*/run.json")
    assert json.loads(card.read_text())["status"] == "unfinished"

    changed = (*LONG[:-1], f"{LONG[-1]},train.learning_rate=0.02")
    text = output_of(kedro("run", "--env", "test", *changed, data=features), fails=True)
    assert "train.learning_rate: saved 0.001, now 0.02" in text
    assert "train.resume=never" in text and "Traceback" not in text
    short = ("--pipelines", "train", "--params", "train.learning_rate=0.02,train.resume=never")
    output_of(kedro("run", "--env", "test", *short, data=features))


@pytest.mark.slow
def test_a_second_interrupt_ends_the_process_at_once_and_harms_nothing(features: Path) -> None:
    parameters = "train.seed=5,train.epochs=300,train.patience=300,train.accumulation=8,train.resume=never"
    run = KedroProcess("run", "--env", "test", "--pipelines", "train", "--params", parameters, data=features)
    run.wait_for("epoch   0")
    run.send(signal.SIGINT)
    run.wait_for("finishing the step")
    run.send(signal.SIGINT)
    status, seconds = run.end()
    assert status == 130, run.output
    assert seconds < 5
    if "again: stopped at once" in run.output:  # else the step was over first
        assert "train.resume=auto" in run.output
    again = parameters.replace("train.epochs=300", "train.epochs=1").replace("train.resume=never", "train.resume=auto")
    output_of(kedro("run", "--env", "test", "--pipelines", "train", "--params", again, data=features))


@pytest.mark.slow
def test_a_second_run_names_the_holder_and_leaves_and_a_dead_holders_lock_is_taken_over(features: Path) -> None:
    chosen = ("run", "--env", "test", "--pipelines", "train", "--params", "train.seed=9,train.epochs=300")
    holder = KedroProcess(*chosen, data=features)
    holder.wait_for("epoch   0")
    try:
        text = output_of(kedro(*chosen, data=features), fails=True)
    finally:
        holder.send(signal.SIGKILL)
        holder.end()
    assert "found it held by process" in text and "Traceback" not in text
    output_of(kedro(*chosen[:-1], "train.seed=9,train.epochs=1", data=features))


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["SequentialRunner", "ThreadRunner"])
def test_a_signal_while_features_are_built_leaves_no_half_written_version(runner: str, tmp_path: Path) -> None:
    chosen = ("--pipelines", "ingest,features", "--runner", runner)
    run = KedroProcess("run", "--env", "test", *chosen, data=tmp_path)
    run.wait_for("ingest: ")
    run.send(signal.SIGTERM)
    status, seconds = run.end()
    assert status == 143, run.output
    assert seconds < 10
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
from nqcast.signal_hook import SignalHook
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


def test_the_command_that_resumes_is_the_same_one_and_never_starts_anew() -> None:
    arguments = ["/opt/x/bin/kedro", "run", "--params", "bars=my file.csv,train.resume=never"]
    assert resume_command(arguments, {}) == "kedro run --params 'bars=my file.csv,train.resume=auto'"
    assert resume_command(["/x/__main__.py"], {"NQCAST_DATA": "/a b"}) == "NQCAST_DATA='/a b' python -m nqcast"
