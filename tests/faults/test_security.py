"""What comes from outside runs no code, writes nowhere else and cannot blow up."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import yaml
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog, DatasetError, Version
from kedro.pipeline import Node, Pipeline
from tests.kedro_command import PROJECT, environment

from nqcast.cli import check_config, run
from nqcast.datasets.placed import RunDirectoryDataset
from nqcast.datasets.verified import CheckpointDataset, VerifiedDataset
from nqcast.experiments.config import AblationConfig
from nqcast.hooks.parameters import refuse_interpolation
from nqcast.hooks.signals import resume_command
from nqcast.hooks.storage import StorageHook
from nqcast.parameters import ParameterError
from nqcast.redaction import without_secrets
from nqcast.storage.checkpoint import CheckpointError, read_checkpoint

CATALOGS = sorted((PROJECT / "conf").rglob("catalog*.yml"))


class Malicious:
    """Unpickled, it would leave a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["model.pt", "model.ckpt", "weights.bin", "model.pkl"])
def test_a_pickle_offered_as_a_checkpoint_is_refused_and_never_run(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    (tmp_path / name).write_bytes(pickle.dumps(Malicious(mark)))
    with pytest.raises(CheckpointError, match="pickles, which can run code"):
        read_checkpoint(tmp_path / name)
    with pytest.raises(CheckpointError, match="pickles, which can run code"):
        CheckpointDataset(filepath=str(tmp_path / name))
    folder = tmp_path / "checkpoint" / "2026-01-01T00.00.00.000Z" / "checkpoint"
    folder.mkdir(parents=True)
    (folder / name).write_bytes(pickle.dumps(Malicious(mark)))
    with pytest.raises(CheckpointError, match="pickles, which can run code"):
        read_checkpoint(folder)
    with pytest.raises(DatasetError):
        CheckpointDataset(filepath=str(tmp_path / "checkpoint")).load()
    assert not mark.exists()


def test_no_catalog_holds_pickles_or_remote_paths() -> None:
    assert len(CATALOGS) >= 5
    for file in CATALOGS:
        text = file.read_text()
        assert not re.search(r"pickle|joblib|https?://|s3://|gs://|ftp://", text, re.IGNORECASE), file
        for name, entry in yaml.safe_load(text).items():
            assert entry["type"].startswith(("nqcast.datasets.", "kedro.io.")), (file, name)


def test_mlflow_is_bound_to_loopback() -> None:
    text = (PROJECT / "Makefile").read_text()
    for line in re.findall(r"mlflow (?:ui|server).*", text):
        assert "--host 127.0.0.1" in line
    assert "0.0.0.0" not in text


def test_every_test_of_a_command_runs_without_leave_to_unpickle(tmp_path: Path) -> None:
    assert environment(tmp_path)["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


def bomb(levels: int) -> str:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (bomb(9), "found an alias"),
        ("run: {env: base}\n" + "# padding\n" * 20_000, "at most 100,000 bytes"),
        ("[" * 20_000, "at most 20 levels"),
        ("{a: " * 20_000, "at most 20 levels"),
        ("run: [", "expected options as YAML"),
    ],
)
def test_a_config_file_of_any_size_or_shape_is_refused_at_once(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.yml").write_text(text)
    with pytest.raises(click.BadParameter, match=message):
        check_config(tmp_path / "run.yml")


def test_a_config_file_of_options_is_read_as_ever(tmp_path: Path) -> None:
    (tmp_path / "run.yml").write_text("run: {env: base, params: {train: {epochs: 3}}}")
    check_config(tmp_path / "run.yml")
    with run.make_context("run", ["--config", str(tmp_path / "run.yml")]) as context:
        assert context.params["env"] == "base"
    (tmp_path / "run.yml").write_text(bomb(9))
    with pytest.raises(click.BadParameter, match="found an alias"):
        run.make_context("run", ["--config", str(tmp_path / "run.yml")])


@pytest.mark.parametrize(
    "given", [{"tracking": {"experiment": "x${oc.env:HOME}"}}, {"bars": "${oc.env:HOME}"}, {"a": [{"b": "${c}"}]},
              {"${oc.env:HOME}": 1}],
)  # fmt: skip
def test_the_environment_is_not_read_for_the_command_line(given: dict) -> None:
    with pytest.raises(ParameterError, match=r"found \$\{…\}"):
        refuse_interpolation(given)
    refuse_interpolation({"tracking": {"experiment": "x$HOME", "n": [1, None]}})


def test_no_line_that_is_printed_tells_a_password() -> None:
    command = ["kedro", "run", "--params", "tracking.uri=postgresql://me:hunter2@host/db,store.password=swordfish"]
    again = resume_command(command, {})
    assert again.startswith("kedro run --params") and "hunter2" not in again and "swordfish" not in again
    told = without_secrets("store.password: nothing reads it, found 'swordfish'", command)
    assert told == "store.password: nothing reads it, found '[redacted]'"
    assert "train.resume=auto" in resume_command(["kedro", "run", "--params", "train.resume=never"], {})


@pytest.mark.parametrize("name", ["/abs/elsewhere", "../up", "a/b", ".hidden", ""])
def test_a_variant_is_the_name_of_a_folder(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        AblationConfig(variants={name: {}})


def conf(tmp_path: Path, text: str) -> Path:
    for env in ("base", "local"):
        (tmp_path / "conf" / env).mkdir(parents=True)
    (tmp_path / "conf" / "base" / "parameters_x.yml").write_text(text)
    return tmp_path / "conf"


def test_a_tag_makes_no_object(tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    text = f"x: !!python/object/apply:os.mkdir ['{mark}']"
    loader = OmegaConfigLoader(str(conf(tmp_path, text)), base_env="base", default_run_env="local")
    with pytest.raises(Exception, match="could not determine a constructor"):
        loader["parameters"]
    assert not mark.exists()


def written(path: Path) -> tuple[Pipeline, DataCatalog]:
    pipeline = Pipeline([Node(lambda: {}, inputs=None, outputs="report", name="write")])
    return pipeline, DataCatalog({"report": VerifiedDataset(filepath=path.as_posix(), dataset="json.JSONDataset")})


@pytest.mark.parametrize("how", ["..", "a link to a folder", "a link to a file", "an absolute path"])
def test_an_output_outside_of_the_project_is_refused(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NQCAST_DATA", raising=False)
    project, outside = tmp_path / "project", tmp_path / "outside"
    (project / "data").mkdir(parents=True)
    outside.mkdir()
    (project / "data" / "link").symlink_to(outside)
    (project / "data" / "file.json").symlink_to(outside / "file.json")
    path = {
        "..": project / "data" / ".." / ".." / "outside" / "x.json",
        "a link to a folder": project / "data" / "link" / "x.json",
        "a link to a file": project / "data" / "file.json",
        "an absolute path": outside / "x.json",
    }[how]
    run = {"project_path": str(project)}
    with pytest.raises(DatasetError, match=r"expected report to be written below .*NQCAST_DATA"):
        StorageHook().before_pipeline_run(run, *written(path))
    assert not list(outside.iterdir())
    StorageHook().before_pipeline_run(run, *written(project / "data" / "x.json"))
    monkeypatch.setenv("NQCAST_DATA", str(outside))
    StorageHook().before_pipeline_run(run, *written(path))


@pytest.mark.parametrize("linked", ["09_tracking", "09_tracking/spool", "09_tracking/mlflow.db", "runs/fingerprint"])
def test_a_folder_that_a_run_writes_to_is_not_led_outside_by_a_link(
    linked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tracked run and the run directories are no files of the catalog, and are asked as well."""
    monkeypatch.delenv("NQCAST_DATA", raising=False)
    project, outside = tmp_path / "project", tmp_path / "outside"
    link = project / "data" / linked
    link.parent.mkdir(parents=True, exist_ok=True)
    outside.mkdir()
    hook = StorageHook()
    hook.after_context_created(SimpleNamespace(project_path=project, config_loader={"globals": {"data": "data"}}))
    runs = RunDirectoryDataset(filepath=str(project / "data" / "runs"), min_free_gb=0)
    asked = {"project_path": str(project)}, Pipeline([Node(print, inputs="runs", outputs=None)])
    hook.before_pipeline_run(*asked, DataCatalog({"runs": runs}))
    hook.after_pipeline_run()
    link.symlink_to(outside)
    with pytest.raises(DatasetError, match=r"to be written below .*found .*outside"):
        hook.before_pipeline_run(*asked, DataCatalog({"runs": runs}))


@pytest.mark.parametrize("name", ["../../elsewhere", "a/b", "..", ".hidden"])
def test_a_version_is_the_name_of_a_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="expected a version such as"):
        VerifiedDataset(filepath=str(tmp_path / "x.json"), dataset="json.JSONDataset", version=Version(name, None))
