"""Lines for /v1/embeddings: to the embedding tier or nowhere, and nothing else goes there."""

import io
import json
from dataclasses import replace
from typing import Any

import orjson
import pytest

from endpoints.endpoint import Endpoint
from routing.fleet import Fleet, Model, Tier
from routing.price import Price
from submission.input_line import InputLimits, InputLine, InvalidInput, RejectedLine
from submission.input_queries import read_upload
from submission.line_reader import read_lines, read_objects
from submission.request_key import RequestKeys
from submission.row_query import RowMapping
from tests.unit.submission.test_line_reader import FLEET, batch_line

VECTORS = Model("embed", "p", "embed-wire", "vectors", Price(0.02, 0.0, 0.02, "test"), 8000, 0, embeds=True)
WITH_TIER: Fleet = replace(
    FLEET,
    models={**FLEET.models, "embed": VECTORS},
    tiers={**FLEET.tiers, "vectors": Tier("vectors", "vectors", 4, ("embed",), None, endpoint="embeddings")},
    aliases={"text-embedding-ada-002": "embed", "gpt-4o": "large", "*": "auto"},
)


def ask(custom_id: str = "a", line: dict[str, Any] | None = None, **body: Any) -> dict[str, Any]:
    return batch_line(custom_id, url="/v1/embeddings", body={"input": "a text"} | body) | (line or {})


def read(*lines: dict[str, Any], fleet: Fleet = WITH_TIER, endpoint: Endpoint | None = None) -> list[Any]:
    return list(read_objects(lines, fleet=fleet, endpoint=endpoint))


def only(*lines: dict[str, Any], fleet: Fleet = WITH_TIER) -> RejectedLine:
    rejected = [each for each in read(*lines, fleet=fleet) if isinstance(each, RejectedLine)]
    assert len(rejected) == 1
    return rejected[0]


@pytest.mark.parametrize("name", ["", "auto", "vectors", "embed", "embed-wire", "text-embedding-ada-002"])
def test_a_line_is_kept_and_pinned_to_the_one_model_whatever_names_it(name: str) -> None:
    (line,) = read(ask(model=name, dimensions=256, encoding_format="base64"))
    assert isinstance(line, InputLine)
    assert orjson.loads(line.body) == {
        "input": "a text",
        "model": name,
        "dimensions": 256,
        "encoding_format": "base64",
    }
    assert orjson.loads(line.options or b"") == {"endpoint": "/v1/embeddings", "pin": "embed-wire"}


def test_a_simple_line_is_one_input() -> None:
    (line,) = read({"query": "a text", "id": "x", "metadata": {"k": 1}}, endpoint=Endpoint.EMBEDDINGS)
    assert orjson.loads(line.body) == {"input": "a text"}
    assert orjson.loads(line.options) == {"endpoint": "/v1/embeddings", "pin": "embed-wire", "metadata": {"k": 1}}


@pytest.mark.parametrize("endpoint", [None, Endpoint.EMBEDDINGS])
def test_a_fleet_without_the_tier_refuses_each_line_with_the_fix(endpoint: Endpoint | None) -> None:
    (refused,) = read(ask(), fleet=FLEET, endpoint=endpoint)
    assert (refused.line_no, refused.field, refused.code) == (1, "url", "no_embedding_tier")
    assert refused.message == "the fleet has no tier for embeddings"
    assert 'endpoint = "embeddings"' in refused.fix


@pytest.mark.parametrize(
    ("line", "field", "words"),
    [
        (ask(model="small"), "body.model", "answers chat completions"),
        (ask(model="gpt-4o"), "body.model", "answers chat completions"),
        (ask(model="text-embedding-3-large"), "body.model", "no tier or model of that name"),
        (ask(model=7), "body.model", "must be text"),
        (ask(line={"tier": "large"}), "tier", "answers chat completions"),
        (ask(line={"expects": {"json_object": True}}), "expects", "no form"),
        (ask(input=None), "body.input", "missing"),
        (ask(temperature=0), "body.temperature", "unknown"),
        (ask(input=["x"] * 200), "body.input", "max_response_bytes"),
        (batch_line(body={"messages": [], "model": "embed"}), "body.messages", "empty"),
        (
            batch_line(body={"messages": [{"role": "user", "content": "?"}], "model": "vectors"}),
            "body.model",
            "embeddings",
        ),
        (
            batch_line(body={"messages": [{"role": "user", "content": "?"}], "model": "embed"}),
            "body.model",
            "embeddings",
        ),
        ({"query": "?", "tier": "vectors"}, "tier", "embeddings"),
    ],
)
def test_neither_kind_of_line_gets_to_the_others_models(line: dict[str, Any], field: str, words: str) -> None:
    refused = only(line)
    assert refused.field == field
    assert words in refused.message


def test_as_many_inputs_as_the_answers_bound_lets_through_are_taken() -> None:
    taken = read(ask(input=["x"] * 200, dimensions=1536), ask("b", input=["x"] * 200, encoding_format="base64"))
    assert all(isinstance(line, InputLine) for line in taken)


def test_a_provider_that_takes_more_fields_is_asked_with_them() -> None:
    extra = replace(WITH_TIER, providers={"p": replace(WITH_TIER.providers["p"], extra_fields=frozenset({"task"}))})
    (line,) = read(ask(task="retrieval"), fleet=extra)
    assert isinstance(line, InputLine)


def test_the_rows_of_an_uploaded_table_can_be_embedded() -> None:
    table = io.BytesIO(b"id,body\nx,a text\ny,another\n")
    mapping = RowMapping(column="body", id_column="id")
    lines = read_upload(
        table, mapping, name="t.csv", fleet=WITH_TIER, limits=InputLimits(), endpoint=Endpoint.EMBEDDINGS
    )
    found = [(line.custom_id, orjson.loads(line.body)) for line in lines if isinstance(line, InputLine)]
    assert found == [("x", {"input": "a text"}), ("y", {"input": "another"})]


def test_lines_of_text_are_refused_as_a_whole() -> None:
    with pytest.raises(InvalidInput, match="lines of text"):
        list(read_lines(io.BytesIO(b"a text\n"), fleet=WITH_TIER, endpoint=Endpoint.EMBEDDINGS))


def test_a_file_is_for_one_endpoint() -> None:
    chat = batch_line("b")
    assert only(ask(), chat).field == "url"
    assert only(chat, ask("c")).field == "url"


def test_the_same_input_is_asked_once_unless_its_line_says_otherwise() -> None:
    lines = read(
        ask("a"),
        ask("b", user="another"),
        ask("c", input="another text"),
        ask("d", dimensions=8),
        ask("e", line={"dedup": False}),
    )
    keys = RequestKeys(WITH_TIER).of(lines)
    assert keys is not None
    assert [key and key.key for key in keys[:2]] == [keys[0] and keys[0].key] * 2
    assert len({key.key for key in keys if key is not None}) == 3
    assert keys[4] is None


def test_another_model_of_the_fleet_is_another_request() -> None:
    other = replace(WITH_TIER, models={**WITH_TIER.models, "embed": replace(VECTORS, model="other-wire")})
    (mine,), (theirs,) = (RequestKeys(fleet).of(read(ask(), fleet=fleet)) or [] for fleet in (WITH_TIER, other))
    assert mine is not None
    assert theirs is not None
    assert mine.key != theirs.key


def test_lines_of_a_file_are_read_as_they_are_over_a_queue() -> None:
    raw = "\n".join(json.dumps(ask(name)) for name in ("a", "b")).encode()
    assert list(read_lines(io.BytesIO(raw), fleet=WITH_TIER)) == read(ask("a"), ask("b"))
