"""What trading on the forecasts would have earned: no look-ahead, no overlap, costs paid, and how sure it is.

Names are loaded on first use, so that `nqcast.backtest.config` can be imported without matplotlib.
"""

from nqcast.lazy import lazily

_HOME = {
    "BacktestConfig": "config",
    "Timeline": "trades",
    "Trades": "trades",
    "backtest": "run",
}
__all__ = sorted(_HOME)

__getattr__ = lazily(__name__, _HOME)
