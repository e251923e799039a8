"""The report: self-contained, escaped, and saying what the data say."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nqcast.evaluation import groups
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import predictions_frame
from nqcast.report import html as page
from nqcast.report.evidence import Evidence
from nqcast.report.report import render_report

LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
HORIZONS = ("15m", "30m", "60m", "2h", "4h")
VOID = {"meta", "img"}


class Structure(HTMLParser):
    """Collects unclosed tags and everything that would be fetched."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [
            v or "" for k, v in attrs if k in ("src", "href") and not (v or "").startswith("data:image/png")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def evidence(market: Callable[..., pd.DataFrame]) -> Evidence:
    """A model that knows the true spread of the market, against the quick baselines."""
    features = market(70)
    train, test = np.arange(2760, 276 * 40), np.arange(276 * 41, len(features))
    spread = features["sigma"].to_numpy()[test, None] * np.sqrt([3, 6, 12, 24, 48])
    quantiles = spread[:, :, None] * stats.norm.ppf(LEVELS)
    predictions = predictions_frame(features, test, quantiles, spread, LEVELS, HORIZONS)
    metadata = {
        "quantiles": LEVELS,
        "horizons": HORIZONS,
        "fingerprint": "<b>fp</b>",
        "epoch": 3,
        "model": {"size": "test"},
    }
    history = [{"epoch": 0, "val_loss": 0.31}, {"epoch": 1, "val_loss": 0.3, "train_loss": 0.3, "learning_rate": 1e-4}]
    config = EvaluateConfig(bootstrap_replications=100)
    return Evidence(predictions, features, train, metadata, history, 3, config)


@pytest.mark.slow
def test_the_report_is_one_page_that_answers_the_five_questions(evidence: Evidence) -> None:
    text = render_report(evidence)
    structure = Structure()
    structure.feed(text)
    assert structure.open == []
    assert structure.fetched == []
    assert "script" not in structure.tags
    assert structure.tags.count("img") == 8
    for phrase in (
        "Better than constants?",
        "Better than seasonal har",
        "Calibrated?",
        "When does it fail?",
        "scored? 3 times",
    ):
        assert phrase in text
    assert "<b>fp</b>" not in text
    assert "&lt;b&gt;fp&lt;/b&gt;" in text


def test_the_gain_over_a_weaker_baseline_is_positive_and_over_itself_zero(evidence: Evidence) -> None:
    gain = evidence.skill("model", "time_of_day")
    assert (gain.low[:2] > 0).all()
    own = evidence.skill("model", "model")
    assert (own.value == 0).all()
    assert (own.high == 0).all()
    assert evidence.reference == "seasonal_har"


def test_tables_escape_text_and_mark_the_models_row() -> None:
    frame = pd.DataFrame({"a<b": [1.0, np.nan], "n": [12000, 3]}, index=["model", "<script>"])
    text = page.table(frame, "x & y", 1, own="model")
    assert "<script>" not in text
    assert "a&lt;b" in text
    assert "x &amp; y" in text
    assert re.search(r'<tr class="own"><td>model</td><td>1\.0</td><td>12,?000', text)
    assert "<td>–</td>" in text


def test_session_parts_follow_exchange_time_through_the_change_of_the_clocks() -> None:
    ts = pd.Series(
        pd.to_datetime(["2016-03-11 14:30", "2016-03-14 13:30", "2016-03-14 22:00", "2016-03-14 18:00"], utc=True)
    )
    parts = [name.split(" (")[0] for name in groups.session_part(ts)]
    assert parts == ["US morning", "US morning", "Asia", "US afternoon"]
    assert list(groups.weekday(pd.Series(pd.to_datetime(["2016-03-14", "2016-03-18"])))) == ["Monday", "Friday"]


def test_volatility_terciles_are_equal_thirds_in_order() -> None:
    volatility = np.random.default_rng(0).permutation(np.arange(300.0))
    third = groups.volatility_tercile(volatility)
    assert (third == np.array(groups.TERCILES, dtype=object)[(volatility // 100).astype(int)]).all()
