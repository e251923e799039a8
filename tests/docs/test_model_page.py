"""The sizes that the README and the page of the model name are those of the network."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
import pytest
from tests.evaluation.conftest import day_night_market
from tests.kedro_command import PROJECT

from nqcast.data.seasonal_har import make_scale
from nqcast.model import MIGT_TVDT
from nqcast.model.config import ModelConfig
from nqcast.parameters import Parameters, check_parameters
from nqcast.runs.recipe import choose
from nqcast.settings import CONFIG_LOADER_ARGS, LayeredConfigLoader


def parameters_of(environment: str) -> Parameters:
    loader = LayeredConfigLoader(str(PROJECT / "conf"), env=environment, **CONFIG_LOADER_ARGS)
    return check_parameters(loader["parameters"])


def count(environment: str, size: Literal["laptop", "full"] = "laptop") -> int:
    """Weights of the network that a run of the environment trains."""
    parameters = parameters_of(environment)
    market = day_night_market()
    state = make_scale(parameters.scale, parameters.quantiles).fit(market, np.arange(300, 12_000, 7)).n_state
    fields = ModelConfig(size=size, tokens=parameters.model.tokens, n_volatility=state)
    config, _ = choose(fields, parameters.train, 57_000)
    return sum(weight.numel() for weight in MIGT_TVDT(config).parameters())


@pytest.mark.slow
def test_the_sizes_of_readme_and_page_are_those_of_the_network() -> None:
    embedded, real, full = count("base"), count("nq"), count("base", size="full")
    assert count("contract", size="full") == full
    page = (PROJECT / "docs" / "model.md").read_text()
    for line, size in (("on the embedded market", embedded), ("on real bars", real), ("the published size", full)):
        assert re.search(rf"{line}.*\| {size:,} \|", page), f"{line}: {size:,}"
    text = " ".join((PROJECT / "README.md").read_text().split())
    assert f"{embedded:,} parameters on the embedded market" in text and f"{real:,} on real bars" in text
    assert f"{full / 1e6:.2f} million parameters" in text
