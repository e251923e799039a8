"""Training runs: what one is made of, and how it goes from tables to a checkpoint, by one process or several."""

from nqcast.lazy import lazily

_HOME = {
    "TrainingRun": "run",
}
__all__ = sorted(_HOME)

__getattr__ = lazily(__name__, _HOME)
