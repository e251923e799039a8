"""The profile of the day: given back where it is known, smoothed within its parts, summed over a horizon."""

import numpy as np
import pytest

from nqcast.data.har import (
    diurnal_profile,
    halt_slots,
    horizon_variance,
    smooth_profile,
    unseen_halt_slots,
    with_filled,
    without_halt,
)


def day_profile() -> np.ndarray:
    """A smooth curve with steps at 08:30, 15:00, 15:30 and 17:00; nothing in the halt and from 16:00 to 17:00."""
    slot = np.arange(288)
    profile = 1.0 + 0.3 * np.sin(slot / 40)
    profile[102:180] += 4
    profile[180] += 6
    profile[186] += 3
    profile[204] += 5
    profile[183:186] = profile[192:204] = 0
    return profile


def test_slots_that_training_never_saw_open_lie_between_their_neighbours():
    rng = np.random.default_rng(0)
    true = day_profile()
    slot = np.tile(np.flatnonzero(true > 0), 300)
    assert list(unseen_halt_slots(slot)) == list(halt_slots())
    profile = with_filled(diurnal_profile(slot, rng.exponential(true[slot])), unseen_halt_slots(slot))
    filled = profile[list(halt_slots())]
    assert (filled > min(profile[182], profile[186])).all() and (filled < max(profile[182], profile[186])).all()
    assert (without_halt(profile)[list(halt_slots())] == 0).all()
    seen = np.concatenate([slot, np.repeat(halt_slots(), 200)])
    assert not len(unseen_halt_slots(seen)), "what was traded in training is learned from"


def test_the_profile_of_a_known_day_comes_back():
    rng = np.random.default_rng(0)
    true = day_profile()
    slot = np.tile(np.flatnonzero(true > 0), 3000)
    variance = true[slot] * rng.gamma(0.8, 1 / 0.8, size=len(slot))
    estimate = diurnal_profile(slot, variance)
    inside = true > 0
    np.testing.assert_allclose(estimate[inside], true[inside], rtol=0.06)
    assert (estimate[~inside] == 0).all()
    assert estimate[slot].mean() == pytest.approx(variance.mean(), rel=1e-9)


def test_smoothing_never_crosses_the_sharp_slots():
    true = day_profile()
    smooth = smooth_profile(true, (true > 0).astype(int))
    for sharp in (102, 180, 186, 204):
        assert smooth[sharp] == true[sharp]
    assert abs(smooth[101] - true[101]) < 0.02 and abs(smooth[103] - true[103]) < 0.02
    noisy = true.copy()
    noisy[50] += 1
    assert smooth_profile(noisy, (true > 0).astype(int))[50] == pytest.approx(smooth[50] + 0.5)


def test_the_seasonal_variance_of_a_horizon_is_the_sum_of_the_coming_slots():
    profile = day_profile()
    table = horizon_variance(profile, (1, 3, 48, 275))
    for slot in (0, 101, 179, 182, 203, 287):
        for h, bars in enumerate((1, 3, 48, 275)):
            expected = sum(profile[(slot + k) % 288] for k in range(1, bars + 1))
            assert table[slot, h] == pytest.approx(max(expected, profile[profile > 0].min()))


def test_bars_that_never_move_are_refused():
    with pytest.raises(ValueError, match="bars that move"):
        diurnal_profile(np.arange(288), np.zeros(288))


def test_smoothing_reaches_as_far_in_time_whatever_the_slots():
    for minutes in (1, 5, 15, 30):
        peak = np.zeros(1440 // minutes)
        peak[600 // minutes] = 1.0
        smooth = smooth_profile(peak, np.ones(len(peak)))
        reached = np.flatnonzero(smooth) * minutes
        assert reached.min() > 600 - 10 and reached.max() < 600 + 10 and smooth.sum() == pytest.approx(1.0)
        assert len(reached) == {1: 19, 5: 3}.get(minutes, 1)
    before = np.zeros(1440)
    before[505] = 1.0
    assert not smooth_profile(before, np.ones(1440))[510:].any(), "08:30 parts its two sides"
