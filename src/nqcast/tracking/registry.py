"""A trained checkpoint as a registered MLflow model, and which version is the champion.

Folder of a forecaster: model.safetensors, checkpoint.json, their manifest and, where there is one, calibration.json.
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from nqcast.constants import BAR_MINUTES
from nqcast.storage.checkpoint import DOCUMENT, WEIGHTS, metadata_in
from nqcast.storage.fingerprint import digest
from nqcast.tracking.facts import RECIPE_TAG
from nqcast.tracking.spool import Line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

log = logging.getLogger(__name__)

CHAMPION, CHALLENGER = "champion", "challenger"
LOSS_TAG, ANCHORS_TAG, CONTENT_TAG = "nqcast.validation_loss", "nqcast.validation_anchors", "nqcast.content"
WALK_FORWARD_TAG = "nqcast.walk_forward."  # + recipe, on the registered model: {"loss", "anchors"}
_REQUIRED = (
    *("mlflow", "torch", "numpy", "pandas", "pyarrow", "scipy", "pydantic", "pandera", "pandas-market-calendars"),
    *("safetensors", "tqdm", "kedro", "kedro-datasets", "zstandard"),
)


def save_served_model(forecaster: Path, target: Path) -> None:
    """Write the MLflow model at `target`: code, requirements, signature, example, and the folder `forecaster`."""
    # MLflow's own classes, at its import; a filter by message, since catching warnings is no matter for a thread
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType", category=UserWarning)
    import mlflow

    package, metadata = Path(__file__).parents[1], metadata_in(forecaster)
    mlflow.pyfunc.save_model(
        path=str(target),
        python_model=str(package / "tracking" / "served_model.py"),
        artifacts={"forecaster": str(forecaster)},
        code_paths=[str(package)],
        pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in _REQUIRED],
        signature=signature(),
        input_example=example_bars(min(metadata.spacing.minutes, BAR_MINUTES)),
        metadata={"fingerprint": metadata.fingerprint},
    )


def signature() -> ModelSignature:
    """Columns of the bars that go in and of the quantiles that come out; times are ISO text with a zone."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType  # a null among whole numbers is neither a long nor a double to MLflow

    prices = [ColSpec(DataType.double, name) for name in ("open", "high", "low", "close")]
    bars = [ColSpec(DataType.string, "ts"), *prices]
    bars += [ColSpec(AnyType(), "volume", required=False), ColSpec(DataType.string, "contract", required=False)]
    texts = [ColSpec(DataType.string, name) for name in ("issue_time", "target_time", "horizon")]
    numbers = [ColSpec(DataType.double, name) for name in ("level", "return_quantile", "price_quantile", "last_price")]
    return ModelSignature(Schema(bars), Schema([*texts, *numbers, ColSpec(DataType.string, "contract")]))


def example_bars(bar_minutes: int = BAR_MINUTES) -> pd.DataFrame:
    """Bars of 22 simulated sessions of one contract: as much history as a forecast asks for."""
    from nqcast.market.simulation.config import SimulationConfig
    from nqcast.market.simulation.simulator import simulate

    minutes = simulate(SimulationConfig(sessions=22))
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    bars = minutes.groupby(minutes["ts"].dt.floor(f"{bar_minutes}min")).agg(rules).reset_index()
    return bars.assign(ts=bars["ts"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"))


def register_forecaster(client: MlflowClient, run_id: str, forecaster: Path, line: Line) -> str:
    """Log the model in its run, make it a version of its name and set the aliases; returns the version.

    May be repeated. The same weights with the same calibration are one version: another run that ends with them, such
    as a finished one that was asked for again, registers nothing and moves no alias, unless `promote` is `always`.
    """
    name, promote, key = line["name"], line["promote"], content_key(forecaster)
    found = client.search_model_versions(f"name = '{name}' and tags.`{CONTENT_TAG}` = '{key}'")
    if found:
        number = str(found[0].version)
        if found[0].run_id != run_id and promote != "always":
            log.info("tracking: version %s of %s is this model already", number, name)
            return number
    else:
        number = _new_version(client, run_id, forecaster, line, key)
    set_aliases(client, name, number, promote)
    return number


def _new_version(client: MlflowClient, run_id: str, forecaster: Path, line: Line, key: str) -> str:
    name = line["name"]
    with tempfile.TemporaryDirectory() as folder:
        save_served_model(forecaster, Path(folder) / "model")
        client.log_artifacts(run_id, str(Path(folder) / "model"), artifact_path="model")
    _ensure_registered(client, name)
    place = f"{client.get_run(run_id).info.artifact_uri}/model"
    facts = data_facts(forecaster)
    tags = {CONTENT_TAG: key, RECIPE_TAG: line.get("recipe", ""), **facts, **validation_tags(forecaster)}
    about = f"Trained on {facts['data.source']}" + (f", {facts['data.span']} UTC." if "data.span" in facts else ".")
    return str(client.create_model_version(name, place, run_id, tags=tags, description=about).version)


def content_key(forecaster: Path) -> str:
    """Name of a forecaster's weights and calibration."""
    files = [path for name in (WEIGHTS, "calibration.json") if (path := forecaster / name).is_file()]
    return digest((path.read_bytes() for path in files or [forecaster / DOCUMENT]), 32)


def data_facts(forecaster: Path) -> dict[str, str]:
    """Where the bars came from, their first and last stamp, and the name of their content."""
    data = metadata_in(forecaster).data
    span = {"data.span": f"{data.first} to {data.last}"} if data.first and data.last else {}
    named = {"data.fingerprint": data.fingerprint} if data.fingerprint else {}
    return {"data.source": data.source or "bars of unknown source", **span, **named}


def validation_tags(forecaster: Path) -> dict[str, str]:
    """Loss on the validation split (mean pinball of returns), and which anchors it was measured on."""
    metadata = metadata_in(forecaster)
    loss, anchors = metadata.metrics.get("val_loss_returns"), [metadata.data.fingerprint]
    calibration = forecaster / "calibration.json"
    if calibration.is_file():
        fitted_on = json.loads(calibration.read_text(encoding="utf-8")).get("anchors", {})
        anchors += [str(fitted_on.get(part, "")) for part in ("count", "first", "last")]
    return {ANCHORS_TAG: " ".join(anchors)} | ({LOSS_TAG: f"{loss:.12g}"} if loss is not None else {})


def set_aliases(client: MlflowClient, name: str, number: str, promote: str) -> None:
    """Make a version the champion or the challenger.

    It becomes the champion when there is none. `validation`: or when its validation loss is lower on the same anchors.
    `walk_forward`: or when its recipe's out-of-sample loss over the folds is lower on the same anchors, or when its
    recipe is the champion's own, fitted anew. Losses on other anchors cannot be compared. The test split has no say.
    """
    champion = _champion(client, name)
    if champion is not None and str(champion.version) == number:
        return
    if _promoted(client, name, number, champion, promote):
        client.set_registered_model_alias(name, CHAMPION, number)
        if str(client.get_registered_model(name).aliases.get(CHALLENGER)) == number:
            client.delete_registered_model_alias(name, CHALLENGER)
        log.info("tracking: version %s of %s is the champion", number, name)
        return
    client.set_registered_model_alias(name, CHALLENGER, number)
    log.info("tracking: version %s of %s is the challenger", number, name)


def note_walk_forward(client: MlflowClient, line: Line) -> None:
    """Keep a recipe's walk-forward loss at the registered model, and ask again whether its newest version leads."""
    name, recipe, promote = line["name"], line["recipe"], line["promote"]
    record = {"loss": line["loss"], "anchors": line["anchors"]}
    _ensure_registered(client, name)
    client.set_registered_model_tag(name, f"{WALK_FORWARD_TAG}{recipe}", json.dumps(record))
    versions = client.search_model_versions(f"name = '{name}' and tags.`{RECIPE_TAG}` = '{recipe}'")
    if versions and promote == "walk_forward":
        set_aliases(client, name, str(max(int(version_.version) for version_ in versions)), promote)


def _promoted(client: MlflowClient, name: str, number: str, champion: ModelVersion | None, promote: str) -> bool:
    if promote in ("always", "never") or champion is None:
        return promote != "never"
    version_ = client.get_model_version(name, number)
    if promote == "walk_forward":
        return _beats_out_of_sample(version_, champion, client.get_registered_model(name).tags)
    return _beats(version_, champion)


def _beats_out_of_sample(version_: ModelVersion, champion: ModelVersion, tags: dict[str, str]) -> bool:
    recipes = version_.tags.get(RECIPE_TAG), champion.tags.get(RECIPE_TAG)
    if recipes[0] and recipes[0] == recipes[1]:
        return True
    ours, theirs = (json.loads(tags.get(f"{WALK_FORWARD_TAG}{recipe}", "null")) for recipe in recipes)
    if ours is None or theirs is None or ours["anchors"] != theirs["anchors"]:
        log.info(
            "tracking: no walk-forward of both this version's and the champion's recipe on the same anchors; "
            "`kedro run --pipelines walk_forward` with the parameters of each makes them"
        )
        return False
    return float(ours["loss"]) < float(theirs["loss"])


def _beats(version_: ModelVersion, champion: ModelVersion) -> bool:
    ours, theirs = version_.tags, champion.tags
    if LOSS_TAG not in ours or LOSS_TAG not in theirs or ours.get(ANCHORS_TAG) != theirs.get(ANCHORS_TAG):
        log.info("tracking: no common validation anchors with the champion; tracking.promote=always would replace it")
        return False
    return float(ours[LOSS_TAG]) < float(theirs[LOSS_TAG])


def _champion(client: MlflowClient, name: str) -> ModelVersion | None:
    number = client.get_registered_model(name).aliases.get(CHAMPION)
    return None if number is None else client.get_model_version(name, str(number))


def _ensure_registered(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="Quantile forecasts of returns and prices from raw bars.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
