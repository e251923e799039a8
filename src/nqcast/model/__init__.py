"""MIGT_TVDT: attention over time, then over variables, with heads that correct the quantiles of a volatility scale."""

from nqcast.lazy import lazily

_HOME = {"ModelConfig": "config", "MIGT_TVDT": "migt_tvdt", "fuse": "fused.fuse"}
__all__ = sorted(_HOME)

__getattr__ = lazily(__name__, _HOME)
