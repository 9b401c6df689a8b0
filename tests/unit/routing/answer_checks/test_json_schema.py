"""JSON Schema, held against another implementation; its work is bounded and nothing is fetched."""

import json
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.answer_checks.json_schema import (
    MAX_FINDINGS,
    MAX_STEPS_OF_ALL_ERRORS,
    NotJsonError,
    Schema,
    ValidationResult,
    find_schema_error,
    read_json,
    validate_json,
)

PERSON = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 20, "pattern": "^[A-Z]"},
        "age": {"type": "integer", "minimum": 0, "exclusiveMaximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2, "uniqueItems": True},
        "next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
    },
    "required": ["name"],
    "additionalProperties": False,
}


def validate_instance(value: Any, schema: Any) -> ValidationResult:
    text = json.dumps(value)
    return validate_json(text, read_json(text), schema)


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ({"name": "Anna", "age": 30, "tags": ["a", "b"], "next": {"name": "Bert"}}, []),
        ({}, ["$.name: missing"]),
        ([], ["$: has the wrong type; expected object"]),
        ({"name": ""}, ["$.name: violates minLength 1", "$.name: does not match the pattern"]),
        ({"name": "anna"}, ["$.name: does not match the pattern"]),
        ({"name": "Anna", "age": True}, ["$.age: has the wrong type; expected integer"]),
        ({"name": "Anna", "age": 150}, ["$.age: violates exclusiveMaximum 150"]),
        ({"name": "Anna", "age": 30.0}, []),
        ({"name": "Anna", "tags": ["a", "c"]}, ["$.tags[1]: is not one of the values in enum"]),
        ({"name": "Anna", "tags": ["a", "a"]}, ["$.tags: has duplicate items"]),
        ({"name": "Anna", "shoes": 1}, ["$: 1 unexpected property"]),
        ({"name": "Anna", "shoes": 1, "hats": 2}, ["$: 2 unexpected properties"]),
        ({"name": "Anna", "next": {"age": 3}}, ["$.next: matches no schema in anyOf"]),
    ],
)
def test_what_is_wrong_is_named_by_the_schemas_words(value: Any, wrong: list[str]) -> None:
    findings = validate_instance(value, PERSON)
    assert findings.wrong == wrong
    assert findings.unchecked == []


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"minimum": "three"}, r"invalid at \$.minimum"),
        ({"items": {"type": "float"}}, r"invalid at \$.items.type"),
        ({"items": 3}, r"invalid at \$.items"),
        ({"$ref": "https://example.org/schema"}, "does not begin with #/"),
        ({"$ref": "file:///etc/passwd"}, "does not begin with #/"),
        ({"$ref": "#/$defs/nothing"}, "a place that it does not have"),
        ({"$schema": "https://example.org/schema"}, "not draft 4"),
        ({"$ref": "#"}, "leads back to itself"),
        ({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}, "leads back to itself"),
        ({"$dynamicRef": "#x"}, "not supported"),
        ({"properties": {"a": {"$id": "b"}}}, "not supported"),
        ({"properties": {"a": {"pattern": "(?=x)y"}}}, r"pattern at \$.properties.a.pattern .* linear time"),
        ({"patternProperties": {"(a)\\1": {}}}, "linear time"),
        ({"pattern": "a" * 501}, "longer than 500"),
        ({"anyOf": [{"pattern": f"a{n}"} for n in range(51)]}, "more than 50 patterns"),
        ({"$defs": {"unused": {"pattern": r"\s" * 60}}}, "too many classes"),
        ({"anyOf": [{"const": n} for n in range(2_000)]}, "more than 2000 subschemas"),
        ({"enum": ["x" * 1000] * 100}, "larger than 100000 bytes"),
    ],
)
def test_a_schema_that_is_not_used_is_refused_and_rejects_nothing(schema: dict[str, Any], named: str) -> None:
    error = find_schema_error(schema)
    assert error is not None
    assert re.search(named, error), error
    assert validate_instance(5, schema) == ValidationResult([], [f"JSON Schema ({error})"])


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"items": {"enum": list(range(18_000))}}, json.dumps([-1] * 2000)),
        ({"items": {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}, "type": "array"}, "[" * 30 + "]" * 30),
        (
            {"$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)} | {"d30": {}}}
            | {"$ref": "#/$defs/d0"},
            "1",
        ),
        ({"items": {"pattern": "[ab]*a[ab]{500}c"}}, json.dumps(["ab" * 200] * 20)),
    ],
    ids=["enum", "below", "in place", "pattern"],
)
def test_an_answer_that_takes_too_much_work_is_not_checked(schema: dict[str, Any], text: str) -> None:
    assert find_schema_error(schema) is None
    found = validate_json(text, read_json(text), schema)
    assert (found.wrong, found.unchecked) == ([], ["JSON Schema (too much work on an answer of this size)"])


TREE = {
    "type": "object",
    "properties": {side: {"anyOf": [{"type": "null"}, {"$ref": "#"}]} for side in ("left", "right")},
    "required": ["left"],
}


def test_a_tree_takes_work_by_its_size_alone() -> None:
    deep = '{"left": ' * 200 + "null" + "}" * 200
    assert Schema(TREE).most_steps(deep) < 2_000
    assert validate_json(deep, read_json(deep), TREE) == ([], [])


def test_of_much_work_the_first_error_is_named() -> None:
    schema = {"items": {"type": "string"}}
    few, many = [1] * 20, [1] * MAX_STEPS_OF_ALL_ERRORS
    assert len(validate_instance(few, schema).wrong) == MAX_FINDINGS
    assert validate_instance(many, schema).wrong == ["$[0]: has the wrong type; expected string"]


def test_a_key_of_the_answer_is_not_quoted() -> None:
    schema = {"additionalProperties": {"type": "integer"}, "properties": {"known": {"type": "integer"}}}
    assert validate_instance({"a secret": "x"}, schema).wrong == ["$.*: has the wrong type; expected integer"]
    assert validate_instance({"known": "x"}, schema).wrong == ["$.known: has the wrong type; expected integer"]


@pytest.mark.parametrize("text", ["", "NaN", "[Infinity]", "{'a': 1}", "[" * 100_000, "1 2", "9" * 5_000, "\ud800"])
def test_a_text_that_is_no_json_is_an_error(text: str) -> None:
    with pytest.raises(NotJsonError):
        read_json(text)


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"not": {"type": "string"}}, 1, "a"),
        ({"not": False}, 1, None),
        ({"oneOf": [{"type": "integer"}, {"minimum": 3}]}, 2.5 + 1, 4),
        ({"allOf": [{"minimum": 2}, {"maximum": 4}]}, 3, 5),
        ({"const": [1, {"a": None}]}, [1.0, {"a": None}], [True, {"a": None}]),
        ({"enum": [1, "a"]}, 1.0, True),
        ({"multipleOf": 0.5}, 1.5, 0.35),
        ({"prefixItems": [{"type": "string"}], "items": {"type": "integer"}}, ["a", 1], ["a", "b"]),
        ({"minProperties": 1, "maxProperties": 1}, {"a": 1}, {}),
        ({"patternProperties": {"^n_": {"type": "integer"}}, "additionalProperties": False}, {"n_a": 1}, {"x": 1}),
        ({"additionalProperties": {"type": "integer"}, "properties": {"a": {}}}, {"a": "x", "b": 1}, {"b": "x"}),
        ({"$defs": {"n/a": {"type": "null"}}, "$ref": "#/$defs/n~1a"}, None, 1),
        ({"type": ["string", "null"]}, None, 1),
        ({"uniqueItems": True}, [1, True, "1"], [1, 1.0]),
        ({"format": "email"}, "not one", None),
        ({"dependentRequired": {"a": ["b"]}}, {"b": 1}, {"a": 1}),
        ({"contains": {"type": "integer"}}, ["a", 1], ["a"]),
        ({"unevaluatedProperties": False, "allOf": [{"properties": {"a": {}}}]}, {"a": 1}, {"b": 1}),
        ({"if": {"type": "string"}, "then": {"minLength": 2}, "else": {"minimum": 2}}, "ab", 1),
    ],
)
def test_each_keyword_accepts_and_rejects_as_another_validator_does(schema: Any, right: Any, wrong: Any) -> None:
    validator = jsonschema.Draft202012Validator(schema)
    for value in (right, wrong):
        assert (validate_instance(value, schema).wrong == []) == validator.is_valid(value)
    assert validate_instance(right, schema).wrong == []


scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, "", "a", "ab"])
values = st.recursive(
    scalars, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from("abc"), x, max_size=3), max_leaves=6
)
types = st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null"])
small = st.integers(0, 3)
leaves = st.fixed_dictionaries(
    {},
    optional={
        "type": types | st.lists(types, min_size=1, max_size=2, unique=True),
        "enum": st.lists(scalars, min_size=1, max_size=3),
        "const": scalars,
        "minimum": small,
        "exclusiveMaximum": small,
        "minLength": small,
        "maxItems": small,
        "minProperties": small,
        "uniqueItems": st.booleans(),
        "pattern": st.sampled_from(["^a", "b$", "a+"]),
        "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
    },
)
schemas = st.recursive(
    leaves,
    lambda x: st.fixed_dictionaries(
        {},
        optional={
            "properties": st.dictionaries(st.sampled_from("abc"), x, max_size=2),
            "additionalProperties": x | st.booleans(),
            "items": x,
            "prefixItems": st.lists(x, min_size=1, max_size=2),
            "anyOf": st.lists(x, min_size=1, max_size=2),
            "oneOf": st.lists(x, min_size=1, max_size=2),
            "allOf": st.lists(x, min_size=1, max_size=2),
            "not": x,
        },
    ),
    max_leaves=5,
)


@given(schema=schemas, value=values)
def test_any_schema_is_judged_as_by_another_validator(schema: dict[str, Any], value: Any) -> None:
    findings = validate_instance(value, schema)
    assert findings.unchecked == []
    assert (findings.wrong == []) == jsonschema.Draft202012Validator(schema).is_valid(value)
