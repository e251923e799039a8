"""Experiments: one training run from tables to checkpoint, and what repeats it (folds of a walk-forward, ablations)."""

from nqcast.lazy import lazily

_HOME = {
    "TrainingRun": "run",
}
__all__ = sorted(_HOME)

__getattr__ = lazily(__name__, _HOME)
