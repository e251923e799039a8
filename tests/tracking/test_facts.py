"""Flat names, short values, and no secret among them."""

from __future__ import annotations

import time

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nqcast.redaction import REDACTED, is_secret_name, redact
from nqcast.tracking.facts import MAX_VALUE, flatten_metrics, flatten_parameters, shorten

NAMES = st.text("abcdefgh", min_size=1, max_size=5)
TREES = st.recursive(
    st.integers() | st.booleans() | st.none(),
    lambda inner: st.dictionaries(NAMES, inner, min_size=1, max_size=4),
    max_leaves=20,
)


def count_leaves(tree: object) -> int:
    return sum(map(count_leaves, tree.values())) if isinstance(tree, dict) else 1


@given(st.dictionaries(NAMES, TREES, max_size=5))
def test_every_leaf_becomes_one_parameter_found_under_its_dotted_name(tree: dict) -> None:
    flat = flatten_parameters(tree)
    assert len(flat) == count_leaves(tree)
    for name, text in flat.items():
        value: object = tree
        for part in name.split("."):
            assert isinstance(value, dict)
            value = value[part]
        assert text == str(value)


def test_lists_and_empty_groups_stay_whole() -> None:
    assert flatten_parameters({"a": {"b": [1, 2.5]}, "c": {}}) == {"a.b": "[1, 2.5]", "c": "{}"}


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "db_password",
        "MLFLOW_TRACKING_TOKEN",
        "api_key",
        "apiKey",
        "key",
        "clientSecret",
        "aws-secret-access-key",
    ],
)
def test_a_parameter_named_like_a_secret_is_redacted_at_any_depth(name: str) -> None:
    assert flatten_parameters({"vendor": {name: "hunter2"}}) == {f"vendor.{name}": REDACTED}
    assert flatten_parameters({name: {"inner": ["hunter2"]}}) == {f"{name}.inner": REDACTED}


@pytest.mark.parametrize("name", ["lr", "n_tokens", "keyboard", "monkey", "patch_length", "early_stopping"])
def test_ordinary_names_are_no_secrets(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me:hunter2@host:5432/mlflow",
        "https://hunter2@github.com/x",
        "API request to http://u:hunter2@127.0.0.1:1/api failed",
        "http://host/x?user=me&access_token=hunter2&y=1",
        "db-hunter2abcdefghijkl",
        "Authorization: Bearer hunter2abcdef",
    ],
)
def test_secrets_inside_values_are_redacted(text: str) -> None:
    assert "hunter2" not in redact(text)
    assert REDACTED in redact(text)


@pytest.mark.parametrize("text", ["sqlite:////data/09/mlflow.db", "http://127.0.0.1:5000", "me@example.org", "db-x"])
def test_texts_without_a_secret_stay_as_they_are(text: str) -> None:
    assert redact(text) == text


@given(st.text(max_size=2000))
def test_a_value_is_cut_only_where_it_is_too_long_and_then_says_its_length(text: str) -> None:
    short = shorten(text)
    assert len(short) <= MAX_VALUE
    assert short == text if len(text) <= MAX_VALUE else str(len(text)) in short


def test_numbers_of_a_document_are_metrics_under_their_path_and_text_is_not() -> None:
    scores = {"model": {"15m": {"skill": 0.1, "n": 3}}, "set": "all", "ok": True, "none": None, "list": [1.0, 2.0]}
    assert flatten_metrics("scores", scores) == {
        "scores/model/15m/skill": 0.1, "scores/model/15m/n": 3.0, "scores/list/0": 1.0, "scores/list/1": 2.0,
    }  # fmt: skip


def test_rows_of_a_table_are_named_by_their_text_columns() -> None:
    rows = [{"name": "model", "horizon": "15m", "skill": 0.2}, {"name": "har", "horizon": "4h", "skill": 0.1}]
    expected = {"s/model/15m/skill": 0.2, "s/har/4h/skill": 0.1}
    assert flatten_metrics("s", rows) == expected
    assert flatten_metrics("s", pd.DataFrame(rows)) == expected


SECRETS = (
    *("api_key='hunter2'", '{"password": "hunter2"}', "{'token': 'hunter2', 'a': 1}", "password: hunter2\nx: 1"),
    *("Authorization: Basic hunter2GVyOnBhc3N3b3JkZA==", "AWS_SESSION_TOKEN: 'hunter2'", "passwd = hunter2"),
    *("mysql://me:p@ss:hunter2@host/db", "vendor --password hunter2 --symbol NQ", "x: api-key = 'hunter2'"),
    *("-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----", "github_pat_11ABCDEFG0hunter2hunter2"),
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.hunter2hunter2",
)


@pytest.mark.parametrize("text", SECRETS)
def test_a_secret_is_found_in_quotes_behind_spaces_and_by_its_shape(text: str) -> None:
    assert "hunter2" not in redact(text)
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "no such key: learning_rat",
        "KeyError: 'metrics'",
        "train.lr=0.1",
        "http://host/x?y=a@b",
        "store.password: nothing reads it",
    ],
)
def test_prose_is_left_as_it_is(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("piece", ["a", "a.", "a://", "?token", "password ", "'", "a:", "-----BEGIN PRIVATE KEY-----"])
def test_a_long_text_is_redacted_in_no_time(piece: str) -> None:
    begun = time.process_time()
    redact((piece * 100_000)[:100_000])
    assert time.process_time() - begun < 2
