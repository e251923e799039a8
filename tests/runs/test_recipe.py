"""What auto means for a few train anchors and for many."""

from nqcast.model.config import ModelConfig
from nqcast.runs.recipe import FEWEST_WINDOWS, MANY, WIDE, choose
from nqcast.spacing import Spacing
from nqcast.training.config import TrainConfig

AUTO = (
    ModelConfig(tokens="auto"),
    TrainConfig(windows_per_epoch="auto", members="auto", refit="auto", horizon_weights="auto", epochs=6),
)


def test_many_years_train_a_wider_direct_path_for_longer():
    (few, short), (many, long) = choose(*AUTO, 57_000), choose(*AUTO, MANY)
    assert (few.tokens, many.tokens) == (False, False) and short.windows_per_epoch == FEWEST_WINDOWS
    assert few.context == many.context == max(few.recent_bars), "no bar is gathered that nobody looks at"
    assert few.recent_width == ModelConfig().recent_width
    assert many.recent_width == WIDE
    assert (short.members, long.members) == (1, 3)
    assert (short.refit, long.refit) == (False, True)
    assert (short.horizon_weights, long.horizon_weights) == ("equal", "root")
    assert long.windows_per_epoch == round(MANY / 3), "two passes in six epochs"


def test_the_line_says_what_was_chosen_and_why(caplog):
    with caplog.at_level("INFO", logger="nqcast.runs.recipe"):
        choose(*AUTO, 57_000, long_memory=False)
        choose(*AUTO, MANY, long_memory=True)
    few, many = caplog.messages
    assert "; trained once (train.refit=auto)" in few and "; not told of sessions long before" in few
    assert "; trained once more, on validation too (train.refit=auto)" in many and "; told of sessions long" in many
    assert caplog.messages[0].startswith("chosen for 57,000 train anchors:") and "fewer than 200,000" in caplog.text
    assert "32,768 windows" in caplog.text and "1 network (train.members=auto)" in caplog.text


def test_a_setting_that_was_given_overrules_and_is_not_spoken_of(caplog):
    caplog.set_level("INFO", logger="nqcast.runs.recipe")
    model, train = ModelConfig(tokens=True, recent_width=16), TrainConfig(windows_per_epoch=100)
    assert choose(model, train, 10) == (model, train)
    assert not caplog.messages


def test_many_anchors_are_years_of_them_whatever_the_spacing():
    for minutes, enough in ((1, 5 * MANY), (5, MANY), (15, round(MANY / 3))):
        (fewer, one), (many, several) = (choose(*AUTO, count, Spacing(minutes)) for count in (enough - 1, enough))
        assert (fewer.recent_width, many.recent_width) == (ModelConfig().recent_width, WIDE)
        assert (one.members, several.members) == (1, 3)
