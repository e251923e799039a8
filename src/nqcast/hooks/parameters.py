"""Parameters that are bad, unknown, or read by nothing are refused before anything runs."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.pipeline import Pipeline

from nqcast.data.fingerprint import product_of
from nqcast.fields import require
from nqcast.forecast.config import require_as_trained
from nqcast.hooks.mistakes import show_bad_input_in_one_line
from nqcast.hooks.unchanged import CHAINS
from nqcast.parameters import ParameterError, check_parameters, with_instrument
from nqcast.storage.checkpoint import Checkpoint

logger = logging.getLogger(__name__)

READ_BY_ENTRIES = {"bars", "predictions", "simulation"}
"""Parameters that catalog entries read, on the command line or in a file of the configuration."""
READ_BY_HOOKS = {"instrument", "instruments", "tracking"}
"""The instrument is asked of every table and checkpoint that a run loads."""
ASK_FOR_THE_SPACING = {"checked_rows", "params:horizons"}
"""Datasets of pipelines that make a grid, or a table of it; others read the spacing in what they are given."""

_ANCHORS = {"context", "embargo_bars", "warmup_bars"}
_PREDICT = {"batch_size", "device"}
_CALIBRATE = {"conformal", "online_rate", "online_by_part"}
_INTERVALS = {"seed", "mean_block", "bootstrap_replications", "confidence"}
_COMPARE = {*_INTERVALS, "baselines", "newey_west_lag"}

_FOLDS = {"split": _ANCHORS, "evaluate": _PREDICT | _CALIBRATE | _COMPARE}
_REGISTERED = {"split": _ANCHORS, "evaluate": _FOLDS["evaluate"] - {"baselines"}}  # verdict.baselines take their place

IN_PART: Mapping[str, Mapping[str, set[str]]] = {
    "check_rows": {"features": {"volume", "tick"}},
    "make_features": {"ingest": {"instrument", "bar_minutes", "tick"}},
    "load_features": {"ingest": {"instrument", "bar_minutes"}},
    "validation_metrics": {"evaluate": {*_PREDICT, "seed"}},
    "fit_calibration": {"evaluate": _PREDICT | _CALIBRATE},
    "validate_symbols": {"evaluate": {*_PREDICT, *_CALIBRATE, "seed"}},
    "forecast_symbols": {
        "split": {"warmup_bars"},
        "forecast": {"as_of", "max_age_minutes", "max_gap_minutes", "min_bars", "device"},
    },
    "update_forecaster": {"split": _ANCHORS, "evaluate": _PREDICT | _CALIBRATE},
    "compare_with_training": {"split": _ANCHORS, "evaluate": _PREDICT},
    "predict_test": {"evaluate": _PREDICT},
    "score": {"evaluate": {*_COMPARE, "truth_anchors", "phase_lag"}},
    "draw_fan_chart": {"evaluate": {"fan_session", "fan_horizon"}},
    "explain_network": {"evaluate": {*_PREDICT, *_INTERVALS, "explain_anchors"}},
    "score_forecasts": {"evaluate": {*_COMPARE, "truth_anchors"}},
    "sweep_forecasts": {"forecast": {"as_of", "min_bars", "device"}},
    "trade_test": {"evaluate": _INTERVALS},
    "trade_walk_forward": {"evaluate": _INTERVALS},
    "settle_walk_forward": _FOLDS,
    "join_folds": {"evaluate": _COMPARE},
    "settle_registration": _REGISTERED,
    "settle_verdict": _REGISTERED,
    "settle_ablation": {"evaluate": _PREDICT | _INTERVALS},
}
"""The fields that a node reads of a group, by node and group; a group that is not named here is read whole."""


class ParameterHook:
    """Refuses parameters that are unknown, bad, or read by nothing in the run.

    Kedro itself validates only the parameters that the chosen nodes take: a misspelt group would pass in silence.
    """

    def __init__(self) -> None:
        self._entries: dict[str, Any] = {}
        self._chosen: dict[str, Any] = {}
        self._foreign = False

    @hook_impl(tryfirst=True)
    def after_context_created(self, context: KedroContext) -> None:
        """Fill in what the instrument's row says, check all groups, and make lists of those that came as one text."""
        show_bad_input_in_one_line()
        context.config_loader.runtime_params = {**(context.config_loader.runtime_params or {})}
        refuse_interpolation(context.config_loader.runtime_params)
        parameters = with_instrument(context.config_loader["parameters"])
        checked = check_parameters(parameters)
        for name in READ_BY_ENTRIES & parameters.keys():  # by ${runtime_params:…}: a file may name them too
            context.config_loader.runtime_params[name] = parameters[name]
        for file in checked.scale.event_files:
            _check_events(file)
        given = parameters.get("horizons")
        if isinstance(given, list) and len(checked.horizons) < len(given):  # a list of one's own is taken whole
            logger.info(
                "horizons=%s: those of the default list that end with a bar of %d minutes; name others to have them",
                *("+".join(checked.horizons), checked.bar_minutes),
            )
        usual = check_parameters({"bar_minutes": checked.bar_minutes})
        shared = {name: getattr(checked, name) for name in ("quantiles", "horizons")}
        self._chosen = {name: value for name, value in shared.items() if value != getattr(usual, name)}
        self._chosen |= {"instrument": checked.instrument} if "instrument" in parameters else {}
        self._foreign = any("=" in file for file in checked.features.own)
        words = {name: list(value) for name, value in shared.items()}
        context.config_loader["parameters"] = {**parameters, **words}

    @hook_impl
    def after_catalog_created(self, conf_catalog: dict[str, Any]) -> None:
        """Keep the entries as they are configured: some take a parameter by ${runtime_params:…}."""
        self._entries = dict(conf_catalog)

    @hook_impl
    def after_dataset_loaded(self, data: Any) -> None:
        """Refuse a choice that contradicts the checkpoint of the run, or its bars or features."""
        if isinstance(data, Checkpoint):
            require_as_trained(data.metadata, self._chosen)
        elif "instrument" in self._chosen and isinstance(data, pd.DataFrame) and "instrument" in product_of(data):
            made = product_of(data)["instrument"]["symbol"]
            require("instrument", made, self._chosen["instrument"], "what is there was made", "run ingest,features")

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline) -> None:
        """Refuse what was given on the command line and changes nothing in this run.

        Raises:
            ParameterError: names the parameter, and what would read it.
        """
        for group, value in (run_params.get("runtime_params") or {}).items():
            for field in value if isinstance(value, dict) and value else [None]:
                if not self._is_read(pipeline, group, field, value):
                    name, found = (f"{group}.{field}", value[field]) if field else (group, value)
                    cure = self._cure(group, field)
                    raise ParameterError(f"{name}: nothing in this run reads it, found {found!r}: {cure}")

    def _is_read(self, pipeline: Pipeline, group: str, field: str | None, value: Any) -> bool:
        if group == "bar_minutes":
            return bool(pipeline.datasets() & ASK_FOR_THE_SPACING)
        if group == "rebuild":
            return any(node.tags & {*CHAINS} for node in pipeline.nodes)
        if group == "ingest" and self._foreign:  # another market's bars are ingested as the run's own
            field = None
        entries = (self._entries[name] for name in pipeline.datasets() if name in self._entries)
        return is_read(pipeline, group, field) or group in READ_BY_HOOKS or any(_holds(one, value) for one in entries)

    def _cure(self, name: str, field: str | None) -> str:
        if name == "predictions":
            return "forecasts in a file are read by `--pipelines score_file`"
        if name == "simulation":
            return "the simulated market is drawn by ingest and asked by evaluate, where no `--env` names real bars"
        if name == "rebuild":
            return "leave it out, or run a pipeline that does: ingest, features"
        if name == "bar_minutes":
            return "leave it out: the checkpoint, or the bars that are there, say it"
        if name != "bars":
            return f"leave it out, or run a pipeline that does: {', '.join(readers_of(pipelines, name, field))}"
        if str(self._entries.get("raw_bars", {}).get("type", "")).endswith("SimulatedMarketDataset"):
            return "this environment draws its bars from a seed; add --env nq to read the file"
        return (
            "bars are read by ingest, forecast, sweep, update and monitor; run `--pipelines ingest,features` on them "
            "first"
        )


def _check_events(file: str) -> None:
    """Raise ParameterError for a file of the user's own events that is none."""
    from nqcast.data.announcements import own_announcements

    try:
        own_announcements(file)
    except ValueError as error:
        raise ParameterError(f"the parameters do not fit:\n  - scale.announcements: {error}") from None


def refuse_interpolation(parameters: Any, name: str = "") -> None:
    """Raise ParameterError for ${…} in a parameter of the command line, which would be filled in.

    From the environment too: an experiment's name would be a secret. The configuration's own files may ask for it.
    """
    if isinstance(parameters, dict):
        for key, value in parameters.items():
            refuse_interpolation(str(key), name)
            refuse_interpolation(value, f"{name}.{key}".removeprefix("."))
    elif isinstance(parameters, list | tuple):
        for value in parameters:
            refuse_interpolation(value, name)
    elif isinstance(parameters, str) and "${" in parameters:
        raise ParameterError(f"{name}: expected a plain value on the command line, found ${{…}}: write the value")


def _holds(entry: Any, value: Any) -> bool:
    """Whether a configured catalog entry holds the value anywhere: the fields of a table, or the value itself."""
    if isinstance(entry, dict):
        return (isinstance(value, dict) and value.items() <= entry.items()) or any(
            _holds(part, value) for part in entry.values()
        )
    return any(_holds(part, value) for part in entry) if isinstance(entry, list) else entry == value


def is_read(pipeline: Pipeline, group: str, field: str | None = None) -> bool:
    """Whether a node of the pipeline reads a group of parameters, or this field of it."""
    readers = (node.name for node in pipeline.nodes if f"params:{group}" in node.inputs)
    return any(field is None or field in IN_PART.get(name, {}).get(group, {field}) for name in readers)


def readers_of(pipelines: Mapping[str, Pipeline], group: str, field: str | None = None) -> Iterable[str]:
    """The names of the pipelines that read a group of parameters, or this field of it."""
    return sorted(name for name, one in pipelines.items() if name != "__default__" and is_read(one, group, field))
