"""What the amount of training data decides, where a setting says auto."""

from __future__ import annotations

import logging

from nqcast.fields import changed
from nqcast.model.config import ModelConfig
from nqcast.training.config import TrainConfig

logger = logging.getLogger(__name__)

MANY = 200_000  # train anchors, some three years
WIDE = 128  # of the direct path, where there is enough to learn from
MEMBERS = 3  # networks, where there are so many anchors; each trains in a minute or two
FEWEST_WINDOWS = 32_768
PASSES = 2.0  # over the train anchors in all epochs together


def choose(model: ModelConfig, train: TrainConfig, anchors: int) -> tuple[ModelConfig, TrainConfig]:
    """Both settings with every auto decided by the number of train anchors; one line of the log says what and why.

    model.tokens: the direct path alone, wider from some three years of bars on. It looks at the newest bars only, so
    its windows hold no more. Attention beside long memory is for whoever asks for it (docs/log.md).
    train.members: three networks from some three years of bars on, whose mean gains a twelfth more; one on fewer.
    train.windows_per_epoch: so many that all epochs together see each anchor twice, but never less than 32,768.
    """
    said: list[str] = []
    if model.tokens == "auto" and model.size == "full":
        model = changed(model, {"tokens": True})
        said.append("attention, since model.size=full asks for it")
    elif model.tokens == "auto":
        many, newest = anchors >= MANY, max(model.recent_bars)
        width = max(model.recent_width, WIDE) if many else model.recent_width
        fields = {"tokens": False, "recent_width": width, "context": newest, "patch_length": newest}
        model = changed(model, fields)
        relation = "at least" if many else "fewer than"
        said.append(f"the direct path alone, {width} wide, since they are {relation} {MANY:,} (model.tokens=auto)")
    if train.windows_per_epoch == "auto":
        windows = max(FEWEST_WINDOWS, round(PASSES * anchors / max(train.epochs, 1)))
        train = changed(train, {"windows_per_epoch": windows})
        said.append(f"{train.epochs} epochs of {min(windows, anchors):,} windows (train.windows_per_epoch=auto)")
    if train.members == "auto":
        train = changed(train, {"members": MEMBERS if anchors >= MANY else 1})
        said.append(f"{train.members} network{'s' if train.members != 1 else ''} (train.members=auto)")
    if said:
        logger.info("chosen for %s train anchors: %s", f"{anchors:,}", "; ".join(said))
    return model, train
