"""Patterns and schemas of a tenant, and answers to them: each is compiled and judged in bounded time, or refused."""

import json
from contextlib import suppress
from typing import Any

import pytest

from routing.answer_checks.json_schema import find_schema_error, read_json, validate_json
from routing.answer_checks.judge import judge
from routing.fleet import Tier
from routing.outcome import Completion, Usage
from routing.query import Expectation, Query
from submission.chat_request_validation import check_expects, check_request
from submission.input_line import LineError
from tests.attack.conftest import cpu_within

TIER = Tier("small", "small", 4, ("d",), None)
WIDE = "[\x01-\uffff]"


def judged(text: str, **expects: Any) -> None:
    answer = Completion(text, "stop", Usage(), {}, 1.0, "m", mean_logprob=-0.1)
    judge(answer, Query("?", expects=Expectation(**expects)), tier=TIER)


@pytest.mark.parametrize(
    "pattern",
    [
        "([^#]+)(?#)*#",
        r"(?x)([\w\s]+) *\#",
        r"(?x)([\w\s]+) # comment" + "\n*x",
        r"(?:(?:\w+\s*)+)+\#",
        "(a|a)*b" * 20,
        "(.*)*" * 30 + "x",
        "(((a{0,9}){0,9}){0,9})b",
        "[ab]*a[ab]{900}c",
    ],
)
def test_a_pattern_that_backtracks_is_refused_or_linear(pattern: str) -> None:
    with cpu_within(2.0, f"{pattern[:24]!r}"):
        with suppress(LineError):
            check_expects({"regex": pattern})
        for text in ("a" * 63, "word " * 2_000, "ab" * 50_000):
            judged(text, regex=pattern)


@pytest.mark.parametrize(
    "pattern", ["(?i)" + WIDE * 195, "(?i)" + r"\p{L}" * 99, r"(?i)[\p{L}\p{N}]" * 30, "a{999}" * 80]
)
def test_a_pattern_that_is_slow_to_compile_is_refused_soon(pattern: str) -> None:
    with cpu_within(2.0, f"{len(pattern)} characters"):
        for n in range(5):
            with suppress(LineError):
                check_expects({"regex": pattern + str(n)})


def branching(unevaluated: str, levels: int) -> dict[str, Any]:
    references = [{"$ref": f"#/$defs/d{n + 1}"} for n in range(levels)]
    return {f"d{n}": {"if": to, "then": to, "else": to, unevaluated: False} for n, to in enumerate(references)} | {
        f"d{levels}": {}
    }


SCHEMAS: dict[str, dict[str, Any]] = {
    "wide classes": {"type": "string", "pattern": "(?i)" + WIDE * 2_000},
    "many patterns": {"anyOf": [{"pattern": f"(?i)[a-z{n}]{{20}}x"} for n in range(3_000)]},
    "many translated classes": {"anyOf": [{"pattern": r"\s" * 99 + str(n)} for n in range(9)]},
    "many properties of Unicode": {"anyOf": [{"pattern": r"\p{L}{1,9}" + str(n)} for n in range(180)]},
    "many dots": {"anyOf": [{"pattern": f".{{1,150}}{n}"} for n in range(190)]},
    "patterns in unused definitions": {"$defs": {str(n): {"pattern": r"\s" * 200} for n in range(200)}},
    "many subschemas": {"anyOf": [{"properties": {f"a{n}": {"enum": [n]}}} for n in range(2_500)]},
    "exponential references": {"$ref": "#/$defs/d0"}
    | {"$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)} | {"d60": {}}},
    "a ring of references": {"$ref": "#/$defs/d0"}
    | {"$defs": {f"d{n}": {"items": {"$ref": f"#/$defs/d{(n + 1) % 900}"}} for n in range(900)}},
    "references that are encoded": {"$ref": "#/$defs/%640"}
    | {"$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/%64{n + 1}"}] * 2} for n in range(60)} | {"d60": {}}}
    | {f"%64{n}": {} for n in range(61)},
    "what is not evaluated, by many paths": {"$ref": "#/$defs/d0", "unevaluatedProperties": False}
    | {"$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(24)} | {"d24": {}}},
    "items that are not evaluated, by many paths": {"$ref": "#/$defs/d0", "$defs": branching("unevaluatedItems", 15)},
    "references in place": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
    "a reference to the network": {"$ref": "https://169.254.169.254/latest"},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_compiled_within_a_bound_or_refused(name: str) -> None:
    schema = SCHEMAS[name]
    body = {"messages": [{"role": "user", "content": "hi"}]}
    wrapper = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with cpu_within(2.0, name), suppress(LineError):
        check_request({**body, "response_format": wrapper})


def nested(unevaluated: str, levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": ["object", "array"]}
    for _ in range(levels):
        schema = {"anyOf": [schema], unevaluated: {"type": "integer"}}
    return schema


ANSWERS: dict[str, tuple[dict[str, Any], str]] = {
    "a long enum": ({"items": {"enum": list(range(18_000))}}, json.dumps(list(range(20_000, 22_000)))),
    "an enum of texts": ({"items": {"enum": ["x" * 50 + str(n) for n in range(900)]}}, json.dumps(["x" * 50] * 2_000)),
    "many branches": (
        {"items": {"anyOf": [{"type": "string", "const": str(n)} for n in range(900)]}},
        json.dumps([1] * 1_500),
    ),
    "doubling below": ({"items": {"allOf": [{"$ref": "#"}] * 2}, "type": "array"}, "[" * 60 + "]" * 60),
    "doubling, wrong at its end": (
        {"items": {"allOf": [{"$ref": "#"}] * 2}, "type": "array"},
        "[" * 15 + "1" + "]" * 15,
    ),
    "patterns": ({"anyOf": [{"pattern": f"[ab]*a[ab]{{99}}{n}"} for n in range(45)]}, json.dumps("ab" * 2_000)),
    "unique items": ({"items": {"uniqueItems": True}}, json.dumps([[{"a": n} for n in range(9_000)]] * 3)),
    "a deep value": ({"items": {"$ref": "#"}}, "[" * 5_000 + "]" * 5_000),
    "a huge number": ({"multipleOf": 3}, "9" * 4_000),
    "huge numbers": ({"items": {"multipleOf": 0.01}}, json.dumps([10**4_000] * 200)),
    "huge numbers in an enum": ({"items": {"enum": [1]}}, json.dumps([10**4_000] * 200)),
    "divisions": ({"items": {"multipleOf": 1e-7}}, "[" + ",".join(["1.1e300"] * 120_000) + "]"),
    "divisions of usual numbers": ({"items": {"multipleOf": 0.01}}, "[" + ",".join(["12345.67"] * 100_000) + "]"),
    "what is not evaluated, nested": (nested("unevaluatedProperties", 40), '{"a": 1, "b": 2}'),
    "items that are not evaluated, nested": (nested("unevaluatedItems", 40), "[1, 2, 3]"),
    "what is not evaluated, in place": (
        {"anyOf": [{"additionalProperties": {"type": "integer"}}] * 40, "unevaluatedProperties": False},
        json.dumps({str(n): n for n in range(20_000)}),
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_judged_within_a_bound(name: str) -> None:
    schema, text = ANSWERS[name]
    assert find_schema_error(schema) is None
    with cpu_within(1.0, name):
        judged(text, json_schema=schema)


@pytest.mark.parametrize("text", ['{"a": 1, "b": "x"}', '{"a": 1, "c": 2}', '{"a": 1, "b": "x", "price": 0.5}'])
def test_what_is_not_evaluated_is_still_checked_where_it_is_little_work(text: str) -> None:
    schema = {
        "allOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {"type": "string"}}}],
        "properties": {"price": {"multipleOf": 0.01}},
        "unevaluatedProperties": False,
    }
    found = validate_json(text, read_json(text), schema)
    assert found.unchecked == []
    assert bool(found.wrong) == ("c" in text.partition("price")[0])


def test_a_local_file_is_not_read_by_a_reference() -> None:
    schema = {"$ref": "file:///etc/hostname"}
    assert "does not begin with #/" in (find_schema_error(schema) or "")
    assert validate_json("1", read_json("1"), schema).wrong == []
