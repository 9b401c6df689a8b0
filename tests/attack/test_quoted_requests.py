"""A provider's error quotes the request, as vLLM's and others' do: what a tenant writes there holds for nobody else."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from providers.client import ProviderClient
from providers.limits.admission_control import AdmissionController, Denied, Grant
from routing.outcome import ACCOUNT, Failure, FailureKind, Outcome
from tests.attack.conftest import cpu_within
from tests.unit.providers.test_provider_client import ANSWER, BODY, MODEL, fleet

CHOICE = {"tool_choice": {"type": "model does not exist. " * 80}}
PICTURE = {"type": "image_url", "image_url": {"url": "gs://bucket-of-somebody/else.png"}}
FILE = {"type": "file", "file": {"file_id": "file-of-somebody-else"}}
LOGPROBS = frozenset({"logprobs"})


class QuotingServer:
    """Refuses what has `refused` in it with an error that quotes the request, as vLLM's validation does."""

    def __init__(self, refused: str, message: str = "{input}") -> None:
        self.refused = refused
        self.message = message
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = orjson.loads(request.content)
        self.bodies.append(body)
        if self.refused not in body:
            return httpx.Response(200, json=ANSWER)
        said = f"[{{'loc': ('body',), 'msg': 'Value error', 'input': {body!r}}}]"
        error = {"object": "error", "message": self.message.format(input=said), "type": "BadRequestError", "code": 400}
        return httpx.Response(400, json=error)


def asked(
    server: Callable[[httpx.Request], httpx.Response], *bodies: Mapping[str, Any], added: frozenset[str] = LOGPROBS
) -> list[Outcome]:
    async def run() -> list[Outcome]:
        known = fleet()
        provider = replace(known.providers["openai"], base_url="https://models.example/v1")
        pool = ProviderClient(
            replace(known, providers={"openai": provider}),
            environ={"TEST_KEY": "k"},
            transport=httpx.MockTransport(server),
        )
        return [await pool.complete(MODEL, body, added=added) for body in bodies]

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("My credit balance is too low. Why?", "{input}"),
        ("payment required", "{input}"),
        ("Is my API key not valid?", "{input}"),
        ("Is my API \N{KELVIN SIGN}ey not valid?", "{input}"),
        ("\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}nsufficient credit", "{input}"),
        ("api key", "'api key' is not valid under any of the given schemas"),
        ("This model does not exist.", "{input}"),
        ("model", "the tool 'model' not found in tools"),
    ],
)
def test_a_tenants_words_are_no_fault_of_the_account_nor_of_the_deployment(said: str, message: str) -> None:
    server = QuotingServer("tool_choice", message)
    (outcome,) = asked(server, {"messages": [{"role": "user", "content": said}], "tool_choice": "?"})
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.REJECTED


@pytest.mark.parametrize(
    "said", ["try again in 100s", "per day, try again in 23h", "account_rate_limit, try again in 9s"]
)
def test_a_tenants_words_rest_no_deployment(said: str) -> None:
    def server(request: httpx.Request) -> httpx.Response:
        message = f"Input should be 'none', 'auto' or 'required': {orjson.loads(request.content)!r}"
        return httpx.Response(400, json={"error": {"message": message, "type": "BadRequestError", "code": 400}})

    (outcome,) = asked(server, {"messages": [{"role": "user", "content": said}], "tool_choice": "?"})

    async def leave() -> Grant | Denied:
        admission = AdmissionController(None, fleet=fleet(), worker="w")
        grant = await admission.reserve(MODEL, tokens=1)
        assert isinstance(grant, Grant)
        await admission.settle(grant, outcome=outcome)
        return await admission.reserve(MODEL, tokens=1)

    assert isinstance(asyncio.run(leave()), Grant)


@pytest.mark.parametrize("part", [PICTURE, FILE], ids=["a link", "a file"])
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (403, {"code": 403, "status": "PERMISSION_DENIED", "message": "You may not access the file."}),
        (404, {"code": None, "type": "invalid_request_error", "message": "No such file."}),
    ],
)
def test_what_a_request_names_is_no_fault_of_the_key_nor_of_the_model(
    status: int, error: Any, part: dict[str, Any]
) -> None:
    """Held against the account, one picture keeps all queries of all tenants from it, for as long as one is sent."""
    server = lambda _: httpx.Response(status, json={"error": error})  # noqa: E731
    said = {"type": "text", "text": '"image_url":"x"'}
    named, plain = asked(server, *({"messages": [{"role": "user", "content": [each]}]} for each in (part, said)))
    assert isinstance(named, Failure)
    assert isinstance(plain, Failure)
    assert named.kind is FailureKind.REJECTED
    assert plain.kind in ACCOUNT | {FailureKind.NOT_FOUND}


def test_a_long_request_is_not_searched_for_each_word_that_an_error_quotes() -> None:
    long = {"messages": [{"role": "user", "content": "m" * 4_000_000}]} | CHOICE
    server = QuotingServer("tool_choice", "Invalid value: " + CHOICE["tool_choice"]["type"])
    with cpu_within(1.0, "an error about 4 MB"):
        (outcome,) = asked(server, long)
    assert isinstance(outcome, Failure)
    assert outcome.kind is FailureKind.REJECTED


def test_a_servers_own_words_are_believed() -> None:
    server = QuotingServer("messages", "Your credit balance is too low to access this API.")
    (outcome,) = asked(server, BODY)
    assert isinstance(outcome, Failure)
    assert outcome.kind in ACCOUNT


@pytest.mark.parametrize("field", ["logprobs", "max_tokens"])
def test_a_tenants_words_take_no_field_out_of_others_requests(field: str) -> None:
    server = QuotingServer("tool_choice")
    ours = {"logprobs": True, "max_tokens": 5}
    hostile = {"messages": [{"role": "user", "content": f"{field} is"}], "tool_choice": "?"}
    asked(server, hostile | ours, BODY | ours)
    assert {name: server.bodies[-1].get(name) for name in ours} == ours


def test_a_tenants_words_make_no_error_a_refusal_of_a_field_of_sampling() -> None:
    """vLLM names the field that `top_logprobs` lacks, and quotes the body, by which alone it is not supported."""
    server = QuotingServer("top_logprobs", "when using `top_logprobs`, `logprobs` must be set to true: {input}")
    hostile = {"messages": [{"role": "user", "content": "is not supported"}], "logprobs": False, "top_logprobs": 3}
    asked(server, hostile, BODY | {"logprobs": True}, added=frozenset())
    assert server.bodies[-1].get("logprobs") is True


@pytest.mark.parametrize("is_plain", [True, False])
def test_a_field_of_ours_is_left_out_for_others_only_where_nothing_else_can_be_why(is_plain: bool) -> None:
    server = QuotingServer("logprobs", "logprobs is not supported")
    first = BODY | {"logprobs": True} | ({} if is_plain else {"tools": []})
    assert not any(isinstance(outcome, Failure) for outcome in asked(server, first, BODY | {"logprobs": True}))
    assert ["logprobs" in body for body in server.bodies] == [True, False, *([] if is_plain else [True]), False]
