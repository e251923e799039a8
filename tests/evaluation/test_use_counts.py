"""How often a test split was scored, as the log of uses tells it."""

from __future__ import annotations

import pandas as pd

from nqcast.evaluation.split_uses import count_uses, use_of_sessions
from nqcast.experiments.registration import WALK_FORWARD


def test_lines_of_other_data_do_not_count_and_a_walk_forward_over_unnamed_data_does() -> None:
    day = pd.Timestamp("2016-08-04")
    walked = use_of_sessions(WALK_FORWARD, pd.DataFrame({"session": [day], "ts": [day.tz_localize("UTC")]}))
    log = [{"data": "own"}, {"data": "other"}, walked, {"data": "own"}]
    assert count_uses(log, "own") == 3
    assert count_uses(log, "other") == 2
    assert count_uses([], "own") == 0
