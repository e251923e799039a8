"""Whether the newest bars and outcomes are still those of training: feature drift, coverage, skill.

Names are loaded on first use, so that `nqcast.monitoring.config` can be imported without torch.
"""

from nqcast.lazy import lazily

_HOME = {
    "MonitorConfig": "config",
    "monitor": "compare",
}
__all__ = sorted(_HOME)

__getattr__ = lazily(__name__, _HOME)
