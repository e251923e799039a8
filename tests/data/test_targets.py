"""The targets against a look-up by the clock, with what leaves a session, a halt or a roll undefined."""

import numpy as np
import pandas as pd

from nqcast.constants import HORIZONS, TARGETS
from nqcast.data.targets import realized_volatility, target_columns


def add_targets(bars):
    return bars.assign(**target_columns(bars))


def by_lookup(bars: pd.DataFrame, minutes: int) -> np.ndarray:
    """The target of every row by looking its end up in a dict of stamps."""
    rows = {ts: (row.session, row.close, row.halt) for ts, row in zip(bars["ts"], bars.itertuples(), strict=True)}
    result = []
    for ts, row in zip(bars["ts"], bars.itertuples(), strict=True):
        end = rows.get(ts + pd.Timedelta(minutes=minutes))
        between = [rows.get(ts + pd.Timedelta(minutes=m)) for m in range(5, minutes + 1, 5)]
        if end is None or end[0] != row.session or all(bar is not None and bar[2] for bar in between):
            result.append(np.nan)
        else:
            result.append(np.log(end[1] / row.close))
    return np.array(result)


def test_targets_equal_a_lookup_by_the_clock(make_bars):
    bars = make_bars(pd.bdate_range("2016-03-10", "2016-03-15"))  # a weekend and the change to summer time inside
    table = add_targets(bars)
    for name, minutes in HORIZONS.items():
        np.testing.assert_allclose(table[f"target_{name}"], by_lookup(bars, minutes), rtol=0, atol=1e-14)


def test_a_missing_row_makes_no_target_count_rows(bars):
    holed = bars.drop(index=100).reset_index(drop=True)
    whole, table = add_targets(bars), add_targets(holed)
    assert np.isnan(table["target_15m"][97])  # its end is the row that is gone
    expected = whole["target_60m"].drop(index=100).reset_index(drop=True)
    expected[88] = np.nan
    np.testing.assert_array_equal(table["target_60m"], expected)


def test_no_label_leaves_its_session(bars):
    table = add_targets(bars)
    last = bars.groupby("session")["ts"].transform("max")
    for name, minutes in HORIZONS.items():
        defined = table[f"target_{name}"].notna()
        assert (bars["ts"] + pd.Timedelta(minutes=minutes) <= last)[defined].all()
        assert not defined[bars["ts"] + pd.Timedelta(minutes=minutes) > last].any()


def test_a_horizon_wholly_inside_the_halt_has_no_target(bars):
    local = bars["ts"].dt.tz_convert("America/Chicago")
    before_halt = (local.dt.hour == 15) & (local.dt.minute == 10)
    table = add_targets(bars)
    assert table.loc[before_halt, "target_15m"].isna().all()
    assert table.loc[before_halt, "target_30m"].notna().all()


def test_returns_across_an_unadjusted_roll_have_no_target(bars):
    roll = 500
    table, plain = add_targets(bars.assign(unadjusted=np.arange(len(bars)) == roll)), add_targets(bars)
    for name, minutes in zip(TARGETS, HORIZONS.values(), strict=True):
        across = np.arange(roll - minutes // 5, roll)
        assert table[name][across].isna().all()
        pd.testing.assert_series_equal(table[name].drop(across), plain[name].drop(across))


def test_realized_volatility_is_that_of_the_bars_a_target_spans(make_bars):
    bars = make_bars(pd.bdate_range("2016-03-10", "2016-03-14"))  # a weekend and the change to summer time inside
    variance = np.random.default_rng(0).gamma(2.0, 1e-7, len(bars))
    table = add_targets(bars.assign(realized_variance=variance))
    at = dict(zip(bars["ts"], variance, strict=True))
    found = realized_volatility(table)
    for (name, minutes), column in zip(HORIZONS.items(), found.T, strict=True):
        spans = [[ts + pd.Timedelta(minutes=m) for m in range(5, minutes + 1, 5)] for ts in bars["ts"]]
        expected = np.array([np.sqrt(sum(at.get(ts, 0.0) for ts in span)) for span in spans])
        defined = table[f"target_{name}"].notna().to_numpy()
        np.testing.assert_allclose(column[defined], expected[defined], rtol=1e-6)
        assert np.isnan(column[~defined]).all()
