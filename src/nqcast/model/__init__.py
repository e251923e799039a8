"""MIGT_TVDT: attention over time, then over variables, with heads that correct the quantiles of a volatility scale."""

from nqcast.lazy import lazily

__all__, __getattr__ = lazily(__name__, config="ModelConfig", migt_tvdt="MIGT_TVDT", fused="fuse")
