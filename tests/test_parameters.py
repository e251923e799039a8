"""Every parameter at every level is checked before any work, and a mistake is met with its cure."""

from __future__ import annotations

import re
from itertools import product
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest
import yaml
from kedro.config import OmegaConfigLoader
from kedro.framework.project import configure_project
from tests.kedro_command import PROJECT

from nqcast import settings
from nqcast.constants import level_name
from nqcast.experiments.config import TuneConfig
from nqcast.fields import changed
from nqcast.hooks.parameters import IN_PART, ParameterHook
from nqcast.model import MIGT_TVDT, ModelConfig
from nqcast.parameters import ParameterError, Parameters, check_parameters, with_defaults
from nqcast.pipeline_registry import register_pipelines


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"trian": {}}, "trian: there is no such parameter; did you mean train?"),
        ({"train": {"warmup_step": 3}}, "did you mean train.warmup_steps?"),
        ({"model": {"dmodel": 3}}, "did you mean model.d_model?"),
        ({"quantiles": [0.9, 0.5, 0.1]}, "ascending order"),
        ({"quantiles": [0.1, 0.9]}, "the median, 0.5"),
        ({"quantiles": [0.0, 0.5, 1.0]}, "between 0 and 1"),
        ({"quantiles": [0.1, 0.5, 0.8]}, "add a pair such as 0.1 and 0.9"),
        ({"quantiles": [0.05, 0.05001, 0.5, 0.95]}, "four decimals"),
        ({"quantiles": ".05+half+.95"}, "joined by +, such as .05+.5+.95"),
        ({"model": {"n_horizons": 3}}, "model.n_horizons: found a value where nothing reads one"),
        ({"model": {"n_features": 24}}, "model.n_features"),
        ({"model": {"quantiles": [0.1, 0.5, 0.9]}}, "set `quantiles`"),
        ({"train": {"quantiles": [0.1, 0.5, 0.9]}}, "set `quantiles`"),
        ({"train": {"horizons": ["15m"]}}, "train.horizons"),
        ({"train": {"start_name": "mine"}}, "train.start_name"),
        ({"walk_forward": {"train": {"start_name": "mine"}}}, "walk_forward.train.start_name"),
        ({"ablation": {"variants": {"few": {"model": {"n_horizons": 3}}}}}, "ablation.variants.few.model.n_horizons"),
        ({"train": {"batch_size": 0}}, "train.batch_size"),
        ({"train": {"epochs": "many"}}, "train.epochs"),
        ({"split": {"train": 0.9}}, "to sum to 1, found 1.2"),
        ({"split": {"validation_start": "2016-05-17"}}, "test_start"),
        ({"model": {"patch_length": 7}}, "patch_length"),
        ({"model": {"context": 576, "patch_length": 12}}, "split.context"),
        ({"evaluate": {"baselines": ["constants", "magic"]}}, "baselines: expected quick, full, fair, real or names"),
        ({"evaluate": {"baselines": "constants+seasnal_har"}}, "found 'seasnal_har': did you mean seasonal_har?"),
        ({"evaluate": {"baselines": "qick"}}, "did you mean quick?"),
    ],
)
def test_a_mistake_is_named_with_its_cure(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError) as caught:
        check_parameters(parameters)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "levels", [(0.05, 0.5, 0.95), tuple(k / 10 for k in range(1, 10)), (0.01, 0.02, 0.025, 0.5, 0.975, 0.98, 0.99)]
)
def test_levels_can_be_given_as_a_list_or_as_one_word(levels: tuple[float, ...]) -> None:
    word = "+".join(f"{level:g}".lstrip("0") for level in levels)
    assert [check_parameters({"quantiles": given}).quantiles for given in (word, levels)] == [levels, levels]
    assert len({level_name(level) for level in levels}) == len(levels)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ParameterError) as caught:
        check_parameters({"trian": {}, "train": {"batch_size": 0}, "scale": {"kind": "magic"}})
    assert str(caught.value).count("\n  - ") == 3


SIMULATED_ENTRIES = {"raw_bars": {"type": "nqcast.datasets.SimulatedMarketDataset", "config": {}}}
FILE_ENTRIES = {"raw_bars": {"type": "nqcast.datasets.VendorBarsDataset", "source": "my.csv"}}


@pytest.mark.parametrize(
    ("entries", "pipeline", "given", "message"),
    [
        (SIMULATED_ENTRIES, "__default__", {"bars": "my.csv"}, "add --env nq"),
        (FILE_ENTRIES, "__default__", {"simulation": {"seed": 3}}, "where no `--env` names real bars"),
        (SIMULATED_ENTRIES, "train", {"simulation": {"seed": 3}}, "drawn by ingest and asked by evaluate"),
        (FILE_ENTRIES, "train", {"bars": "my.csv"}, "run `--pipelines ingest,features` on them first"),
        (
            FILE_ENTRIES,
            "train",
            {"forecast": {"min_bars": 7}},
            "a pipeline that does: forecast, forecast_many, sweep, train_many",
        ),
        (FILE_ENTRIES, "forecast", {"quantiles": ".05+.5+.95"}, "a pipeline that does: ablation"),
        (FILE_ENTRIES, "train", {"ingest": {"stamps": "end"}}, "a pipeline that does: features_many, forecast"),
        (FILE_ENTRIES, "features", {"ingest": {"naive_timezone": "UTC"}}, "a pipeline that does: features_many"),
        (FILE_ENTRIES, "ingest", {"features": {"own": "mine/one.py"}}, "does: features, features_many, forecast"),
        (FILE_ENTRIES, "walk_forward", {"split": {"train": 0.5}}, "does: ablation, score_file, train"),
        (
            FILE_ENTRIES,
            "evaluate",
            {"evaluate": {"conformal": "by_level"}},
            "does: register, train, train_many, update",
        ),
        (FILE_ENTRIES, "train", {"evaluate": {"baselines": "full"}}, "does: evaluate, score_file, walk_forward"),
        (FILE_ENTRIES, "sweep", {"forecast": {"paths": 9}}, "that does: forecast"),
        (FILE_ENTRIES, "train", {"rebuild": True}, "does: ingest, features"),
        (FILE_ENTRIES, "features", {"rebuild": True, "features": {"volume": False}, "ingest": {"tick": 1.0}}, ""),
        (FILE_ENTRIES, "__default__", {"evaluate": {"baselines": "full", "conformal": "by_level"}}, ""),
        (FILE_ENTRIES, "__default__", {"bars": "my.csv", "train": {"seed": 1}, "tracking": {"enabled": False}}, ""),
    ],
)
def test_a_parameter_that_nothing_reads_is_refused(
    entries: dict[str, Any], pipeline: str, given: dict[str, Any], message: str
) -> None:
    configure_project("nqcast")
    hook = ParameterHook()
    hook.after_catalog_created(conf_catalog=entries)
    run = {"run_params": {"runtime_params": given}, "pipeline": register_pipelines()[pipeline]}
    if not message:
        hook.before_pipeline_run(**run)
        return
    with pytest.raises(ParameterError, match=f"nothing in this run reads it.*{re.escape(message)}"):
        hook.before_pipeline_run(**run)


@pytest.mark.parametrize("env", ["base", "nq", "test"])
def test_what_the_project_ships_is_valid_and_its_defaults_survive_a_second_check(env: str) -> None:
    shipped: dict[str, Any] = {}
    for folder in dict.fromkeys(["base", env]):
        for path in sorted((PROJECT / "conf" / folder).glob("parameters_*.yml")):
            for group, values in (yaml.safe_load(path.read_text()) or {}).items():
                merged = {**shipped.get(group, {}), **values} if isinstance(values, dict) else values
                shipped[group] = merged
    complete = with_defaults(shipped)
    assert with_defaults(complete) == complete
    assert complete["train"]["learning_rate"] == shipped["train"].get("learning_rate", 1e-4)


@pytest.mark.parametrize(
    ("asked", "said"),
    [({"bar_minutes": 30}, 1), ({}, 0), ({"horizons": "30m+60m"}, 0), ({"bar_minutes": 30, "horizons": "1h+close"}, 0)],
)
def test_horizons_that_are_left_out_are_said_and_none_where_the_list_is_ones_own(
    asked: dict[str, Any], said: int, caplog: pytest.LogCaptureFixture
) -> None:
    loader = OmegaConfigLoader(str(PROJECT / "conf"), env="test", runtime_params=asked, **settings.CONFIG_LOADER_ARGS)
    with caplog.at_level("INFO", logger="nqcast.hooks.parameters"):
        ParameterHook().after_context_created(context=SimpleNamespace(config_loader=loader))
    assert caplog.text.count("those of the default list that end with a bar of 30 minutes") == said
    assert len(caplog.records) == said


def test_what_is_tuned_on_real_bars_is_part_of_the_model_there() -> None:
    """Attention is off there, and trials that differ in its sizes alone would be one and the same."""
    loader = OmegaConfigLoader(str(PROJECT / "conf"), env="nq", **settings.CONFIG_LOADER_ARGS)
    complete = with_defaults(loader["parameters"])
    space = TuneConfig(**complete["tune"]).space
    assert {"model.recent_width", "train.learning_rate"} <= set(space)
    model = ModelConfig(**complete["model"])
    for name, parameter in space.items():
        if name.startswith("model."):
            field = name.removeprefix("model.")
            low, high = (MIGT_TVDT(changed(model, {field: value})) for value in parameter.extremes[::2])
            assert low.summary() != high.summary(), name


def test_the_hints_of_every_node_resolve_at_run_time() -> None:
    """Kedro checks parameters by them, and leaves a function out, with a warning, whose hints do not resolve."""
    nodes = {node.name: node.func for pipeline in register_pipelines().values() for node in pipeline.nodes}
    assert len(nodes) > 30
    for name, function in nodes.items():
        hints = get_type_hints(function)
        assert isinstance(function, type) or hints["return"], name  # a class makes itself


def test_every_parameter_is_read_or_refused_by_every_pipeline() -> None:
    """Field by field: a field that no node of a pipeline reads is refused there, and read by some other pipeline."""
    configure_project("nqcast")
    hook, every = ParameterHook(), register_pipelines()
    hook.after_catalog_created(conf_catalog={})
    groups = {name: info.annotation for name, info in Parameters.model_fields.items()}
    fields = {(name, field) for name, group in groups.items() for field in getattr(group, "model_fields", ("",))}
    taken: dict[tuple[str, str], set[str]] = {}
    for (group, field), (name, pipeline) in product(fields, every.items()):
        given = {group: {field: 1} if field else 1}
        try:
            hook.before_pipeline_run(run_params={"runtime_params": given}, pipeline=pipeline)
        except ParameterError as error:
            assert f"{group}{'.' * bool(field)}{field}: nothing in this run reads it" in str(error)
        else:
            taken.setdefault((group, field), set()).add(name)
    assert {group for group, _ in fields - taken.keys()} == {"bars", "predictions", "simulation"}  # entries read them
    named = {(group, field) for one in IN_PART.values() for group, part in one.items() for field in part}
    assert named <= fields and IN_PART.keys() <= {node.name for one in every.values() for node in one.nodes}
    whole = {name for name in every if taken["train", "seed"] >= {name}}
    assert whole == {name for name, one in every.items() if "params:train" in one.inputs()}
