"""Requests are equal exactly where nothing differs that an answer depends on."""

import random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.batch_writer import RequestKey
from routing.fleet import AnswerSharing, Fleet
from submission.input_line import InputLine
from submission.request_key import RequestKeys

NO_RULES = Fleet("f", True, {}, {}, {})
BODY = {
    "model": "auto",
    "messages": [{"role": "user", "content": "2+2?"}],
    "temperature": 0,
    "max_tokens": 5,
    "seed": 1,
}

DIFFERENT = [
    {"body": BODY | {"messages": [{"role": "user", "content": "2+2 ?"}]}},
    {"body": BODY | {"max_tokens": 6}},
    {"body": BODY | {"seed": 2}},
    {"body": BODY | {"model": "large"}},
    {"body": BODY | {"response_format": {"type": "json_object"}}},
    {"options": {"pin": "large"}},
    {"options": {"expects": {"choices": ["4"]}}},
    {"options": {"max_cost_usd": 0.1}},
    {"options": {"metadata": {"workload": "sums"}}},
]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def line(body: dict[str, Any] = BODY, options: dict[str, Any] | None = None) -> InputLine:
    return InputLine(1, "q", orjson.dumps(body), orjson.dumps(options) if options else None)


def key_of(body: dict[str, Any] = BODY, options: dict[str, Any] | None = None, **keys: Any) -> RequestKey | None:
    found = RequestKeys(keys.pop("fleet", NO_RULES), **keys).of([line(body, options)])
    return None if found is None else found[0]


@pytest.mark.parametrize("other", DIFFERENT, ids=lambda other: str(other)[:60])
def test_a_request_that_differs_has_another_key(other: dict[str, Any]) -> None:
    assert key_of(**other) not in (None, key_of())


@given(
    extra=st.dictionaries(st.sampled_from(["user", "metadata", "store"]), st.just({"row": 1})), seed=st.integers(0, 9)
)
def test_the_order_of_fields_and_what_no_answer_depends_on_do_not_matter(extra: dict[str, Any], seed: int) -> None:
    fields = list((BODY | extra | {"temperature": 0.0, "max_tokens": 5.0}).items())
    random.Random(seed).shuffle(fields)
    assert key_of(dict(fields), {"metadata": {"row": 2}}) == key_of()


@given(first=JSON, second=JSON)
def test_two_bodies_have_one_key_only_where_they_are_equal(first: Any, second: Any) -> None:
    same = orjson.dumps(first, option=orjson.OPT_SORT_KEYS) == orjson.dumps(second, option=orjson.OPT_SORT_KEYS)
    assert (key_of(BODY | {"tools": [first]}) == key_of(BODY | {"tools": [second]})) == same


@pytest.mark.parametrize(
    ("body", "options", "dedup", "rule", "shares"),
    [
        (BODY, None, False, None, True),
        (BODY | {"temperature": 0.7}, None, False, None, False),
        ({"messages": BODY["messages"]}, None, False, None, False),
        ({"messages": [{"role": "user", "content": '"temperature":0,'}]}, None, False, None, False),
        (BODY | {"temperature": 0.7, "metadata": {"temperature": 0}}, None, False, None, False),
        (BODY | {"temperature": 0.7}, {"metadata": {"endpoint": "/v1/embeddings"}}, False, None, False),
        (BODY | {"temperature": 0.7}, {"dedup": True}, False, None, True),
        (BODY, {"dedup": False}, True, AnswerSharing(True), False),
        (BODY | {"temperature": 0.7}, None, True, None, True),
        (BODY | {"temperature": 0.7}, None, False, AnswerSharing(True), True),
        (BODY, None, False, AnswerSharing(False), False),
        (BODY, None, False, AnswerSharing(None, 60.0), True),
    ],
)  # fmt: skip
def test_who_says_that_equal_lines_share_an_answer(
    body: dict[str, Any], options: dict[str, Any] | None, dedup: bool, rule: AnswerSharing | None, shares: bool
) -> None:
    rules = {} if rule is None else {"sums": rule}
    fleet = Fleet("f", True, {}, {}, {}, answer_sharing=rules)
    workload = {} if rule is None else {"metadata": {"workload": "sums"}}
    found = key_of(body, (options or {}) | workload, fleet=fleet, dedup=dedup)
    assert (found is not None) == shares
    if found is not None:
        assert found.reuse_s == (0.0 if rule is None else rule.reuse_s)
