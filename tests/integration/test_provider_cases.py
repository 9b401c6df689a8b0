"""What real providers do, from the report to the ledger: each kind of odd answer ends as a user may expect."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import orjson
import pytest
from sqlalchemy import text

from db.batch_writer import BatchSpec
from db.reports.batch_progress import find_batch
from db.reports.batch_report import load_batch_report
from db.reports.batch_stats import batch_figures
from db.reports.batch_warnings import batch_warnings
from db.reports.results import result_lines
from providers.list_prices import look_up
from report.sections.models_section import models
from routing.answer_checks.confidence_policy import ConfidencePolicy, ConfidenceSource
from routing.fleet import Fleet, Model, Protocol, Provider, RouterPolicy, Tier, Timing
from routing.price import Price
from submission.input_line import InputLine, RejectedLine
from submission.line_reader import read_objects
from tasks.worker_context import WorkerContext
from tests.fake_provider import Answer, Body, FakeProvider, chat, refusal, serving
from tests.integration.end_to_end import hand_in, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench

PRICE = Price(1.0, 2.0, 0.1, "test")
SMALL, LARGE = "gpt-5-nano", "gpt-4.1"


def at_small(answer: Any) -> Any:
    """``answer`` from the small model, a good one from the large."""
    return lambda body: answer(body) if body["model"] == SMALL else chat(body)


class Throttled:
    """Bedrock's throttle by a gateway, once at each model."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def __call__(self, body: Body) -> Answer:
        if body["model"] in self.seen:
            return chat(body)
        self.seen.add(body["model"])
        return refusal(429, "429", message="BedrockException - Too many tokens, please wait before trying again.")


def thought_alone(body: Body) -> Answer:
    status, answer = chat(body, None)
    answer["choices"][0]["message"]["reasoning_content"] = "The user asks for a sum. It is four."
    return status, answer


CASES = {
    "temperature": at_small(lambda body: refusal(400, "unsupported_value", "temperature")),
    "context": at_small(lambda body: refusal(400, "context_length_exceeded", "messages")),
    "tpm": at_small(lambda body: refusal(413, "rate_limit_exceeded")),
    "rejected": at_small(lambda body: refusal(400, None)),
    "gone": at_small(lambda body: refusal(404, "model_not_found")),
    "prose": at_small(lambda body: (400, {"object": "error", "message": "maximum context length is 8", "code": 400})),
    "down": lambda body: refusal(500, "server_error") if body["model"] == "local" else chat(body),
    "broke": lambda body: chat(body, "It is f", finish_reason="error"),
    "odd-end": lambda body: chat(body, "It is f", finish_reason="a_reason_of_tomorrow"),
    "credit": lambda body: (200, {"error": {"code": 402, "message": "Insufficient credits"}}),
    "overloaded": lambda body: (200, {"error": {"code": 503, "message": "no instances"}}),
    "cap": lambda body: (
        refusal(400, "unsupported_parameter", "max_tokens") if "max_tokens" in body else chat(body)
    ),
    "logprobs": lambda body: refusal(400, "unsupported_parameter", "logprobs") if "logprobs" in body else chat(body),
    "tier": lambda body: chat(
        body, usage={"prompt_tokens": 1_000_000, "completion_tokens": 1000}, service_tier=body.get("service_tier")
    ),
    "cost": lambda body: chat(body, usage={"cost": 0.035}),
    "other": lambda body: chat(body, usage={"prompt_tokens": 1000, "completion_tokens": 500}, model="gpt-4o"),
    "snapshot": lambda body: chat(body, model=f"{body['model']}-2025-04-14"),
    "reasoned": lambda body: chat(
        body, None, finish_reason="length",
        usage={"completion_tokens": 300, "completion_tokens_details": {"reasoning_tokens": 300}},
    ),
    "thought": lambda body: chat(
        body, usage={"prompt_tokens": 9, "completion_tokens": 664, "total_tokens": 1994,
                     "completion_tokens_details": {"reasoning_tokens": 0}}
    ),
    "half-counted": lambda body: chat(body, usage={"prompt_tokens": -1}),
    "counted-in-text": lambda body: chat(body, usage={"prompt_tokens": "1000", "completion_tokens": "500"}),
    "cost-alone": lambda body: chat(
        body, usage={"prompt_tokens": None, "completion_tokens": None, "total_tokens": None, "cost": 0.02}
    ),
    "uncounted-calls": lambda body: (
        200, {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"],
              "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
                  "role": "assistant", "content": None, "tool_calls": [{"id": "t", "type": "function", "function": {
                      "name": "f", "arguments": '{"text": "' + 1000 * "word " + '"}'}}]}}]},
    ),
    "cut-below": at_small(lambda body: chat(body, "It is", finish_reason="length")),
    "cut-everywhere": lambda body: chat(body, "It is", finish_reason="length"),
    "native-refusal": lambda body: chat(body, None, finish_reason="PROHIBITED_CONTENT"),
    "unended": lambda body: chat(body, finish_reason=None),
    "throttled": Throttled(),
    "thinks-alone": at_small(lambda body: thought_alone(body)),
    "tokens": lambda body: chat(body, usage={"prompt_tokens": 2**40, "completion_tokens": 10**30}),
    "deep": lambda body: chat(body, extra=orjson.loads(b"[" * 300 + b"]" * 300)),
}  # fmt: skip


def fleet_of(url: str) -> Fleet:
    list_price = look_up(Protocol.OPENAI, LARGE, on=date(2026, 11, 29))
    models = [
        Model(SMALL, "one", SMALL, "small", PRICE, 100_000),
        Model(LARGE, "one", LARGE, "large", list_price, 1_000_000, max_output_tokens=16_384),
        Model(
            "local", "two", "local", "mixed", replace(PRICE, input_usd_per_mtok=0.0, output_usd_per_mtok=0.0), 100_000
        ),
        Model("gpt-4o-mini", "one", "gpt-4o-mini", "mixed", PRICE, 100_000),
        Model("scored", "one", "scored", "scored", PRICE, 100_000, logprobs=True),
    ]
    tiers = {
        name: Tier(name, name, 4, tuple(model.name for model in models if model.tier == name), above)
        for name, above in (("small", "large"), ("large", None), ("mixed", None), ("scored", None))
    }
    return Fleet(
        "cases",
        False,
        {name: Provider(name, Protocol.OPENAI, f"{url}/v1", deadline_s=30.0) for name in ("one", "two")},
        {model.name: model for model in models},
        tiers,
        router=RouterPolicy(stages=("gate",)),
        workloads={"": "small"},
        timing=Timing(lease_s=120.0, backoff_s=0.01),
    )


@pytest.fixture(scope="module")
def provider() -> Iterator[FakeProvider]:
    with serving(CASES) as found:
        yield found


@asynccontextmanager
async def worker(bench: LedgerHarness, provider: FakeProvider) -> AsyncIterator[WorkerContext]:
    async with worker_context_of(bench, fleet_of(provider.url)) as context:
        yield context


def line(case: str, *, model: str = "auto", **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"CASE:{case} What is 2+2?"}]
    asked = {"model": model, "messages": messages} | body
    return {"custom_id": case, "method": "POST", "url": "/v1/chat/completions", "body": asked}


async def ended(context: WorkerContext, *lines: Mapping[str, Any]) -> dict[str, Any]:
    """The result of each line by its custom_id, once nothing is due any more."""
    batch = await hand_in(read_objects(list(lines), fleet=context.fleet), BatchSpec(source="test"), context)
    await work_off(context)
    return {(told := orjson.loads(each))["custom_id"]: told async for each in result_lines(context.engine, batch.id)}


def one(on_bench: OnBench, provider: FakeProvider, asked: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    """The result of one line, and the rows of its calls."""
    found: list[Any] = []

    async def story(bench: LedgerHarness) -> None:
        async with worker(bench, provider) as context:
            results = await ended(context, asked)
            found.append(results[asked["custom_id"]])
            found.append(await bench.rows("SELECT * FROM calls ORDER BY id"))

    on_bench(story)
    return found[0], found[1]


@pytest.mark.parametrize(
    ("case", "outcome", "cause", "param"),
    [
        ("temperature", "unsupported", "unsupported_value", "temperature"),
        ("context", "too_large", "context_length_exceeded", "messages"),
        ("tpm", "too_large", "rate_limit_exceeded", None),
        ("rejected", "rejected", "invalid_request_error", None),
        ("gone", "not_found", "model_not_found", None),
        ("prose", "too_large", None, None),
    ],
)
def test_what_the_small_model_does_not_take_is_answered_by_the_large_and_named(
    on_bench: OnBench, provider: FakeProvider, case: str, outcome: str, cause: str | None, param: str | None
) -> None:
    result, calls = one(on_bench, provider, line(case, temperature=0))
    assert result["pointsman"]["tier"] == "large"
    assert [(call.outcome, call.cause, call.param, float(call.cost_usd)) for call in calls[:1]] == [
        (outcome, cause, param, 0.0)
    ]
    assert calls[1].outcome == "ok"
    if param is not None:
        assert any(param in reason for reason in result["pointsman"]["reasons"])


def test_a_models_pin_is_kept_or_fails_and_says_so(on_bench: OnBench, provider: FakeProvider) -> None:
    before = len(provider.calls)
    result, calls = one(on_bench, provider, line("down", model="local"))
    assert {body["model"] for body in provider.calls[before:]} == {"local"}
    assert {call.deployment for call in calls} == {"local"}
    assert result["error"]["code"] == "query_failed"
    assert "pinned to local" in result["error"]["message"]
    assert "server_error" in result["error"]["message"]
    assert float(sum(call.cost_usd for call in calls)) == 0.0


def test_without_a_pin_to_a_model_the_tier_goes_on_to_its_next(on_bench: OnBench, provider: FakeProvider) -> None:
    result, _ = one(on_bench, provider, line("down", model="mixed"))
    assert result["pointsman"]["model"] == "gpt-4o-mini"


@pytest.mark.parametrize("case", ["broke", "odd-end"])
def test_a_generation_that_broke_off_is_no_answer_whatever_its_end_is_called(
    on_bench: OnBench, provider: FakeProvider, case: str
) -> None:
    result, calls = one(on_bench, provider, line(case, model=LARGE))
    assert result["response"] is None
    assert {call.outcome for call in calls} == {"broken_off"}
    assert all(call.cost_usd > 0 for call in calls)


def test_an_error_in_a_200_is_that_error_and_free(on_bench: OnBench, provider: FakeProvider) -> None:
    result, calls = one(on_bench, provider, line("overloaded", model=LARGE))
    assert {(call.outcome, call.status, float(call.cost_usd)) for call in calls} == {("overloaded", 503, 0.0)}
    assert "status 503 error in a 200" in result["error"]["message"]


def test_the_name_of_the_cap_is_learned_once_and_the_users_word_is_kept(
    on_bench: OnBench, provider: FakeProvider
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker(bench, provider) as context:
            first = len(provider.of("cap"))
            said = line("cap", model=LARGE, max_completion_tokens=50)
            silent = line("cap", model=LARGE) | {"custom_id": "silent"}
            results = await ended(context, said)
            assert len(provider.of("cap")) == first + 1
            assert provider.of("cap")[-1]["max_completion_tokens"] == 50
            results |= await ended(context, silent)
            results |= await ended(context, silent | {"custom_id": "again"})
            assert all(result["error"] is None for result in results.values())
            caps = ["max_tokens" in body for body in provider.of("cap")[first + 1 :]]
            assert caps == [True, False, False], "learned from one 400, for free"

    on_bench(story)


def test_what_pointsman_adds_by_itself_never_fails_a_query(on_bench: OnBench, provider: FakeProvider) -> None:
    result, calls = one(on_bench, provider, line("logprobs", model="scored"))
    assert result["error"] is None
    assert [call.outcome for call in calls] == ["ok"]
    assert not any("left out" in reason for reason in result["pointsman"]["reasons"])


def test_a_field_of_sampling_that_the_model_refuses_is_left_out_and_the_result_says_so(
    on_bench: OnBench, provider: FakeProvider
) -> None:
    asked, (call,) = one(on_bench, provider, line("logprobs", model="scored", logprobs=True, temperature=0))
    assert (asked["error"], call.outcome) == (None, "ok")
    assert "left out: logprobs (this model refuses it)" in asked["pointsman"]["reasons"]
    assert provider.of("logprobs")[-1]["temperature"] == 0


def test_the_service_tier_of_the_answer_is_priced(on_bench: OnBench, provider: FakeProvider) -> None:
    result, (call,) = one(on_bench, provider, line("tier", model=LARGE, service_tier="priority", max_tokens=1000))
    assert (float(call.cost_usd), call.service_tier) == (3.514, "priority")
    assert result["pointsman"]["service_tier"] == "priority"
    plain, _ = one(on_bench, provider, line("tier", model=LARGE, max_tokens=1000))
    assert plain["pointsman"]["cost_usd"] == 2.008


def test_the_providers_own_figure_is_what_is_billed_and_a_difference_is_reported(
    on_bench: OnBench, provider: FakeProvider
) -> None:
    result, (call,) = one(on_bench, provider, line("cost", model=LARGE))
    assert (float(call.cost_usd), float(call.reported_usd), float(call.computed_usd)) == (0.035, 0.035, 0.00006)
    assert any(reason.startswith("cost: the provider reports $0.035") for reason in result["pointsman"]["reasons"])


def test_another_model_than_asked_is_flagged_and_priced_as_answered(on_bench: OnBench, provider: FakeProvider) -> None:
    result, (call,) = one(on_bench, provider, line("other", model=LARGE))
    assert (call.answered_by, float(call.cost_usd)) == ("gpt-4o", 0.0075)
    assert result["pointsman"]["answered_by"] == "gpt-4o"
    assert "answered by gpt-4o instead of gpt-4.1; priced as answered" in result["pointsman"]["reasons"]
    same, _ = one(on_bench, provider, line("snapshot", model=LARGE))
    assert not any("instead of" in reason for reason in same["pointsman"]["reasons"])


def test_a_report_names_another_model_once_with_its_count_and_no_snapshot(
    on_bench: OnBench, provider: FakeProvider
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker(bench, provider) as context:
            cases = [*["other"] * 2, *["snapshot"] * 3]
            asked = [line(case, model=LARGE) | {"custom_id": f"{n}"} for n, case in enumerate(cases)]
            batch = await hand_in(read_objects(asked, fleet=context.fleet), BatchSpec(source="test"), context)
            await work_off(context)
            # A call for another purpose has a row of its own in the table.
            await bench.rows_as_owner(
                "UPDATE calls SET purpose = 'repair' WHERE id = (SELECT min(id) FROM calls) RETURNING id"
            )
            ended_batch = await find_batch(context.engine, batch.public_id)
            assert ended_batch is not None
            report = await load_batch_report(context.engine, ended_batch, now=datetime.now(UTC))
        told = [text for text in models(report).paragraphs if "a model other than" in text]
        assert len(told) == 1
        assert told[0].startswith(
            "Answers of gpt-4.1 that name a model other than gpt-4.1: 2 (gpt-4o (2)). Their quality is that of"
        )

    on_bench(story)


def test_a_cap_that_reasoning_used_up_is_reported_with_the_way_out(on_bench: OnBench, provider: FakeProvider) -> None:
    result, _ = one(on_bench, provider, line("reasoned", model=LARGE, max_completion_tokens=300))
    message = result["error"]["message"]
    assert "its cap of 300 tokens was used up by reasoning (300 of 300); fix: raise max_completion_tokens" in message


@pytest.mark.parametrize("case", ["tokens", "deep"])
def test_an_odd_answer_is_kept_and_not_paid_twice(on_bench: OnBench, provider: FakeProvider, case: str) -> None:
    result, calls = one(on_bench, provider, line(case, model=LARGE))
    assert result["response"]["body"]["choices"][0]["message"]["content"] == "It is four."
    assert [call.outcome for call in calls] == ["ok"]


def test_tokens_that_the_total_alone_counts_are_paid(on_bench: OnBench, provider: FakeProvider) -> None:
    _, (call,) = one(on_bench, provider, line("thought", model=LARGE))
    assert (call.prompt_tokens, call.completion_tokens, call.reasoning_tokens) == (9, 1985, 1321)
    assert float(call.cost_usd) == pytest.approx(9 * 2e-6 + 1985 * 8e-6)


@pytest.mark.parametrize(
    ("case", "most_usd"), [("half-counted", 0.001), ("counted-in-text", 0.006), ("uncounted-calls", 0.04)]
)
def test_what_a_usage_does_not_count_is_never_free(
    on_bench: OnBench, provider: FakeProvider, case: str, most_usd: float
) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    _, (call,) = one(on_bench, provider, line(case, model=LARGE, tools=tools))
    billed = {"half-counted": 10 * 2e-6 + 5 * 8e-6, "counted-in-text": 0.006, "uncounted-calls": 1250 * 8e-6}
    assert billed[case] <= float(call.cost_usd) <= most_usd


def test_a_cost_without_tokens_is_what_is_billed(on_bench: OnBench, provider: FakeProvider) -> None:
    _, (call,) = one(on_bench, provider, line("cost-alone", model=LARGE))
    assert (float(call.cost_usd), float(call.reported_usd)) == (0.02, 0.02)


def test_a_refusal_in_the_words_of_the_provider_behind_a_gateway_is_asked_once(
    on_bench: OnBench, provider: FakeProvider
) -> None:
    result, (call,) = one(on_bench, provider, line("native-refusal", model=LARGE))
    assert (call.outcome, call.cause) == ("safety", "PROHIBITED_CONTENT")
    assert "refused: PROHIBITED_CONTENT" in result["error"]["message"]


def test_an_answer_that_does_not_say_why_it_ended_is_delivered_and_noted(
    on_bench: OnBench, provider: FakeProvider
) -> None:
    result, (call,) = one(on_bench, provider, line("unended", model=LARGE))
    assert (call.outcome, result["response"]["body"]["choices"][0]["message"]["content"]) == ("ok", "It is four.")
    assert "the answer does not say why it ended" in result["pointsman"]["reasons"]


def test_a_throttle_that_speaks_of_too_many_tokens_costs_time_alone(on_bench: OnBench, provider: FakeProvider) -> None:
    result, calls = one(on_bench, provider, line("throttled"))
    assert [call.outcome for call in calls] == ["rate_limited", "ok"]
    assert result["pointsman"]["tier"] == "small"


@pytest.mark.parametrize(("case", "is_cut"), [("cut-below", False), ("cut-everywhere", True)])
def test_an_answer_that_is_cut_off_twice_climbs_and_at_the_top_is_delivered_and_named(
    on_bench: OnBench, provider: FakeProvider, case: str, is_cut: bool
) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker(bench, provider) as context:
            batch = await hand_in(read_objects([line(case)], fleet=context.fleet), BatchSpec(source="test"), context)
            await work_off(context)
            asked = [
                (call.tier, call.purpose) for call in await bench.rows("SELECT tier, purpose FROM calls ORDER BY id")
            ]
            assert asked[:3] == [("small", "answer"), ("small", "extend"), ("large", "answer")]
            (found,) = [orjson.loads(each) async for each in result_lines(context.engine, batch.id)]
            assert found["error"] is None
            assert found["pointsman"].get("cut_off", False) is is_cut
            figures = await batch_figures(context.engine, batch)
            assert [cut.answers for cut in figures.cut_off] == [1] * is_cut
            assert any("ends in the middle" in warning for warning in batch_warnings(figures)) is is_cut

    on_bench(story)


def test_an_answer_of_thoughts_alone_climbs_and_is_paid_once(on_bench: OnBench, provider: FakeProvider) -> None:
    result, calls = one(on_bench, provider, line("thinks-alone"))
    assert [(call.tier, call.outcome) for call in calls] == [("small", "ok"), ("large", "ok")]
    assert result["response"]["body"]["choices"][0]["message"]["content"] == "It is four."


class Failing:
    """A scorer that fails on everything."""

    name = "failing"

    def __call__(self, pairs: Any) -> Any:
        raise OverflowError("a long row of digits")


def test_a_scorer_that_fails_costs_no_answer(on_bench: OnBench, provider: FakeProvider) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker(bench, provider) as context:
            by_scorer = ConfidencePolicy(ConfidenceSource.SCORER)
            models = {name: replace(model, confidence=by_scorer) for name, model in context.fleet.models.items()}
            context.fleet = replace(context.fleet, models=models)
            context.trained = replace(context.trained, scorer=Failing())
            results = await ended(context, line("snapshot", model=LARGE))
            assert results["snapshot"]["error"] is None
            reasons = results["snapshot"]["pointsman"]["reasons"]
            assert "the scorer failed (OverflowError)" in reasons
            assert await bench.rows("SELECT FROM decisions WHERE 'unscored' = ANY(codes) AND move = 'finish'")

    on_bench(story)


def test_a_judge_that_fails_costs_no_answer(
    on_bench: OnBench, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr("tasks.stages.answer_judging.judge", fails)

    async def story(bench: LedgerHarness) -> None:
        async with worker(bench, provider) as context:
            results = await ended(context, line("snapshot"))
            assert results["snapshot"]["error"] is None
            assert "the judge failed (ZeroDivisionError)" in results["snapshot"]["pointsman"]["reasons"]
            assert await bench.rows("SELECT FROM decisions WHERE 'unjudged' = ANY(codes) AND move = 'finish'")

    on_bench(story)


def test_the_best_answers_there_were_come_into_a_worker_a_few_at_a_time(
    on_bench: OnBench, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred of 8 MB, as lines with 20 alternatives of each token have, ended the worker of the fallback stage."""
    provider.cases["from-nowhere"] = lambda body: chat(body, "zebras quokkas narwhals lemurs ocelots " * 50)
    context_given = {"expects": {"context": "apples bananas cherries"}}
    lines = [line("from-nowhere") | context_given | {"custom_id": f"q{place}"} for place in range(6)]
    read: list[list[bool]] = []

    async def story(bench: LedgerHarness) -> None:
        async with worker(bench, provider) as context:
            ask = context.ledger.stored_answers

            async def noted(wanted: Mapping[int, int]) -> dict[int, Any]:
                found = await ask(wanted)
                read.append([row.response is not None for row in found.values()])
                return found

            monkeypatch.setattr(context.ledger, "stored_answers", noted)
            monkeypatch.setattr("db.ledger.WAITING_BYTES", 6_000)
            results = await ended(context, *lines)
            assert all("zebras" in str(results[f"q{place}"]["response"]) for place in range(6))

    on_bench(story)
    assert sum(map(sum, read)) == 6
    assert max(map(sum, read)) == 2


def test_a_large_answer_is_corrected_and_stored_whole(on_bench: OnBench, provider: FakeProvider) -> None:
    """It is kept as JSON in the worker. Postgres' text holds no NUL."""
    tokens = [{"token": "\0\\u0000", "logprob": -0.25, "bytes": [97], "top_logprobs": []}] * 5_000

    def answered(body: Body) -> Answer:
        status, answer = chat(body, "BLUE.")
        answer["choices"][0]["logprobs"] = {"content": tokens}
        return status, answer

    provider.cases["large"] = answered
    asked = line("large") | {"expects": {"choices": ["blue", "red"]}}
    asked["body"] |= {"logprobs": True}
    result, _ = one(on_bench, provider, asked)
    (choice,) = result["response"]["body"]["choices"]
    assert choice["message"]["content"] == "blue"
    assert choice["logprobs"]["content"] == [token | {"token": "\ufffd\\u0000"} for token in tokens]


@pytest.mark.parametrize("error", [refusal(401, "invalid_api_key"), refusal(429, "insufficient_quota")])
def test_an_account_at_fault_fails_no_query_and_all_go_on_once_it_is_well(
    on_bench: OnBench, provider: FakeProvider, error: Any
) -> None:
    broken = [True]
    provider.cases["account"] = lambda body: error if broken[0] else chat(body)

    async def story(bench: LedgerHarness) -> None:
        async with worker(bench, provider) as context:
            before = len(provider.of("account"))
            lines = [line("account", model=LARGE) | {"custom_id": f"q{place}"} for place in range(60)]
            batch = await hand_in(read_objects(lines, fleet=context.fleet), BatchSpec(source="test"), context)
            await work_off(context)
            states = await bench.rows("SELECT state, held_for, count(*) AS n FROM queries GROUP BY 1, 2")
            assert [(row.state, row.held_for, row.n) for row in states] == [("held", LARGE, 60)]
            assert len(provider.of("account")) - before <= 8, "a circuit: not one call for each query"
            (fault,) = await bench.rows("SELECT * FROM account_faults")
            assert (fault.deployment, fault.provider) == (LARGE, "one")

            broken[0] = False
            context.accounts.clock = lambda clock=context.accounts.clock: clock() + 60  # type: ignore[misc]
            async with bench.engine.begin() as connection:
                await connection.execute(text("UPDATE account_faults SET tried_at = now() - interval '1 minute'"))
            assert await context.ledger.release_held(deployments=list(context.fleet.models)) == 1, "one goes, to see"
            await work_off(context)
            done = await bench.rows("SELECT state, count(*) AS n FROM queries GROUP BY 1")
            assert [(row.state, row.n) for row in done] == [("done", 60)]
            assert not await bench.rows("SELECT * FROM account_faults")
            assert batch.total == 60

    on_bench(story)


def refused(asked: Mapping[str, Any], fleet: Fleet) -> RejectedLine | InputLine:
    (found,) = read_objects([asked], fleet=fleet)
    return found


def test_what_no_model_that_may_answer_takes_is_refused_before_it_is_submitted(provider: FakeProvider) -> None:
    fleet = fleet_of(provider.url)
    claude = replace(
        fleet,
        providers={**fleet.providers, "two": replace(fleet.providers["two"], kind=Protocol.ANTHROPIC)},
    )
    asked = line("x", model="local", logit_bias={"1": -100})
    found = refused(asked, claude)
    assert isinstance(found, RejectedLine)
    assert (found.field, found.code) == ("body.logit_bias", "unsupported_parameter")
    assert isinstance(refused(asked, fleet), InputLine), "the same model by OpenAI's protocol takes it"
    assert isinstance(refused(line("x", logit_bias={"1": -100}), claude), InputLine), "another model may answer"
    for field in ("seed", "verbosity", "reasoning_effort"):
        value = 7 if field == "seed" else "low"
        assert isinstance(refused(line("x", model="local", **{field: value}), claude), InputLine)


def test_sound_without_a_price_is_refused_by_name(provider: FakeProvider) -> None:
    content = [{"type": "text", "text": "x"}, {"type": "input_audio", "input_audio": {"data": "UklG", "format": "wav"}}]
    asked = line("x", model=LARGE, messages=[{"role": "user", "content": content}])
    found = refused(asked, fleet_of(provider.url))
    assert isinstance(found, RejectedLine)
    assert found.field == "body.messages[0].content[1]"
    assert "audio_input_usd_per_mtok" in found.fix


def test_a_repair_that_fails_is_asked_for_again_and_one_that_is_not_to_be_had_climbs(on_bench: OnBench) -> None:
    """A paid answer of the top tier was thrown away for a 503 to its repair."""
    overloaded = refusal(503, "overloaded")
    replies = {SMALL: [overloaded] * 9, LARGE: [overloaded, refusal(429, "rate_limit_exceeded")]}

    def answer(body: Body) -> Answer:
        used = {"prompt_tokens": 1000, "completion_tokens": 1000}
        is_repair = len(body["messages"]) > 1
        if is_repair and replies[body["model"]]:
            return replies[body["model"]].pop(0)
        return chat(body, "four" if is_repair else "Surely it is four.", usage=used)

    async def story(bench: LedgerHarness) -> None:
        with serving({"repair": answer}) as provider:
            async with worker(bench, provider) as context:
                asked = line("repair")
                options = orjson.dumps({"expects": {"choices": ["four", "five"]}})
                given = InputLine(1, "repair", orjson.dumps(asked["body"]), options)
                batch = await hand_in([given], BatchSpec(source="test"), context)
                await work_off(context)
                (found,) = [orjson.loads(each) async for each in result_lines(context.engine, batch.id)]
        calls = await bench.rows("SELECT tier, purpose, outcome FROM calls ORDER BY id")
        assert [tuple(call) for call in calls] == [
            ("small", "answer", "ok"),
            *[("small", "repair", "overloaded")] * 4,
            ("large", "answer", "ok"),
            ("large", "repair", "overloaded"),
            ("large", "repair", "rate_limited"),
            ("large", "repair", "ok"),
        ]
        assert (found["pointsman"]["tier"], found["pointsman"]["accepted"]) == ("large", True)
        assert found["response"]["body"]["choices"][0]["message"]["content"] == "four"

    on_bench(story)


class FailsItsRepairs(FakeProvider):
    """Repairs fail where the first answer came from."""

    def answer(self, case: str, body: Body, path: str) -> Answer:
        self.paths.append(path)
        if len(body["messages"]) == 1:
            return chat(body, "Surely it is four.")
        return refusal(500, "server_error") if path == self.paths[0] else chat(body, "four")

    def __init__(self) -> None:
        super().__init__({})
        self.paths: list[str] = []


def test_a_repair_that_fails_is_asked_of_the_same_model_elsewhere(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        with serving(FailsItsRepairs()) as provider:
            fleet = fleet_of(provider.url)
            providers = {**fleet.providers, "two": replace(fleet.providers["two"], base_url=f"{provider.url}/v2")}
            twin = replace(fleet.models[LARGE], name="twin", provider="two")
            large = replace(fleet.tiers["large"], models=(LARGE, "twin"))
            models = {**fleet.models, "twin": twin}
            fleet = replace(fleet, providers=providers, models=models, tiers={**fleet.tiers, "large": large})
            async with worker_context_of(bench, fleet) as context:
                options = orjson.dumps({"pin": "large", "expects": {"choices": ["four", "five"]}})
                given = InputLine(1, "repair", orjson.dumps(line("repair")["body"]), options)
                await hand_in([given], BatchSpec(source="test"), context)
                await work_off(context)
        calls = await bench.rows("SELECT deployment, purpose, outcome FROM calls ORDER BY id")
        assert [(call.purpose, call.outcome) for call in calls] == [
            ("answer", "ok"),
            ("repair", "server_error"),
            ("repair", "ok"),
        ]
        assert calls[0].deployment == calls[1].deployment != calls[2].deployment

    on_bench(story)
