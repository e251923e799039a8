"""The hook without a store: light to import, silent when switched off, harmless when it cannot write."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from nqcast.storage.checkpoint import Checkpoint, Metadata
from nqcast.tracking.config import TrackingConfig
from nqcast.tracking.facts import fingerprint_tags, git_tags, recipe_fingerprint, run_name, run_tags, source_of
from nqcast.tracking.hook import walk_forward_loss
from nqcast.tracking.logger import TrackedRun
from nqcast.tracking.store import destination


def test_importing_the_hook_imports_neither_mlflow_nor_torch() -> None:
    code = "import sys, nqcast.tracking.hook; assert not {'mlflow', 'torch', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_tracking_that_is_switched_off_writes_nothing_and_starts_nothing(tracked_run: Callable[..., Path]) -> None:
    folder = tracked_run("http://127.0.0.1:9", lambda root: {"skill": 1.0}, {"tracking": {"enabled": False}})
    assert not folder.exists()


def test_a_run_goes_on_untracked_where_no_spool_can_be_made(
    tracked_run: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a projéct" / "data").write_text("a file where the data folder should be")
    with caplog.at_level(logging.WARNING):
        tracked_run("http://127.0.0.1:9", lambda root: {"skill": 1.0})
    assert "goes on untracked" in caplog.text


def test_sqlite_beside_the_spool_is_the_default_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    default = destination(tmp_path, None)
    assert default.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert default.artifacts == tmp_path / "artifacts"
    assert default.is_local
    assert destination(tmp_path, "http://host").uri == "http://host"
    monkeypatch.chdir(tmp_path)
    assert destination(tmp_path, "sqlite:///mlflow.db") == default  # as the page on serving has it exported
    assert destination(tmp_path, "sqlite:///other.db").artifacts is None
    assert "hunter2" not in destination(tmp_path, "http://me:hunter2@other").shown
    assert not destination(tmp_path, "http://host").is_local


def test_the_standard_variable_wins_over_the_parameter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@other")
    session = TrackedRun(tmp_path, "run", TrackingConfig(uri="http://host"), tmp_path)
    assert session._place.uri == "http://me:hunter2@other"


def test_git_tags_are_the_commit_and_whether_it_was_changed(tmp_path: Path) -> None:
    identity = {f"GIT_{who}_{what}": "x@y" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = {**os.environ, **identity}

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(tmp_path), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()

    assert git_tags(tmp_path / "nowhere") == {}
    git("init", "-q")
    (tmp_path / "a.py").write_text("1")
    git("add", "a.py")
    git("commit", "-q", "-m", "x")
    assert git_tags(tmp_path) == {"mlflow.source.git.commit": git("rev-parse", "HEAD"), "git.dirty": "false"}
    (tmp_path / "a.py").write_text("2")
    assert git_tags(tmp_path)["git.dirty"] == "true"


def test_run_tags_name_session_pipelines_and_environment() -> None:
    tags = run_tags({"run_id": "s", "pipeline_names": ["ingest", "features"], "env": "nq", "runner": None}, "0.1.0")
    assert tags["kedro.session_id"] == "s"
    assert tags["kedro.pipeline"] == "ingest,features"
    assert tags["kedro.env"] == "nq"
    assert "kedro.runner" not in tags
    assert run_tags({"pipeline_names": None}, "0.1.0")["kedro.pipeline"] == "__default__"


def test_a_run_is_named_by_what_was_asked_for_and_when_without_a_secret() -> None:
    changes = {"train": {"learning_rate": 0.01}, "bars": "/home/me/nq.csv", "api_key": "hunter2"}
    asked = {"pipeline_names": ["train"], "runtime_params": changes}
    name = run_name(asked, datetime(2026, 11, 28, 13, 19))
    assert name == "train learning_rate=0.01 bars=nq.csv api_key=[redacted] · 28 Nov 13:19"
    assert run_name({"pipeline_names": None}, datetime(2026, 1, 2, 3, 4)) == "all · 02 Jan 03:04"


def test_the_source_of_a_table_is_what_travels_with_it() -> None:
    table = pd.DataFrame({"ts": []})
    assert source_of(table) == source_of({"attrs": {"source": "x"}}) == source_of(None) == ""
    table.attrs["source"] = "nq.parquet"
    assert source_of(table) == "nq.parquet"


def test_every_environment_has_an_experiment_and_a_model_of_its_own() -> None:
    def names(env: str | None, **own: str) -> tuple[str | None, str | None]:
        config = TrackingConfig(**own).named(env)
        return config.experiment, config.registered_model

    assert names(None) == names("local") == names("base") == ("nqcast", "nqcast")
    assert names("nq") == ("nqcast_nq", "nqcast_nq")
    assert names("nq", experiment="mine") == ("mine", "nqcast_nq")


def test_fingerprints_are_taken_from_a_checkpoint_only() -> None:
    checkpoint = Checkpoint({}, Metadata(fingerprint="abc", epoch=3))
    assert fingerprint_tags(checkpoint) == {"fingerprint": "abc"}
    assert fingerprint_tags([1, 2]) == fingerprint_tags({"metadata": "x"}) == {}


def test_a_recipe_is_named_by_what_it_computes_and_not_by_where_or_on_which_bars() -> None:
    parameters: dict = {"train": {"learning_rate": 1e-3, "device": "cpu", "epochs": 3}, "model": {"size": "test"}}
    name = recipe_fingerprint(parameters)
    assert recipe_fingerprint({**parameters, "split": {"train": 0.5}, "bars": "x.csv"}) == name
    assert recipe_fingerprint({**parameters, "train": {**parameters["train"], "device": "cuda"}}) == name
    assert recipe_fingerprint({**parameters, "train": {**parameters["train"], "epochs": 4}}) != name
    assert recipe_fingerprint({**parameters, "model": {"size": "full"}}) != name


def test_folds_that_fit_other_constants_are_other_anchors() -> None:
    def scores(constants: float) -> dict:
        table = {"model": {"mean": {"mean_pinball": 2e-4}}, "constants": {"mean": {"mean_pinball": constants}}}
        return {"anchors": "9 anchors", "table": table}

    assert walk_forward_loss(scores(3e-4)) == (2e-4, "9 anchors; constants 0.0003")
    assert walk_forward_loss(scores(3e-4))[1] != walk_forward_loss(scores(4e-4))[1]


def test_tensorboard_that_is_missing_ends_the_run_before_it_begins(
    tracked_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ValueError, match=r"pip install 'nqcast\[loggers\]'.*leave tracking\.tensorboard off"):
        tracked_run("http://127.0.0.1:9", lambda root: {"skill": 1.0}, {"tracking": {"tensorboard": True}})


def test_an_unknown_or_bad_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="experimnt"):
        TrackingConfig(**{"experimnt": "x"})
    with pytest.raises(ValidationError, match="experiment"):
        TrackingConfig(experiment="x" * 501)  # the store would refuse the run, and its news would wait for ever
    with pytest.raises(ValidationError, match="final_wait"):
        TrackingConfig(final_wait=-1)
