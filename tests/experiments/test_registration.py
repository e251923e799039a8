"""A registration is held to its settings, code and bars, and is answered once."""

import json

import pytest

from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.split_uses import use_of_sessions
from nqcast.experiments import registration as module
from nqcast.experiments.config import ExperimentSettings, VerdictConfig, WalkForwardConfig
from nqcast.experiments.registration import refuse_another, registration
from nqcast.fields import changed

from .conftest import SPLIT

CONFIG = VerdictConfig(folds=WalkForwardConfig(folds=2, train_sessions=6, validation_sessions=3, test_sessions=3))


@pytest.fixture
def settings(recipe) -> ExperimentSettings:
    return ExperimentSettings(
        split=SPLIT, scale=recipe.scale, model=recipe.model, train=recipe.train, quantiles=recipe.quantiles,
        evaluate=EvaluateConfig(),
    )  # fmt: skip


def test_the_same_settings_code_and_bars_are_let_in_as_they_come_back_from_the_disk(features, settings):
    written = json.loads(json.dumps(registration(features, settings, CONFIG)))
    again = registration(features, settings, CONFIG)
    assert again["id"] == written["id"]
    refuse_another(written, again, [{"time": "t", "kind": "walk_forward"}])


def test_another_setting_is_refused_by_its_name(features, settings):
    written = registration(features, settings, CONFIG)
    other = settings.model_copy(update={"train": changed(settings.train, {"learning_rate": 0.5})})
    with pytest.raises(ValueError, match=r"found another settings\.train\.learning_rate: take that back"):
        refuse_another(written, registration(features, other, CONFIG), [])
    asked = changed(CONFIG, {"question": "Something easier to answer?"})
    with pytest.raises(ValueError, match="question"):
        refuse_another(written, registration(features, settings, asked), [])


def test_other_bars_and_other_code_are_refused(features, settings, monkeypatch):
    written = registration(features, settings, CONFIG)
    dearer = features.assign(close=features["close"] + 0.25)
    with pytest.raises(ValueError, match="found another data"):
        refuse_another(written, registration(dearer, settings, CONFIG), [])
    monkeypatch.setattr(module, "code_hash", lambda: "0" * 16)
    with pytest.raises(ValueError, match="found another code"):
        refuse_another(written, registration(features, settings, CONFIG), [])


def test_a_question_is_answered_once(features, settings):
    written = registration(features, settings, CONFIG)
    use = use_of_sessions("verdict", features, written["id"])
    assert use["sessions"] == features["session"].nunique() and use["anchors"] == len(features)
    with pytest.raises(ValueError, match="asked once"):
        refuse_another(written, registration(features, settings, CONFIG), [use])
