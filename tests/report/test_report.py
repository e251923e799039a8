"""The report: self-contained, escaped, and saying what the data say."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nqcast.evaluation import session_losses
from nqcast.evaluation.comparison import compare_forecasts
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import predictions_frame
from nqcast.report import html as page
from nqcast.report.evidence import Evidence
from nqcast.report.figures.style import new_figure, with_source
from nqcast.report.glossary import ALIASES, TERMS
from nqcast.report.report import _direction, _origin, render_report
from nqcast.report.sessions import sure_section
from nqcast.storage.checkpoint import DataCard, Metadata

LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
HORIZONS = ("15m", "30m", "60m", "2h", "4h")
VOID = {"meta", "img", "br"}


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
    data = DataCard(source="SIMULATED MARKET (seed 7)", first="2015-07-01 22:00", last="2015-09-08 20:55")
    of_model = {"model": {"size": "test"}, "quantiles": LEVELS, "horizons": HORIZONS, "epoch": 3}
    metadata = Metadata(fingerprint="<b>fp</b>", data=data, **of_model)
    splits = pd.DataFrame({"position": train, "split": "train"})
    config = EvaluateConfig(bootstrap_replications=100)
    return Evidence.gather(predictions, None, features, splits, metadata, config)


HISTORY = [{"epoch": 0, "val_loss": 0.31}, {"epoch": 1, "val_loss": 0.3, "train_loss": 0.3, "learning_rate": 1e-4}]


class KnownMarket:
    """A market that knows its quantiles: those of the predictions."""

    def __init__(self, predictions: pd.DataFrame) -> None:
        self.rows = predictions.drop(columns=["session", "target", "scale"])

    def quantiles_at(
        self, ts: pd.Series, levels: tuple[float, ...], *, horizons: Sequence[str], **_: object
    ) -> pd.DataFrame:
        return self.rows[self.rows["ts"].isin(ts)]


@pytest.mark.slow
def test_the_report_is_one_page_that_answers_the_five_questions(evidence: Evidence) -> None:
    market = KnownMarket(evidence.predictions)
    found = compare_forecasts(evidence, market)
    text = render_report(evidence, {**found, "test_uses": 3}, HISTORY, run={"Environment": "test"})
    structure = Structure()
    structure.feed(text)
    assert structure.open == []
    assert "script" not in structure.tags
    assert structure.tags.count("img") == 9
    assert structure.fetched and {link[0] for link in structure.fetched} == {"#"}  # nothing leaves the page
    targets = set(re.findall(r'id="([^"]+)"', text))
    assert {link[1:] for link in structure.fetched} <= targets
    plain = re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*</style>", "", text, flags=re.DOTALL))
    words = " ".join(plain.split())
    for phrase in (
        *("In short The model ", "Gain in skill ", "Inside the 80 % interval : model"),
        *(
            "When does it fail?",
            "has been scored 3 times",
            "SIMULATED MARKET (seed 7): these bars are drawn from a seed",
        ),
        *(
            "2015-07-01 22:00 to 2015-09-08 20:55 UTC",
            "Environment test",
            "Share of the learnable skill",
            "truth 100.0",
        ),
        *("sessions won", "Model confidence set , p-values", "corrected for the number of horizons ( Holm )"),
        *("An oracle, which no forecast can be", "model: Asia (17:00–02:00)"),
        "Origin of the model: all 1 settings",
    ):
        assert phrase in words, phrase
    assert "<b>fp</b>" not in text
    assert "&lt;b&gt;fp&lt;/b&gt;" in text
    few = {name: {h: {**gain, "p_value": None} for h, gain in row.items()} for name, row in found["gains"].items()}
    assert "Diebold" in text and "Diebold" not in "".join(sure_section(evidence, {**found, "gains": few}))


def test_the_page_says_whether_the_model_was_trained_once_more_and_until_when(evidence: Evidence) -> None:
    last = evidence.features["ts"].iloc[evidence.train[-1]]
    refitted = dataclasses.replace(evidence.metadata, train={"refit": True})
    once, twice = (_origin(one, [])[0] for one in (evidence, dataclasses.replace(evidence, metadata=refitted)))
    assert re.search("Trained once more(<[^>]+>)+no<", once)
    assert re.search(f"Trained once more(<[^>]+>)+on validation .* up to {last:%Y-%m-%d}<", twice)


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
    parts = [name.split(" (")[0] for name in session_losses.session_part(ts)]
    assert parts == ["US morning", "US morning", "Asia", "US afternoon"]
    assert list(session_losses.weekday(pd.Series(pd.to_datetime(["2016-03-14", "2016-03-18"])))) == ["Monday", "Friday"]


def test_volatility_terciles_are_equal_thirds_in_order() -> None:
    volatility = np.random.default_rng(0).permutation(np.arange(300.0))
    third = session_losses.volatility_tercile(volatility)
    assert (third == np.array(session_losses.TERCILES, dtype=object)[(volatility // 100).astype(int)]).all()


def test_the_first_mention_of_a_term_leads_to_its_definition_and_tags_stay_whole() -> None:
    text = page.with_links(
        '<p title="an anchor">Anchors and anchors</p><dl><dt>anchor</dt></dl>', {"anchors": "Anchor"}
    )
    link = '<a class="term" href="#anchor">Anchors</a>'
    assert text == f'<p title="an anchor">{link} and anchors</p><dl><dt>anchor</dt></dl>'


def test_every_alias_leads_to_a_term_that_is_defined() -> None:
    assert set(ALIASES.values()) <= set(TERMS)
    assert {page.slug(term) for term in TERMS} >= {page.slug(term) for term in ALIASES.values()}


@pytest.mark.parametrize(("source", "marked"), [("SIMULATED MARKET (seed 7)", True), ("nq.parquet", False)])
def test_a_figure_of_a_simulated_market_says_so_and_no_other_does(source: str, marked: bool) -> None:
    figure = new_figure()
    figure.subplots()
    assert bool(with_source(figure, source).texts) == marked


def test_an_accuracy_that_is_the_share_of_rises_gets_a_word(evidence: Evidence) -> None:
    said = " ".join(_direction(evidence))
    assert "the accuracy is the share of rises" not in said  # the median is 0 everywhere: there is no accuracy
    rising = np.where(np.array(LEVELS) == 0.5, 1e-9, evidence.anchors.quantiles)
    up = dataclasses.replace(evidence, anchors=dataclasses.replace(evidence.anchors, quantiles=rising))
    assert "the accuracy is the share of rises" in " ".join(_direction(up))


def test_the_reports_tests_count_an_hour_of_the_table_that_was_forecast(evidence: Evidence) -> None:
    ts = pd.date_range("2016-01-04", periods=100, freq="1min", tz="UTC")
    by_minute = {"features": pd.DataFrame({"ts": ts}), "metadata": Metadata(horizons=("15m", "4h"))}
    assert dataclasses.replace(evidence, **by_minute).overlaps == ((15, 60), (240, 240))
