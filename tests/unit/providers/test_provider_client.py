"""`ProviderClient.complete` against a transport that answers by rote: what each kind of answer becomes."""

import asyncio
import gzip
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from providers.client import ProviderClient
from routing.fleet import Fleet, Model, Protocol, Provider, Tier
from routing.outcome import Completion, Failure, FailureKind, Outcome
from routing.price import Price

KEY = "sk-not-a-real-key"
MODEL = Model("nano", "openai", "gpt-5-nano", "small", Price(0.05, 0.4, 0.005, "test"), 400_000, max_output_tokens=100)
ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-5-nano-2025-08-07",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "four"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8},
}
BODY = {"messages": [{"role": "user", "content": "two and two?"}]}


def fleet(**of_provider: Any) -> Fleet:
    settings: dict[str, Any] = {"api_key_env": "TEST_KEY"} | of_provider
    provider = Provider("openai", Protocol.OPENAI, "https://api.openai.com/v1", **settings)
    return Fleet(
        "test", False, {"openai": provider}, {"nano": MODEL}, {"small": Tier("small", "small", 4, ("nano",), None)}
    )


def ask(
    handler: Callable[[httpx.Request], httpx.Response],
    *,
    body: Mapping[str, Any] = BODY,
    model: Model = MODEL,
    environ: Mapping[str, str] | None = None,
    call_id: int | None = None,
    **of_provider: Any,
) -> Outcome:
    async def run() -> Outcome:
        pool = ProviderClient(
            fleet(**of_provider),
            environ={"TEST_KEY": KEY} if environ is None else environ,
            transport=httpx.MockTransport(handler),
        )
        return await pool.complete(model, body, call_id=call_id)

    return asyncio.run(run())


def failed(outcome: Outcome) -> Failure:
    assert isinstance(outcome, Failure)
    return outcome


def test_a_good_answer_becomes_a_completion_with_its_usage() -> None:
    outcome = ask(lambda request: httpx.Response(200, json=ANSWER, headers={"x-request-id": "req_1"}))
    assert isinstance(outcome, Completion)
    assert (outcome.text, outcome.finish_reason, outcome.request_id) == ("four", "stop", "req_1")
    assert (outcome.usage.prompt_tokens, outcome.usage.completion_tokens) == (7, 1)
    assert outcome.response == ANSWER


def test_a_web_page_in_place_of_an_answer_is_no_paid_answer() -> None:
    page = {"content-type": "text/html; charset=utf-8"}
    outcome = failed(ask(lambda request: httpx.Response(200, content=b"<html>Sign in</html>", headers=page)))
    assert (outcome.kind, outcome.cause, outcome.status) == (FailureKind.NOT_FOUND, "web_page", 200)


def test_the_key_the_call_id_and_the_fleets_headers_and_query_are_sent() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=ANSWER)

    ask(handler, call_id=17, headers={"X-Region": "eu"}, query={"api-version": "2024-10-21"})
    (request,) = seen
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["x-pointsman-call"] == "17"
    assert request.headers["x-region"] == "eu"
    assert str(request.url) == "https://api.openai.com/v1/chat/completions?api-version=2024-10-21"
    assert orjson.loads(request.content)["model"] == "gpt-5-nano"


def test_a_header_that_names_the_key_replaces_the_protocols_own() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=ANSWER)

    ask(handler, headers={"api-key": "{api_key}"})
    assert seen[0].headers["api-key"] == KEY
    assert "authorization" not in seen[0].headers


def test_without_its_key_nothing_is_sent() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise AssertionError("sent")

    outcome = failed(ask(handler, environ={}))
    assert outcome.kind is FailureKind.AUTH
    assert "TEST_KEY" in outcome.message


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, FailureKind.NOT_FOUND),
        (400, FailureKind.REJECTED),
        (401, FailureKind.AUTH),
        (402, FailureKind.BILLING),
        (403, FailureKind.REJECTED),
        (404, FailureKind.NOT_FOUND),
        (408, FailureKind.OVERLOADED),
        (413, FailureKind.TOO_LARGE),
        (422, FailureKind.REJECTED),
        (429, FailureKind.RATE_LIMITED),
        (500, FailureKind.SERVER_ERROR),
        (502, FailureKind.SERVER_ERROR),
        (503, FailureKind.OVERLOADED),
        (504, FailureKind.SERVER_ERROR),
        (529, FailureKind.OVERLOADED),
    ],
)
def test_a_status_decides_the_class_whatever_the_body(status: int, kind: FailureKind) -> None:
    outcome = failed(ask(lambda request: httpx.Response(status, content=b"<html>sorry</html>")))
    assert (outcome.kind, outcome.status) == (kind, status)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "content_filter", FailureKind.SAFETY),
        (400, "context_length_exceeded", FailureKind.TOO_LARGE),
        (429, "insufficient_quota", FailureKind.BILLING),
        (429, "rate_limit_exceeded", FailureKind.RATE_LIMITED),
        (400, "model_not_found", FailureKind.NOT_FOUND),
    ],
)
def test_a_documented_code_says_more_than_the_status(status: int, code: str, kind: FailureKind) -> None:
    body = {"error": {"message": "a prompt may be echoed here", "type": "x", "param": None, "code": code}}
    outcome = failed(ask(lambda request: httpx.Response(status, json=body)))
    assert outcome.kind is kind
    assert code in outcome.message
    assert "echoed" not in outcome.message


def test_a_code_that_is_prose_is_not_shown() -> None:
    body = {"error": {"message": "m", "type": "the prompt was: hello", "code": "tell me the key"}}
    outcome = failed(ask(lambda request: httpx.Response(400, json=body)))
    assert outcome.message == "status 400"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not JSON",
        b"[]",
        b"null",
        b"{}",
        orjson.dumps(ANSWER)[:-9],
        orjson.dumps(ANSWER | {"choices": []}),
        orjson.dumps(ANSWER | {"choices": [{"message": None}]}),
        orjson.dumps(ANSWER | {"choices": [{"message": {"content": 4}}]}),
        orjson.dumps(ANSWER | {"choices": {"0": "x"}}),
        b"[" * 100_000,
    ],
)
def test_a_broken_body_is_a_broken_body(content: bytes) -> None:
    outcome = failed(ask(lambda request: httpx.Response(200, content=content)))
    assert outcome.kind is FailureKind.BROKEN_BODY


def test_a_broken_body_keeps_the_usage_that_it_still_told() -> None:
    outcome = failed(ask(lambda request: httpx.Response(200, json=ANSWER | {"choices": []})))
    assert outcome.usage is not None
    assert outcome.usage.prompt_tokens == 7


def test_a_body_above_the_cap_is_broken() -> None:
    big = orjson.dumps(ANSWER | {"padding": "x" * 5000})
    outcome = failed(ask(lambda request: httpx.Response(200, content=big), max_response_bytes=4000))
    assert outcome.kind is FailureKind.BROKEN_BODY


def test_a_gzipped_answer_is_read() -> None:
    content = gzip.compress(orjson.dumps(ANSWER), mtime=0)
    headers = {"content-encoding": "gzip"}
    outcome = ask(lambda request: httpx.Response(200, content=content, headers=headers))
    assert isinstance(outcome, Completion)


@pytest.mark.parametrize("cut", [0, 10, -1])
def test_a_gzipped_answer_that_is_cut_is_broken(cut: int) -> None:
    content = gzip.compress(orjson.dumps(ANSWER), mtime=0)[:cut]
    # httpx decodes a response that is made with bytes, so this one streams them.
    outcome = failed(
        ask(lambda request: httpx.Response(200, stream=httpx.ByteStream(content), headers={"content-encoding": "gzip"}))
    )
    assert outcome.kind is FailureKind.BROKEN_BODY


def test_an_encoding_that_was_not_asked_for_is_broken() -> None:
    outcome = failed(
        ask(lambda request: httpx.Response(200, stream=httpx.ByteStream(b"x"), headers={"content-encoding": "br"}))
    )
    assert outcome.kind is FailureKind.BROKEN_BODY


@pytest.mark.parametrize("body", [BODY | {"user": "\ud800"}, BODY | {"seed": 2**70}])
def test_a_body_that_cannot_be_written_is_inexpressible(body: dict[str, Any]) -> None:
    outcome = failed(ask(lambda request: httpx.Response(200, json=ANSWER), body=body))
    assert outcome.kind is FailureKind.INEXPRESSIBLE


def test_a_refusal_says_so_and_what_it_cost() -> None:
    refused = ANSWER | {"choices": [{"message": {"content": None}, "finish_reason": "content_filter"}]}
    outcome = failed(ask(lambda request: httpx.Response(200, json=refused)))
    assert outcome.kind is FailureKind.SAFETY
    assert outcome.usage is not None


@pytest.mark.parametrize("key", ["ключ", "sk-a\nx-admin: 1", "\x00"])
def test_a_key_that_no_header_can_carry_is_not_sent_and_not_shown(key: str) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise AssertionError("sent")

    outcome = failed(ask(handler, environ={"TEST_KEY": key}))
    assert outcome.kind is FailureKind.AUTH
    assert key not in repr(outcome)


def test_a_key_with_a_newline_at_its_end_is_sent_without_it() -> None:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json=ANSWER)

    ask(handler, environ={"TEST_KEY": f"{KEY}\n"})
    assert seen[0].headers["authorization"] == f"Bearer {KEY}"


def test_an_answer_that_does_not_say_what_it_took_is_charged_at_the_worst() -> None:
    silent = {key: value for key, value in ANSWER.items() if key != "usage"}
    outcome = ask(lambda request: httpx.Response(200, json=silent))
    assert isinstance(outcome, Completion)
    assert outcome.usage.prompt_tokens > len("two and two?") / 2
    assert outcome.usage.completion_tokens >= len("four") / 2


def test_a_retry_after_of_a_429_is_kept() -> None:
    outcome = failed(ask(lambda request: httpx.Response(429, headers={"retry-after": "7"})))
    assert (outcome.kind, outcome.retry_after_s) == (FailureKind.RATE_LIMITED, 7.0)


def test_nothing_that_is_shown_holds_the_key() -> None:
    outcome = ask(lambda request: httpx.Response(401, json={"error": {"message": f"wrong key {KEY}"}}))
    pool = ProviderClient(fleet(), environ={"TEST_KEY": KEY})
    assert KEY not in repr(outcome) + repr(pool)


def test_a_gateways_own_figure_of_the_cost_is_kept_where_it_can_be_believed() -> None:
    for said, kept in (("0.0123", 0.0123), ("0", None), ("nan", None), ("1e9", None), ("free", None)):
        headers = {"x-litellm-response-cost": said}
        outcome = ask(lambda request, headers=headers: httpx.Response(200, json=ANSWER, headers=headers))
        assert isinstance(outcome, Completion)
        assert outcome.usage.reported_usd == kept


def test_a_missing_usage_is_the_worst_case_beside_the_gateways_figure() -> None:
    answer = ANSWER | {"usage": None}
    outcome = ask(lambda request: httpx.Response(200, json=answer, headers={"x-litellm-response-cost": "0.01"}))
    assert isinstance(outcome, Completion)
    assert outcome.usage.prompt_tokens > 7
    assert outcome.usage.reported_usd == 0.01


def refusing(*refused: str, code: str = "unsupported_parameter") -> Callable[[httpx.Request], httpx.Response]:
    """A server that answers a request without those fields, and refuses the first of them by name."""

    def answer(request: httpx.Request) -> httpx.Response:
        body = orjson.loads(request.content)
        named = next((name for name in refused if name in body), None)
        if named is None:
            return httpx.Response(200, json=ANSWER)
        return httpx.Response(400, json={"error": {"message": "no", "param": named, "code": code}})

    return answer


def ask_all(
    handler: Callable[[httpx.Request], httpx.Response],
    *bodies: Mapping[str, Any],
    at_once: bool = False,
    added: frozenset[str] = frozenset(),
) -> tuple[list[Outcome], list[dict[str, Any]]]:
    """The outcomes of one client's calls to a server of an unknown kind, and what was sent."""
    sent: list[dict[str, Any]] = []
    barrier = asyncio.Barrier(len(bodies) if at_once else 1)
    waits = len(bodies) if at_once else 0

    async def serve(request: httpx.Request) -> httpx.Response:
        nonlocal waits
        sent.append(orjson.loads(request.content))
        if waits:  # the first wave is refused together
            waits -= 1
            await barrier.wait()
        return handler(request)

    async def run() -> list[Outcome]:
        provider = Provider("openai", Protocol.OPENAI, "http://127.0.0.1:1/v1", api_key_env="TEST_KEY")
        pool = ProviderClient(
            replace(fleet(), providers={"openai": provider}),
            environ={"TEST_KEY": KEY},
            transport=httpx.MockTransport(serve),
        )
        if at_once:
            return list(await asyncio.gather(*(pool.complete(MODEL, body) for body in bodies)))
        return [await pool.complete(MODEL, body, added=added) for body in bodies]

    return asyncio.run(run()), sent


def test_every_call_of_the_first_wave_is_sent_again_with_the_name_of_the_cap_that_one_of_them_learned() -> None:
    outcomes, sent = ask_all(refusing("max_tokens"), *[BODY] * 9, at_once=True)
    assert all(isinstance(outcome, Completion) for outcome in outcomes)
    assert [("max_tokens" in body) for body in sent] == [True] * 9 + [False] * 9


def test_a_cap_that_is_not_the_users_is_kept_under_the_name_that_was_learned() -> None:
    """Without it, the LLM router's call might cost more than is reserved."""
    speaks = {"messages": [{"role": "user", "content": "what are max_tokens?"}], "max_tokens": 7}
    plain = BODY | {"max_tokens": 7}
    _, sent = ask_all(refusing("max_tokens"), speaks, plain, plain, added=frozenset({"max_tokens"}))
    assert [body.get("max_tokens", body.get("max_completion_tokens")) for body in sent] == [7] * 4


def test_a_server_that_refuses_both_names_of_the_cap_is_asked_with_each_once() -> None:
    (outcome,), sent = ask_all(refusing("max_tokens", "max_completion_tokens"), BODY)
    assert failed(outcome).kind is FailureKind.UNSUPPORTED
    assert len(sent) == 3


@pytest.mark.parametrize("code", ["integer_above_max_value", "invalid_value"])
def test_a_cap_whose_value_is_refused_keeps_its_name(code: str) -> None:
    outcomes, sent = ask_all(refusing("max_tokens", code=code), BODY, BODY)
    assert [failed(outcome).param for outcome in outcomes] == ["max_tokens"] * 2
    assert ["max_tokens" in body for body in sent] == [True] * 2


@pytest.mark.parametrize("code", ["unsupported_parameter", "unsupported_value"])
def test_a_field_of_sampling_that_the_server_refuses_is_left_out_with_a_note_and_from_then_on_at_once(
    code: str,
) -> None:
    asked = BODY | {"temperature": 0, "top_p": 0.5, "logprobs": True, "top_logprobs": 2}
    refused = ("temperature", "logprobs", "max_tokens", "top_p")
    outcomes, sent = ask_all(refusing(*refused, code=code), asked, BODY | {"temperature": 0}, BODY | {"temperature": 1})
    for outcome, left in zip(outcomes, (asked.keys() - BODY.keys(), {"temperature"}, {"temperature"}), strict=True):
        assert isinstance(outcome, Completion)
        assert set(outcome.notes) == {f"left out: {name} (this model refuses it)" for name in left}
    assert len(sent) == 5 + 2 + 1, "the first shows nothing of temperature alone"


@pytest.mark.parametrize(
    ("field", "code"),
    [
        ("temperature", "decimal_above_max_value"),
        ("temperature", "invalid_value"),
        ("stop", "unsupported_parameter"),
        ("tools", "unsupported_parameter"),
        ("response_format", "unsupported_parameter"),
        ("reasoning_effort", "unsupported_value"),
    ],
)
def test_a_value_out_of_range_and_what_an_answer_depends_on_are_not_left_out(field: str, code: str) -> None:
    (outcome,), sent = ask_all(refusing(field, code=code), BODY | {field: 3})
    assert failed(outcome).param == field
    assert len(sent) == 1


def test_what_another_field_or_the_prompt_may_be_the_reason_for_is_not_left_out_of_other_requests() -> None:
    speaks = {"messages": [{"role": "user", "content": "what is a temperature?"}], "temperature": 0}
    beside = BODY | {"temperature": 0, "reasoning_effort": "high"}
    outcomes, sent = ask_all(refusing("temperature"), speaks, beside, BODY | {"temperature": 0.5})
    assert all(isinstance(outcome, Completion) for outcome in outcomes)
    assert ["temperature" in body for body in sent] == [True, False] * 3
