"""The names and sizes that the whole project shares; each stands here once."""

from typing import Final

BAR_MINUTES: Final = 5  # of the bars that parameters count; those of a table: nqcast.spacing
MINUTE_NS = 60_000_000_000
DAY_NS = 1440 * MINUTE_NS
CONTEXT = 288
WARMUP_BARS = 5520  # 20 sessions of 276 bars: the half-life of the slowest average
EXCHANGE_TIMEZONE = "America/Chicago"
HORIZONS: dict[str, int] = {"15m": 15, "30m": 30, "60m": 60, "2h": 120, "4h": 240}  # the default ones, minutes
TARGETS: tuple[str, ...] = tuple(f"target_{name}" for name in HORIZONS)
LEVELS: tuple[float, ...] = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
CLOCK: tuple[str, ...] = ("bar_in_day", "day_of_week", "day_of_month", "day_of_year")
FEATURES: tuple[str, ...] = (
    *("open_return", "high_return", "low_return", "log_return", "log_volume", "gk_volatility"),
    *("rv_12", "rv_36", "rv_72", "amihud", "rsi_14", "macd", "macd_signal", "roc_5", "roc_10", "roc_20"),
    *("ema_slope_9", "ema_slope_21", "ema_slope_50", "ema_dev_9", "ema_dev_21", "ema_dev_50"),
    *("atr_14", "volume_ma_ratio"),
)
SIMULATED = "SIMULATED MARKET"
"""How the source of bars begins that no exchange has traded; every result made from them says so."""
SPLITS: tuple[str, ...] = ("train", "validation", "test")


def level_name(level: float) -> str:
    """Column name of a quantile's level: 0.05 -> "q05", 0.5 -> "q50", 0.025 -> "q025"; to four decimals, no more."""
    return "q" + f"{level:.4f}"[2:].rstrip("0").ljust(2, "0")
