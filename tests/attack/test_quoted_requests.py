"""A provider's error quotes the request, as vLLM's and others' do: what a tenant writes there holds for nobody else."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from db.batch_writer import BatchSpec
from providers.client import ProviderClient
from providers.limits.admission_control import AdmissionController, Denied, Grant
from routing.outcome import ACCOUNT, Failure, FailureKind, Outcome
from submission.line_reader import read_objects
from tests.attack.conftest import cpu_within
from tests.fake_provider import Answer, Body, chat, serving
from tests.integration.end_to_end import hand_in, work_off
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.test_provider_cases import LARGE, line, worker
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
    assert not rests_after(outcome)


def rests_after(outcome: Outcome) -> bool:
    """Whether the deployment takes no further call at once."""

    async def leave() -> Grant | Denied:
        admission = AdmissionController(None, fleet=fleet(), worker="w")
        grant = await admission.reserve(MODEL, tokens=1)
        assert isinstance(grant, Grant)
        await admission.settle(grant, outcome=outcome)
        return await admission.reserve(MODEL, tokens=1)

    return isinstance(asyncio.run(leave()), Denied)


def test_a_request_that_the_credit_left_does_not_pay_for_rests_no_deployment() -> None:
    error = {"error": {"code": 402, "message": "You requested up to 9000 tokens, but can only afford 80."}}
    (outcome,) = asked(lambda _: httpx.Response(402, json=error, headers={"retry-after": "100"}), BODY)
    assert not rests_after(outcome)


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


CREDIT = 5_000
"""Tokens that what is left of the account pays for."""


def nearly_empty(body: Body) -> Answer:
    """OpenRouter's refusal of a request that may take more than that."""
    if (asked := body["max_tokens"]) <= CREDIT:
        return chat(body)
    message = (
        f"This request requires more credits, or fewer max_tokens. You requested up to {asked} tokens, but can only "
        f"afford {CREDIT}. To increase, visit https://openrouter.ai/settings/credits and add more credits"
    )
    return 402, {"error": {"code": 402, "message": message}}


def test_a_request_that_the_credit_left_does_not_pay_for_waits_alone(on_bench: OnBench) -> None:
    """Held against the account, one request with a large cap keeps all tenants from it, again and again."""

    async def story(bench: LedgerHarness) -> None:
        async def states(tenant: str) -> list[tuple[str, int]]:
            found = await bench.rows(
                "SELECT q.state, count(*) AS n FROM queries AS q JOIN batches AS b ON b.id = q.batch_id"
                " WHERE b.tenant = :tenant GROUP BY 1 ORDER BY 1",
                tenant=tenant,
            )
            return [(row.state, row.n) for row in found]

        async def asked(tenant: str, count: int, cap: int) -> None:
            lines = [line("credit", model=LARGE, max_tokens=cap) | {"custom_id": f"q{n}"} for n in range(count)]
            await hand_in(read_objects(lines, fleet=context.fleet), BatchSpec("test", tenant=tenant), context)
            await work_off(context)

        async def released() -> int:
            return await context.ledger.release_held(deployments=list(context.fleet.models))

        with serving({"credit": nearly_empty}) as provider:
            async with worker(bench, provider) as context:
                await asked("greedy", 5, 2 * CREDIT)
                assert await states("greedy") == [("held", 5)]
                assert len(provider.calls) == 5
                await asked("other", 20, CREDIT)
                assert await states("other") == [("done", 20)], "at once, for the account pays for these"
                assert await released() == 0, "what has been paid for was smaller"
                await bench.rows_as_owner("UPDATE account_faults SET tried_at = now() - interval '1 minute'")
                assert await released() == 1, "one goes, to see"
                await work_off(context)
                assert (await states("greedy"), len(provider.calls)) == ([("held", 5)], 5 + 20 + 1)
                (kept,) = await bench.rows("SELECT reasons FROM decisions WHERE kind = 'account' LIMIT 1")
                assert "max_tokens" in kept.reasons[1]

                assert await context.ledger.release_held(deployments=[]) == 5, "the fleet no longer has it"
                await work_off(context)

                provider.cases["credit"] = chat
                for _ in range(2):  # the first goes to see; then all do, for as much has been paid for
                    await bench.rows_as_owner("UPDATE account_faults SET tried_at = now() - interval '1 minute'")
                    assert await released() > 0
                    await work_off(context)
                assert await states("greedy") == [("done", 5)]
                await released()
                assert not await bench.rows("SELECT * FROM account_faults")

    on_bench(story)
