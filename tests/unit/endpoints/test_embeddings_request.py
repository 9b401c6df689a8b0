"""A request for embeddings is checked by its own fields, and stored as it is."""

from typing import Any

import pytest

from endpoints.embeddings_request import most_answer_bytes
from endpoints.endpoint import Endpoint, InvalidField
from endpoints.translation import answer_object, stored_body


@pytest.mark.parametrize(
    "given",
    ["a text", ["one", "two"], [1, 2, 3], [[1, 2], [3]]],
    ids=["text", "texts", "tokens", "lists of tokens"],
)
def test_a_request_is_kept_as_it_is(given: Any) -> None:
    body = {"model": "m", "input": given, "dimensions": 256, "encoding_format": "base64", "user": "u"}
    assert stored_body(Endpoint.EMBEDDINGS, body) is body


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"input": None}, "input", "missing"),
        ({"input": ""}, "input", "empty"),
        ({"input": []}, "input", "a list that is not empty"),
        ({"input": {"a": 1}}, "input", "must be text"),
        ({"input": ["a", ""]}, "input[1]", "empty"),
        ({"input": ["a", [1]]}, "input[1]", "of the same kind"),
        ({"input": [[1], []]}, "input[1]", "empty"),
        ({"input": [1, True]}, "input", "numbers of tokens"),
        ({"input": [1, -1]}, "input", "numbers of tokens"),
        ({"input": [[1], [2.5]]}, "input[1]", "numbers of tokens"),
        ({"input": ["a"] * 2049}, "input", "has 2,049 inputs, but a request allows 2,048"),
        ({"dimensions": 0}, "dimensions", "whole number"),
        ({"dimensions": True}, "dimensions", "whole number"),
        ({"encoding_format": "int8"}, "encoding_format", "unknown"),
        ({"messages": []}, "messages", "belongs to chat completions"),
    ],
)
def test_what_no_provider_takes_is_refused_by_its_field(change: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(InvalidField) as caught:
        stored_body(Endpoint.EMBEDDINGS, {"input": "a text"} | change)
    assert caught.value.field == field
    assert words in str(caught.value)


def test_the_answer_is_bounded_by_inputs_and_dimensions() -> None:
    assert most_answer_bytes({"dimensions": 1000}, 2) == 2 * (24_000 + 100)
    assert most_answer_bytes({"dimensions": 3000, "encoding_format": "base64"}, 1) == 16_100
    assert most_answer_bytes({}, 1) > most_answer_bytes({"dimensions": 1536}, 1)


def test_the_answer_is_returned_as_it_is_stored() -> None:
    stored = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "model": "m"}
    assert answer_object(Endpoint.EMBEDDINGS, stored, {}, name="1") is stored
