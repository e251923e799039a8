"""The results of a backtest as plain text, at most 80 columns."""

import textwrap
from collections.abc import Mapping
from typing import Any

BASIS_POINTS = 1e4


def render(results: Mapping[str, Any], confidence: float) -> str:
    """A line per book, the controls of all horizons together, and a sentence that says what is shown."""
    span, ticks = results["sessions"], results["side_ticks"]
    heading = (
        f"Backtest of {results['forecast'].replace('_', ' ')}: {results['forecasts']:,} forecasts in {span['count']} "
        f"sessions, {span['first']} to {span['last']}; positions {results['positions'].replace('_', ' ')}, filled at "
        f"the next bar's open, closed after the horizon or with the session; {ticks:g} ticks per contract and side. "
        f"Basis points of a fixed capital per session, with {confidence:.0%} intervals from a block bootstrap over "
        "sessions."
    )
    lines = [textwrap.fill(heading, 79), ""]
    lines.append("      trades long%  expo.   gross   costs     net  interval         Sharpe")
    for name, book in results["books"].items():
        lines.append(
            f"  {name:<3}{book['trades']:>7,}{100 * book['long_share']:>6.0f}{book['exposure']:>7.2f}"
            f"{_bp(book['gross']['value']):>8}{_bp(-book['cost']):>8}{_bp(book['net']['value']):>8}  "
            f"{_between(book['net']):<16}{book['sharpe']['value']:>+7.2f}"
        )
    return "\n".join([*lines, "", *_controls(results["books"]["all"]), "", textwrap.fill(conclusion(results), 79)])


def _controls(book: Mapping[str, Any]) -> list[str]:
    ticks = book["break_even_ticks"]
    break_even = f"{ticks:.2f} ticks per contract and side" if ticks is not None and ticks > 0 else "none"
    rows = {
        "all horizons, net": book["net"],
        "the same trades, always long": book["always_long"],
        "buy and hold, same volatility": book["buy_and_hold_same_volatility"],
        "buy and hold, same exposure": book["buy_and_hold_same_exposure"],
        "net less always long": book["over_always_long"],
        "net less buy and hold (volatility)": book["over_buy_and_hold"],
        "before costs": book["gross"],
        "random signs, before costs": book["random_signs"],
    }
    lines = [f"  {name:<36}{_bp(row['value']):>9} {_between(row)}" for name, row in rows.items()]
    return [*lines, f"  {'costs that would leave nothing':<36}{break_even:>9}"]


def conclusion(results: Mapping[str, Any]) -> str:
    """What all horizons together show, and what they do not."""
    book = results["books"]["all"]
    net, over = book["net"], book["over_buy_and_hold"]
    if net["low"] > 0:
        shown = "The net profit is above zero"
    elif net["high"] < 0:
        shown = "The net result is a loss"
    else:
        shown = "The net result cannot be told from zero"
    against = (
        "and above buy-and-hold of the same volatility"
        if over["low"] > 0
        else "and below buy-and-hold of the same volatility"
        if over["high"] < 0
        else "and cannot be told from buy-and-hold of the same volatility"
    )
    return (
        f"{shown} {against}; before costs, random signs on the same trades do as well in "
        f"{100 * book['p_random']:.0f} % of books. "
        "Quantiles are made to say how wide, not where to: the direction here is the sign of a median that is nearly 0."
    )


def _bp(share: float) -> str:
    return f"{BASIS_POINTS * share:+.2f}"


def _between(row: Mapping[str, float]) -> str:
    return f"[{_bp(row['low'])},{_bp(row['high'])}]"
