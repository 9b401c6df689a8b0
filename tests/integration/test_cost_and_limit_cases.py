"""Budgets, contexts and rate limits against a provider that behaves as public reports say."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from db.batch_writer import BatchSpec
from routing.fleet import Fleet, Model, Protocol, Provider, RouterPolicy, Tier, Timing
from routing.price import Price
from submission.input_line import RejectedLine
from submission.line_reader import read_objects
from tests.fake_provider import Answer, Body, chat, refusal, serving
from tests.integration.end_to_end import hand_in, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench

SMALL, LARGE = "gpt-5-nano", "gpt-4.1"


def fleet_of(url: str) -> Fleet:
    models = [
        Model(SMALL, "one", SMALL, "small", Price(0.05, 0.4, 0.005, "t"), 8_192),
        Model(LARGE, "one", LARGE, "large", Price(2.0, 8.0, 0.5, "t"), 1_000_000, max_output_tokens=16_384),
        Model("free", "one", "free", "mixed", Price(0, 0, 0, "t"), 128_000),
        Model("gpt-4o-mini", "one", "gpt-4o-mini", "mixed", Price(0.15, 0.6, 0.075, "t"), 128_000),
    ]
    tiers = {
        name: Tier(name, name, 16, tuple(model.name for model in models if model.tier == name), above)
        for name, above in (("small", "large"), ("large", None), ("mixed", None))
    }
    return Fleet(
        "cases",
        False,
        {"one": Provider("one", Protocol.OPENAI, f"{url}/v1", deadline_s=30.0)},
        {model.name: model for model in models},
        tiers,
        router=RouterPolicy(stages=("gate",)),
        workloads={"": "small"},
        timing=Timing(lease_s=120.0, backoff_s=0.01),
    )


def line(name: str, content: Any, *, model: str = "auto", **given: Any) -> dict[str, Any]:
    options = {"max_cost_usd": given.pop("max_cost_usd")} if "max_cost_usd" in given else {}
    body = {"model": model, "messages": [{"role": "user", "content": content}]} | given
    return {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body} | options


def play(
    on_bench: OnBench, answer: Callable[[Body], Answer], lines: list[dict[str, Any]], *, cap_usd: float | None = None
) -> dict[str, list[Any]]:
    """Each query's state, and all calls, after the lines were submitted and nothing is due any more."""
    found: dict[str, list[Any]] = {}

    async def story(bench: LedgerHarness) -> None:
        with serving({"it": answer}) as provider:
            async with worker_context_of(bench, fleet_of(provider.url)) as context:
                order = BatchSpec(source="test", cap_usd=cap_usd)
                await hand_in(read_objects(lines, fleet=context.fleet), order, context)
                await work_off(context)
        found["queries"] = await bench.rows("SELECT state, tier, escalations FROM queries ORDER BY id")
        found["calls"] = await bench.rows("SELECT * FROM calls ORDER BY id")
        found["budgets"] = await bench.rows("SELECT * FROM budgets")

    on_bench(story)
    return found


def by_chars(tokens_per_char: float) -> Callable[[Body], Answer]:
    """Bills the whole body at so many tokens a character."""
    return lambda body: chat(
        body,
        usage={
            "prompt_tokens": round(tokens_per_char * len(json.dumps(body, ensure_ascii=False))),
            "completion_tokens": min(10, body.get("max_tokens") or body["max_completion_tokens"]),
        },
    )


PICTURE = {"type": "image_url", "image_url": {"url": "https://example.com/1.jpg", "detail": "high"}}
TOOLS = [
    {"type": "function", "function": {"name": f"f{n}", "description": "does a thing " * 180, "parameters": {}}}
    for n in range(20)
]


@pytest.mark.parametrize(
    ("asked", "answer", "cap_usd", "answered"),
    [
        (
            [
                line(f"i{n}", [{"type": "text", "text": "CASE:it ?"}, PICTURE], model="gpt-4o-mini", max_tokens=16)
                for n in range(40)
            ],
            lambda body: chat(body, usage={"prompt_tokens": 36_839, "completion_tokens": 10}),
            0.02,
            True,
        ),
        ([line("t", "CASE:it ?", model=LARGE, max_tokens=16, tools=TOOLS)], by_chars(0.25), 0.01, False),
        ([line("z", "CASE:it " + "请总结这篇文章。" * 2_700, model=LARGE, max_tokens=16)], by_chars(0.71), 0.03, False),
        (
            [line(f"z{n}", "CASE:it " + "请总结这篇文章。" * 2_700, model=LARGE, max_tokens=16) for n in range(8)],
            by_chars(0.71),
            0.17,
            True,
        ),
    ],
    ids=["pictures", "tools", "chinese", "eight chinese lines"],
)
def test_no_body_costs_more_than_the_budget(
    on_bench: OnBench, asked: list[dict[str, Any]], answer: Callable[[Body], Answer], cap_usd: float, answered: bool
) -> None:
    found = play(on_bench, answer, asked, cap_usd=cap_usd)
    (budget,) = found["budgets"]
    assert budget.settled_usd + budget.reserved_usd <= Decimal(str(cap_usd))
    assert {query.state for query in found["queries"]} <= {"done", "held"}
    assert any(query.state == "done" for query in found["queries"]) == answered
    assert all(call.cost_usd <= call.reserved_usd for call in found["calls"])


def test_a_lines_own_cap_is_held_for_a_picture_too(on_bench: OnBench) -> None:
    content = [{"type": "text", "text": "CASE:it ?"}, PICTURE]
    asked = line("i", content, model="gpt-4o-mini", max_tokens=16, max_cost_usd=0.001)
    found = play(on_bench, lambda body: chat(body, usage={"prompt_tokens": 36_839}), [asked])
    assert [query.state for query in found["queries"]] == ["failed"]
    assert found["calls"] == []


@pytest.mark.parametrize("tokens", [3_000, 5_000, 7_000, 7_900])
def test_prompt_and_cap_together_stay_within_the_context(on_bench: OnBench, tokens: int) -> None:
    """vLLM's rule, with its own words."""

    def vllm(body: Body) -> Answer:
        asked = len(body["messages"][0]["content"]) // 4 + (body.get("max_tokens") or body["max_completion_tokens"])
        if body["model"] == SMALL and asked > 8_192:
            return refusal(400, None, message=f"maximum context length is 8192, you requested {asked}")
        return chat(body)

    found = play(on_bench, vllm, [line("p", "CASE:it Summarise: " + "word" * tokens)])
    assert [query.state for query in found["queries"]] == ["done"]
    assert [call.outcome for call in found["calls"]] == ["ok"]  # none was refused first
    assert found["calls"][0].model == (SMALL if tokens <= 7_000 else LARGE)


def bucket(size: float, per_s: float, refuse: Callable[[], Answer]) -> Callable[[Body], Answer]:
    """Lets ``size`` calls of the small model through, then ``per_s`` a second."""
    state = {"level": size, "at": time.monotonic()}

    def answer(body: Body) -> Answer:
        now = time.monotonic()
        state["level"] = min(size, state["level"] + (now - state["at"]) * per_s)
        state["at"] = now
        if body["model"] == SMALL and state["level"] < 1:
            return refuse()
        state["level"] -= body["model"] == SMALL
        return chat(body)

    return answer


@pytest.mark.parametrize(
    "refuse",
    [
        lambda: refusal(429, "rate_limit_exceeded"),
        lambda: (429, {"error": {"message": "Please try again in 200ms.", "code": "rate_limit_exceeded"}}),
        lambda: (200, {"error": {"code": 429, "message": "Provider returned error"}}),
        lambda: (529, {"error": {"type": "overloaded_error", "message": "Overloaded"}}),
        lambda: (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}),
    ],
    ids=["429", "429 with a hint", "429 in a 200", "529", "503 while loading"],
)
def test_a_limit_costs_time_and_no_query_climbs_or_fails_for_it(
    on_bench: OnBench, refuse: Callable[[], Answer]
) -> None:
    lines = [line(f"q{n}", "CASE:it What is 2+2?") for n in range(40)]
    found = play(on_bench, bucket(15, 10, refuse), lines)
    assert {(query.state, query.tier, query.escalations) for query in found["queries"]} == {("done", "small", 0)}
    limited = [call for call in found["calls"] if call.outcome != "ok"]
    assert limited
    assert all(call.cost_usd == 0 for call in limited)


def test_what_cannot_be_bounded_is_refused_by_name_unless_the_fleet_allows_it() -> None:
    asked: Mapping[str, Any] = line("s", "What is new?", web_search_options={})
    asked["body"]["web_search_options"] = {"search_context_size": "low"}
    fleet = fleet_of("http://127.0.0.1:1")
    (refused,) = read_objects([asked], fleet=fleet)
    assert isinstance(refused, RejectedLine)
    assert refused.field == "body.web_search_options"
    allowed = replace(fleet, budgets=replace(fleet.budgets, allow_unbounded=True))
    (taken,) = read_objects([asked], fleet=allowed)
    assert not isinstance(taken, RejectedLine)
