"""conf/contract holds the published figures, to the letter."""

import pytest
from tests.kedro_command import PROJECT

from nqcast.fields import changed
from nqcast.model import MIGT_TVDT
from nqcast.model.config import ModelConfig
from nqcast.parameters import ParameterError, check_parameters
from nqcast.settings import CONFIG_LOADER_ARGS, LayeredConfigLoader
from nqcast.training.scheduler import build_optimizer


def contract():
    loader = LayeredConfigLoader(str(PROJECT / "conf"), env="contract", **CONFIG_LOADER_ARGS)
    return check_parameters(loader["parameters"])


def test_the_figures_of_training_are_the_published_ones():
    train = contract().train
    assert (train.learning_rate, train.weight_decay, train.clip_norm) == (1e-4, 0.01, 1.0)
    assert (train.batch_size, train.accumulation, train.windows_per_epoch) == (128, 2, None)
    assert (train.warmup_steps, train.t_0, train.t_mult, train.eta_min) == (1000, 10, 2, 1e-6)
    assert (train.patience, train.min_delta, train.top_k) == (10, 1e-5, 3)
    assert train.precision == "auto" and train.realized_weight == 0.0 and train.horizon_weights == "equal"


def test_the_network_is_the_full_size_with_attention_over_every_bar():
    model = contract().model
    assert model == ModelConfig(size="full") and model.tokens is True
    assert (model.d_model, model.n_heads, model.n_time_blocks, model.n_variable_blocks) == (256, 8, 4, 2)
    assert (model.d_ff, model.dropout, model.patch_length, model.context) == (1024, 0.1, 1, 288)
    for predictors, parameters in ((None, 6_050_881), (16, 6_051_905)):  # by itself; beside SeasonalHAR's, as it runs
        network = MIGT_TVDT(changed(model, {"n_volatility": predictors}))
        assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("tokens", [False, "auto"])
def test_the_full_size_without_attention_is_refused(tokens):
    with pytest.raises(ParameterError, match=r"full size, found tokens=(false|auto)"):
        check_parameters({"model": {"size": "full", "tokens": tokens}})


def test_decay_is_for_matrices_alone_and_the_gain_has_its_own_rate():
    parameters = contract()
    network = MIGT_TVDT(parameters.model)
    decayed, free, gain = build_optimizer(network, parameters.train).param_groups
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    in_group = [{names[id(p)] for p in group["params"]} for group in (decayed, free, gain)]
    assert set.union(*in_group) == set(names.values())
    assert (decayed["weight_decay"], free["weight_decay"], gain["weight_decay"]) == (0.01, 0.0, 0.0)
    tables = ("bias_F1D", "age_PD", "omega_CW", "phase_CW", "place_LA", "bias")
    assert not [name for name in in_group[0] if name.endswith(tables)]
    kept = [name for name in in_group[1] if network.get_parameter(name).dim() >= 2]
    assert kept and all(name.endswith(tables) for name in kept)
    assert in_group[2] == {"token_gain"} and gain["lr"] == 30 * decayed["lr"]
