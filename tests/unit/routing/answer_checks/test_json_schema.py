"""The subset of JSON Schema, held against a full implementation."""

from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.answer_checks.json_schema import MAX_DEPTH, NotJsonError, read_json, validate_instance

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


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ({"name": "Anna", "age": 30, "tags": ["a", "b"], "next": {"name": "Bert"}}, []),
        ({}, ["$.name: missing"]),
        ([], ["$: not of type object"]),
        ({"name": ""}, ["$.name: minLength 1 is not kept", "$.name: not of its pattern"]),
        ({"name": "anna"}, ["$.name: not of its pattern"]),
        ({"name": "Anna", "age": True}, ["$.age: not of type integer"]),
        ({"name": "Anna", "age": 150}, ["$.age: exclusiveMaximum 150 is not kept"]),
        ({"name": "Anna", "age": 30.0}, []),
        ({"name": "Anna", "tags": ["a", "c"]}, ["$.tags[1]: not one of its enum"]),
        ({"name": "Anna", "tags": ["a", "a"]}, ["$.tags: items come twice"]),
        ({"name": "Anna", "shoes": 1, "hats": 2}, ["$: 2 properties too many"]),
        ({"name": "Anna", "next": {"age": 3}}, ["$.next: none of its anyOf"]),
    ],
)
def test_what_is_wrong_is_named_by_the_schemas_words(value: Any, wrong: list[str]) -> None:
    findings = validate_instance(value, PERSON)
    assert findings.wrong == wrong
    assert findings.unchecked == []


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"dependentRequired": {"a": ["b"]}}, "keyword dependentRequired"),
        ({"contains": {"type": "integer"}}, "keyword contains"),
        ({"minimum": "three"}, "keyword minimum"),
        ({"type": "float"}, "keyword type"),
        ({"$ref": "https://example.org/schema"}, "keyword $ref"),
        ({"$ref": "#/$defs/nothing"}, "keyword $ref"),
        ({"$ref": "#"}, "what is nested deeper"),
        ({"items": 3}, "a schema that is no object"),
        ({"items": {"pattern": "(a+)+b"}}, "keyword pattern"),
    ],
)
def test_what_is_not_checked_is_said_and_rejects_nothing(schema: dict[str, Any], named: str) -> None:
    findings = validate_instance(["aaaa"] if "items" in schema else 5, schema)
    assert (findings.wrong, findings.unchecked) == ([], [named])


def test_a_schema_that_branches_without_end_is_given_up_in_time() -> None:
    bomb: dict[str, Any] = {"allOf": [{"$ref": "#"}, {"$ref": "#"}]}
    assert validate_instance(1, bomb).unchecked == ["what is nested deeper"]


def test_a_value_deeper_than_the_bound_is_not_checked_there() -> None:
    value: Any = "end"
    for _ in range(MAX_DEPTH + 5):
        value = [value]
    findings = validate_instance(value, {"type": "array", "items": {"$ref": "#"}})
    assert (findings.wrong, findings.unchecked) == ([], ["what is nested deeper"])


@pytest.mark.parametrize("text", ["", "NaN", "[Infinity]", "{'a': 1}", "[" * 100_000, "1 2", "9" * 5_000, "\ud800"])
def test_a_text_that_is_no_json_is_an_error(text: str) -> None:
    with pytest.raises(NotJsonError):
        read_json(text)


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        (True, 1, None),
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
    ],
)
def test_each_keyword_accepts_and_rejects_as_the_full_validator_does(schema: Any, right: Any, wrong: Any) -> None:
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
def test_any_schema_of_the_subset_is_judged_as_by_the_full_validator(schema: dict[str, Any], value: Any) -> None:
    findings = validate_instance(value, schema)
    assert findings.unchecked == []
    assert (findings.wrong == []) == jsonschema.Draft202012Validator(schema).is_valid(value)
