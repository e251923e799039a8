"""Base, then the environment, then conf/local, then the command line: in every environment."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from tests.docs.code_blocks import blocks_of
from tests.kedro_command import PROJECT, kedro, output_of

from nqcast.hooks.parameters import ParameterHook
from nqcast.settings import CONFIG_LOADER_ARGS, LayeredConfigLoader

ENVIRONMENTS = [None, "base", "contract", "local", "nq", "test"]


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """The project's own conf with a folder of a user's in it."""
    folder = tmp_path / "conf"
    shutil.copytree(PROJECT / "conf", folder, ignore=shutil.ignore_patterns("local"))
    (folder / "local").mkdir()
    return folder


def loaded(conf: Path, key: str, env: str | None, **given: Any) -> dict[str, Any]:
    settings: dict[str, Any] = {**CONFIG_LOADER_ARGS, "default_run_env": "local"}
    return LayeredConfigLoader(str(conf), env=env, runtime_params=given, **settings)[key]


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_what_stands_in_conf_local_holds_in_every_environment(env: str | None, conf: Path) -> None:
    without = loaded(conf, "parameters", env)
    (conf / "local" / "parameters_mine.yml").write_text("train: {epochs: 9}\nbars: mine.csv\n")
    found = loaded(conf, "parameters", env)
    assert found["train"] == {**without["train"], "epochs": 9} and found["bars"] == "mine.csv"
    assert {name: group for name, group in found.items() if name not in ("train", "bars")} == {
        name: group for name, group in without.items() if name not in ("train", "bars")
    }


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_the_command_line_has_the_last_word(env: str | None, conf: Path) -> None:
    (conf / "local" / "parameters_mine.yml").write_text("train: {epochs: 9, seed: 3}\n")
    found = loaded(conf, "parameters", env, train={"epochs": 5})
    assert (found["train"]["epochs"], found["train"]["seed"]) == (5, 3)


@pytest.mark.parametrize("env", [None, "nq"])
def test_entries_globals_and_credentials_of_conf_local_are_read_too(
    env: str | None, conf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "abc")
    (conf / "local" / "globals.yml").write_text("data: elsewhere\n")
    (conf / "local" / "catalog_raw.yml").write_text("raw_bars: {type: MemoryDataset}\n")
    (conf / "local" / "credentials.yml").write_text("store: {key: '${oc.env:MY_KEY}'}\n")
    catalog = loaded(conf, "catalog", env)
    assert catalog["raw_bars"] == {"type": "MemoryDataset"}
    assert catalog["features"]["filepath"].startswith("elsewhere/")
    assert loaded(conf, "credentials", env) == {"store": {"key": "abc"}}


def market(conf: Path, env: str | None, **given: Any) -> dict[str, Any]:
    """The settings that a run's bars and their truth are drawn by."""
    settings: dict[str, Any] = {**CONFIG_LOADER_ARGS, "default_run_env": "local"}
    loader = LayeredConfigLoader(str(conf), env=env, runtime_params=given, **settings)
    ParameterHook().after_context_created(context=SimpleNamespace(config_loader=loader))
    bars, truth = (loader["catalog"][name]["config"] for name in ("raw_bars", "true_quantiles"))
    assert bars == truth
    return dict(bars)


def test_the_simulated_market_of_the_page_reaches_its_bars_and_its_truth_alike(conf: Path) -> None:
    assert (market(conf, None), market(conf, "test")) == ({}, {"sessions": 60, "seed": 7})
    command, file = blocks_of(PROJECT / "docs" / "simulated_market.md")[:2]
    given = dict(item.removeprefix("simulation.").split("=") for item in command.text.split()[-1].split(","))
    given = {name: yaml.safe_load(value) for name, value in given.items()}
    assert market(conf, None, simulation=given) == {"seed": 11, "leverage_deviation": 0.3}
    assert market(conf, "test", simulation=given) == {"sessions": 60, **given}
    (conf / "local" / "parameters_simulation.yml").write_text(file.text)
    assert market(conf, "test") == {"sessions": 600, **given}
    assert market(conf, None, simulation={"seed": 12}) == {"sessions": 600, **given, "seed": 12}


@pytest.mark.parametrize("env", [None, "nq"])
def test_a_configuration_without_the_folder_loads(env: str | None, conf: Path) -> None:
    if env is not None:
        (conf / "local").rmdir()
    assert loaded(conf, "parameters", env)["train"]["batch_size"] == (256 if env else 128)


def test_the_tests_themselves_do_not_see_a_developers_own_files() -> None:
    assert CONFIG_LOADER_ARGS["default_run_env"] == "base"


@pytest.mark.slow
def test_the_command_reads_it_with_an_environment(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("src", "conf"):
        shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "local"))
    shutil.copy(PROJECT / "pyproject.toml", copy)
    (copy / "conf" / "local").mkdir()
    (copy / "conf" / "local" / "parameters_mine.yml").write_text("train: {epoch: 9}\n")
    arguments = ("run", "--env", "test", "--pipelines", "ingest")
    said = output_of(kedro(*arguments, data=tmp_path / "data", cwd=copy, local="local"), fails=True)
    assert "train.epoch: there is no such parameter; did you mean train.epochs?" in said
    (copy / "conf" / "local" / "parameters_mine.yml").write_text("bars: mine.csv\n")
    real = ("run", "--env", "nq", "--pipelines", "ingest")
    assert "mine.csv" in output_of(kedro(*real, data=tmp_path / "data", cwd=copy, local="local"), fails=True)
    given = kedro(*real, "--params", "bars=other.csv", data=tmp_path / "data", cwd=copy, local="local")
    assert "other.csv" in output_of(given, fails=True)


def test_a_look_at_the_toy_market_writes_a_folder_of_its_own(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NQCAST_DATA", raising=False)
    folders = {env: loaded(conf, "globals", env)["data"] for env in ("base", "nq", "contract", "test")}
    assert folders == {"base": "data", "nq": "data/nq", "contract": "data/contract", "test": "data/test"}
    monkeypatch.setenv("NQCAST_DATA", "/elsewhere")
    assert loaded(conf, "globals", "test")["data"] == "/elsewhere"  # a folder that is named is taken as it is
