"""When a run stops by itself."""

import math

from nqcast.training import EarlyStopping


def test_it_stops_after_patience_epochs_without_a_fall_beyond_min_delta() -> None:
    stopping = EarlyStopping(patience=3, min_delta=0.1)
    assert [stopping.step(loss) for loss in (1.0, 0.8, 0.75, 0.71, 0.72)] == [False, False, False, False, True]
    assert stopping.best == 0.8


def test_slow_steady_progress_is_progress_against_the_last_counted_best() -> None:
    stopping = EarlyStopping(patience=3, min_delta=0.1)
    assert not any(stopping.step(1.0 - 0.04 * i) for i in range(20))


def test_nan_is_never_an_improvement() -> None:
    stopping = EarlyStopping(patience=2, min_delta=0.0)
    assert not stopping.step(math.nan)
    assert stopping.best == math.inf
    assert not stopping.step(1.0)
    assert [stopping.step(math.nan), stopping.step(math.nan)] == [False, True]
    assert stopping.best == 1.0


def test_a_restored_state_stops_at_the_same_epoch() -> None:
    one, other = EarlyStopping(2, 0.0), EarlyStopping(2, 0.0)
    other.load_state_dict(one.state_dict())
    assert other.best == math.inf
    one.step(0.5)
    one.step(0.6)
    other.load_state_dict(one.state_dict())
    assert other.step(0.6)
