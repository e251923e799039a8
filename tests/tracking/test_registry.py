"""A registered model forecasts as its checkpoint does, from a served process too; validation picks the champion."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distributions, requires
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kedro.io import Version
from packaging.requirements import Requirement
from tests.forecast.conftest import random_checkpoint
from tests.tracking.conftest import free_port

import nqcast
from nqcast.constants import HORIZONS, LEVELS
from nqcast.data.config import ScaleConfig
from nqcast.data.features import build_features
from nqcast.datasets.verified import CheckpointDataset, VerifiedDataset
from nqcast.evaluation.conformal import ConformalCalibration
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.tracking import registry
from nqcast.tracking.spool import Line
from nqcast.tracking.store import MlflowStore, destination

pytestmark = [
    pytest.mark.slow,
    # MLflow's own: models of its SQLite store, comparisons of pandas indices
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Operation with range is deprecated:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def forecaster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of random weights and its calibration."""
    root = tmp_path_factory.mktemp("models")
    features = build_features(build_bars(simulate(SimulationConfig(sessions=60, seed=7)), IngestConfig()).bars)
    checkpoint = random_checkpoint(features, ScaleConfig())
    CheckpointDataset(filepath=str(root / "checkpoint"), version=Version(None, "2026-01-01")).save(checkpoint)
    folder = root / "checkpoint" / "2026-01-01" / "checkpoint"
    calibration = ConformalCalibration(LEVELS, list(HORIZONS), checkpoint.weights_sha256)
    calibration.offset_HQ[:] = np.linspace(-0.2, 0.2, 7)
    VerifiedDataset(filepath=str(folder / "calibration.json"), dataset="json.JSONDataset").save(calibration.state())
    return folder


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tuple[MlflowStore, str]:
    """A SQLite store with one run."""
    store = MlflowStore(destination(tmp_path_factory.mktemp("mlflow"), None), 5.0)
    start = {"experiment": "nqcast", "time": int(1000 * time.time()), "tags": {}, "name": "train"}
    return store, store.ensure_run(start, "a run")


def line_of(name: str, promote: str, recipe: str = "") -> Line:
    return {"kind": "model", "name": name, "promote": promote, "recipe": recipe}


@pytest.fixture(scope="module")
def served(forecaster: Path, store: tuple[MlflowStore, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of `mlflow models serve -m models:/nqcast@champion`, a process of its own."""
    log, port = tmp_path_factory.mktemp("serve") / "log", free_port()
    registry.register_forecaster(store[0]._client, store[1], forecaster, line_of("nqcast", "validation"))
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/nqcast@champion"),
        *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)),
    ]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store[0]._place.uri, "PYTHONWARNINGS": "ignore"}
    environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, env=environment, start_new_session=True, cwd=log.parent
        )
    try:
        wait_until_it_answers(f"http://127.0.0.1:{port}/ping", process, log)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # its own session: this server and its workers only
        process.wait(timeout=30)


def wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    pytest.fail(f"no answer:\n{log.read_text()[-3000:]}")


def ask(url: str, bars: pd.DataFrame) -> Any:
    body = json.dumps({"dataframe_split": json.loads(bars.to_json(orient="split"))}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer, parse_constant=pytest.fail)["predictions"]  # NaN is no JSON


def test_a_served_model_answers_a_request_with_the_forecast_of_the_checkpoint(served: str, forecaster: Path) -> None:
    bars = registry.example_bars()
    answer = pd.DataFrame(ask(served, bars))
    expected = nqcast.load(forecaster).forecast(bars)
    assert len(answer) == len(HORIZONS) * len(LEVELS)
    np.testing.assert_allclose(answer["price_quantile"], expected["price_quantile"], rtol=1e-9)
    np.testing.assert_allclose(answer["return_quantile"], expected["return_quantile"], rtol=1e-9)
    assert (pd.to_datetime(answer["target_time"]) == expected["target_time"]).all()
    uncalibrated = nqcast.load(CheckpointDataset(filepath=str(forecaster.parents[1])).load()).forecast(bars)
    assert not np.allclose(uncalibrated["return_quantile"], expected["return_quantile"])


def test_bars_that_carry_no_forecast_are_answered_with_the_reason(served: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(served, registry.example_bars().tail(1000))
    assert refused.value.code == 400
    assert "at least 5520 five-minute bars" in refused.value.read().decode()


def test_the_model_brings_signature_example_requirements_and_no_pickle(model: Path) -> None:
    import mlflow

    info = mlflow.models.get_model_info(str(model))
    assert {"ts", "open", "high", "low", "close"} <= set(info.signature.inputs.required_input_names())
    assert "price_quantile" in info.signature.outputs.input_names()
    requirements = (model / "requirements.txt").read_text()
    assert "torch==" in requirements and "safetensors==" in requirements
    files = [path for path in model.rglob("*") if path.is_file()]
    assert not [path for path in files if path.suffix in {".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib"}]
    example = mlflow.models.Model.load(str(model)).load_input_example(str(model))
    forecast = mlflow.pyfunc.load_model(str(model)).predict(example)
    assert (forecast.groupby("horizon")["price_quantile"].diff().dropna() >= 0).all()


@pytest.fixture(scope="module")
def model(forecaster: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model"
    registry.save_served_model(forecaster, path)
    return path


def test_it_forecasts_in_an_environment_that_holds_its_own_requirements_and_nothing_else(
    model: Path, forecaster: Path, tmp_path: Path
) -> None:
    """Another virtual environment: the packages that installing requirements.txt brings are linked in, no others."""
    lines = (model / "requirements.txt").read_text().split()
    python = environment_with(closure({line.partition("==")[0] for line in lines}), tmp_path / "environment")
    code = (
        "import sys, importlib.util as u, mlflow; model = mlflow.pyfunc.load_model(sys.argv[1]);"
        "from mlflow.models import Model; example = Model.load(sys.argv[1]).load_input_example(sys.argv[1]);"
        "model.predict(example)['price_quantile'].to_json(sys.argv[2]);"
        "import nqcast; assert nqcast.__file__.startswith(sys.argv[1]), nqcast.__file__;"
        "assert not [n for n in ('pytest', 'optuna', 'databento', 'lightgbm', 'kedro_viz') if u.find_spec(n)]"
    )
    command = [str(python), "-I", "-W", "ignore", "-c", code, str(model), str(tmp_path / "answer.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    answer = list(json.loads((tmp_path / "answer.json").read_text()).values())
    expected = nqcast.load(forecaster).forecast(registry.example_bars())["price_quantile"]
    np.testing.assert_allclose(answer, expected, rtol=1e-9)


def test_its_requirements_are_the_versions_of_the_lock(model: Path, project_root: Path) -> None:
    locked = re.findall(r"^([a-z0-9.-]+)==([^ ;\\]+)", (project_root / "requirements" / "lock.txt").read_text(), re.M)
    for line in (model / "requirements.txt").read_text().split():
        name, _, pinned = line.partition("==")
        if name != "torch":  # installed first, by name
            assert (name, pinned) in locked, line


def environment_with(names: set[str], folder: Path) -> Path:
    """A virtual environment with links to the installed distributions `names`; gives its python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    [site] = folder.glob("lib/python*/site-packages")
    everywhere: dict[str, set[str]] = {}
    for one in distributions():
        name = one.metadata["Name"].lower().replace("_", "-")
        for file in one.files or []:
            for depth in range(1, len(file.parts) + 1):
                everywhere.setdefault("/".join(file.parts[:depth]), set()).add(name)
    source = Path(np.__file__).parents[1]
    tops = {path.split("/")[0] for path, owners in everywhere.items() if owners & names}
    waiting = sorted(tops - {"..", "__pycache__"})
    children: dict[str, set[str]] = {}
    for path in everywhere:
        children.setdefault(path.rpartition("/")[0], set()).add(path)
    while waiting:
        path = waiting.pop()
        owners = everywhere[path]
        if not owners & names or path.endswith((".pth", "__pycache__")):
            continue
        if owners <= names or not (source / path).is_dir():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).symlink_to(source / path)
        else:  # shared with a distribution that does not belong here
            waiting += sorted(children[path])
    return folder / "bin" / "python"


def closure(names: set[str]) -> set[str]:
    """Distributions that installing `names` brings, as far as they are installed here."""
    found: set[str] = set()
    waiting = {name.lower().replace("_", "-") for name in names}
    while waiting:
        found.add(name := waiting.pop())
        try:
            needed = requires(name) or []
        except PackageNotFoundError:
            continue
        plain = (Requirement(text) for text in needed)
        wanted = {
            r.name.lower().replace("_", "-") for r in plain if r.marker is None or r.marker.evaluate({"extra": ""})
        }
        waiting |= wanted - found
    return found


def write_forecaster(folder: Path, loss: float | None, anchors: str = "data") -> Path:
    metrics = {} if loss is None else {"val_loss_returns": loss}
    folder.mkdir(parents=True)
    source = "SIMULATED MARKET (seed 7)"
    data = {"fingerprint": anchors, "source": source, "first": "2015-06-01 22:00", "last": "2016-12-30 21:55"}
    (folder / "checkpoint.json").write_text(json.dumps({"fingerprint": "f", "metrics": metrics, "data": data}))
    (folder / "model.safetensors").write_bytes(str(folder).encode())
    return folder


def test_the_champion_is_chosen_on_common_validation_anchors_alone(
    store: tuple[MlflowStore, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "save_served_model", lambda source, target: target.mkdir())
    client, run = store[0]._client, store[1]

    def aliases_after(number: int, loss: float | None, promote: Any, anchors: str = "data") -> dict[str, str]:
        folder = write_forecaster(tmp_path / str(number), loss, anchors)
        registry.register_forecaster(client, run, folder, line_of("rivals", promote))
        return {name: str(value) for name, value in client.get_registered_model("rivals").aliases.items()}

    assert aliases_after(1, 4e-4, "never") == {"challenger": "1"}
    assert aliases_after(2, 5e-4, "validation") == {"champion": "2", "challenger": "1"}
    assert aliases_after(3, 6e-4, "validation") == {"champion": "2", "challenger": "3"}
    assert aliases_after(4, 3e-4, "validation") == {"champion": "4", "challenger": "3"}
    assert aliases_after(5, 1e-4, "validation", "other data") == {"champion": "4", "challenger": "5"}
    assert aliases_after(6, None, "validation") == {"champion": "4", "challenger": "6"}
    assert aliases_after(7, 9e-4, "always", "other data") == {"champion": "7", "challenger": "6"}


def test_the_walk_forward_promotes_the_recipe_that_loses_less_on_the_same_folds(
    store: tuple[MlflowStore, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "save_served_model", lambda source, target: target.mkdir())
    client, run = store[0]._client, store[1]

    def aliases() -> dict[str, str]:
        return {name: str(value) for name, value in client.get_registered_model("folds").aliases.items()}

    def trained(number: int, recipe: str, loss: float) -> dict[str, str]:
        folder = write_forecaster(tmp_path / str(number), loss)
        registry.register_forecaster(client, run, folder, line_of("folds", "walk_forward", recipe))
        return aliases()

    def walked(recipe: str, loss: float, anchors: str = "folds") -> dict[str, str]:
        line = {"kind": "walk_forward", "name": "folds", "promote": "walk_forward", "recipe": recipe}
        store[0].send(run, [{**line, "loss": loss, "anchors": anchors}], tmp_path)
        return aliases()

    assert trained(1, "a", 5e-4) == {"champion": "1"}
    assert trained(2, "b", 1e-4) == {"champion": "1", "challenger": "2"}  # less on validation does not count
    assert walked("b", 2e-4) == {"champion": "1", "challenger": "2"}  # nothing to compare with yet
    assert walked("a", 3e-4, "other folds") == {"champion": "1", "challenger": "2"}
    assert walked("a", 3e-4) == {"champion": "1", "challenger": "2"}
    assert walked("b", 2e-4) == {"champion": "2"}
    assert trained(3, "b", 9e-4) == {"champion": "3"}  # the same recipe, fitted anew
    assert walked("c", 1e-4) == {"champion": "3"}  # no version of that recipe yet
    assert trained(4, "c", 9e-4) == {"champion": "4"}
    assert trained(5, "d", 1e-5) == {"champion": "4", "challenger": "5"}


def test_the_same_weights_are_one_version_however_often_and_by_whichever_run_they_are_sent(
    store: tuple[MlflowStore, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery that is repeated, and a finished run that is asked for again."""
    monkeypatch.setattr(registry, "save_served_model", lambda source, target: target.mkdir())
    write_forecaster(tmp_path / "one", 1e-4)
    write_forecaster(tmp_path / "two", 2e-4)
    start: Line = {"kind": "start", "experiment": "nqcast", "time": 1, "tags": {}, "name": "again"}
    again = store[0].ensure_run(start, "another run")

    def aliases(run: str, name: str, promote: str = "validation") -> dict[str, str]:
        store[0].send(run, [{**line_of("repeated", promote), "file": name}], tmp_path)
        found = store[0]._client.get_registered_model("repeated").aliases
        return {name: str(value) for name, value in found.items()}

    for _ in range(2):
        assert aliases(store[1], "one") == {"champion": "1"}
    assert aliases(store[1], "two", "always") == {"champion": "2"}
    assert aliases(again, "one") == {"champion": "2"}
    assert aliases(again, "one", "always") == {"champion": "1"}
    assert len(store[0]._client.search_model_versions("name = 'repeated'")) == 2


def test_a_version_says_which_bars_it_was_trained_on(
    store: tuple[MlflowStore, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "save_served_model", lambda source, target: target.mkdir())
    folder = write_forecaster(tmp_path / "told", 1e-4)
    registry.register_forecaster(store[0]._client, store[1], folder, line_of("told", "validation"))
    version = store[0]._client.get_model_version("told", "1")
    assert version.tags["data.source"] == "SIMULATED MARKET (seed 7)"
    assert version.tags["data.span"] == "2015-06-01 22:00 to 2016-12-30 21:55"
    expected = "Trained on SIMULATED MARKET (seed 7), 2015-06-01 22:00 to 2016-12-30 21:55 UTC."
    assert version.description == expected


@pytest.mark.parametrize("volume", [[7, 9], [7, None], [7.0, 9.0], [None, None]])
def test_a_null_volume_is_taken_by_the_served_model_as_on_the_command_line(volume: list[float | None]) -> None:
    from mlflow.models.utils import _enforce_schema

    from nqcast.tracking.registry import signature

    prices = {name: [4000.0, 4001.0] for name in ("open", "high", "low", "close")}
    asked = pd.DataFrame({"ts": ["2016-03-28T17:00:00Z"] * 2, **prices, "volume": volume})
    taken = _enforce_schema(asked, signature().inputs)
    assert taken["volume"].isna().tolist() == [value is None for value in volume]
