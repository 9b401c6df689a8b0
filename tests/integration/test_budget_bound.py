"""The hard cap: arbitrary bodies, a provider that bills as its pages say, and a database that refuses any overrun."""

import asyncio
import base64
import json
import math
import random
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final

import httpx
import orjson
import pytest
from sqlalchemy import text

from db.batch_writer import BatchSpec
from providers.client import ProviderClient
from routing.fleet import BudgetPolicy, Budgets, Fleet, Model, Protocol, Provider, RouterPolicy, Tier, Timing
from routing.price import Price
from submission.input_line import InputLine
from tests.integration.end_to_end import account, hand_in, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench

HARD: Final = (
    "CREATE FUNCTION never_over() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF NEW.settled_usd + NEW.reserved_usd > NEW.cap_usd THEN RAISE EXCEPTION 'over the cap'; END IF;"
    " RETURN NULL; END $$",
    "CREATE TRIGGER never_over AFTER INSERT OR UPDATE ON budgets FOR EACH ROW EXECUTE FUNCTION never_over()",
)
"""Every commit that would overrun a cap is an error, whoever makes it. (No CHECK: that one looks at a row before
Postgres has noticed that another transaction has changed it.)"""

SCRIPTS: Final = (
    "word word prose, as it is written. ",
    "请总结这篇文章的主要内容，并列出三个要点。",
    "この記事の要点をまとめてください。",
    "इस लेख का सारांश लिखें। ",
    "🧮🎲🐈‍⬛",
    '{"id":40001,"x":-3.125,"ok":true}\n',
    "ﷺ㍿ﬃ",
)


def fleet() -> Fleet:
    """Two tiers at three providers, one a protocol, with models whose pictures count differently."""
    models = (
        _model("gpt-4o-mini", "openai", "small", usd=0.15, protocol=Protocol.OPENAI),
        _model("gemini-2.5-flash", "google", "small", usd=0.30, protocol=Protocol.GOOGLE),
        _model("gpt-4.1", "openai", "large", usd=2.0, protocol=Protocol.OPENAI),
        _model("claude-opus-4-7", "anthropic", "large", usd=5.0, protocol=Protocol.ANTHROPIC),
    )
    return Fleet(
        name="bound",
        simulated=False,
        providers={
            "openai": Provider("openai", Protocol.OPENAI, "http://openai.test/v1"),
            "google": Provider("google", Protocol.GOOGLE, "http://google.test/v1beta"),
            "anthropic": Provider("anthropic", Protocol.ANTHROPIC, "http://anthropic.test/v1"),
        },
        models={model.name: model for model in models},
        tiers={
            "small": Tier("small", "small", 16, ("gpt-4o-mini", "gemini-2.5-flash"), "large"),
            "large": Tier("large", "large", 16, ("gpt-4.1", "claude-opus-4-7"), None),
        },
        router=RouterPolicy(stages=("gate",)),
        budgets=Budgets(),
        timing=Timing(backoff_s=0.0),
        digest="bound",
    )


def _model(name: str, provider: str, tier: str, *, usd: float, protocol: Protocol) -> Model:
    return Model(
        name=name,
        provider=provider,
        model=name,
        tier=tier,
        price=Price(usd, 4 * usd, usd / 4, version="test"),
        context_tokens=200_000,
        max_output_tokens=2_000,
        protocol=protocol,
    )


def bodies(draw: random.Random, count: int) -> Iterator[InputLine]:
    for number in range(1, count + 1):
        body = _body(draw)
        yield InputLine(number, f"q{number}", orjson.dumps(body), _options(draw, body))


def _options(draw: random.Random, body: dict[str, Any]) -> bytes | None:
    return orjson.dumps({"pin": body["model"]}) if body["model"] != "auto" else None


def _body(draw: random.Random) -> dict[str, Any]:
    words = draw.choice(SCRIPTS) * draw.randint(1, 150)
    content: list[dict[str, Any]] = [{"type": "text", "text": words}]
    while draw.random() < 0.3:
        content.append(_attachment(draw))
    messages: list[dict[str, Any]] = [{"role": "user", "content": words if len(content) == 1 else content}]
    while draw.random() < 0.3:
        messages = [
            {"role": "user", "content": draw.choice(SCRIPTS)},
            {"role": "assistant", "content": draw.choice(SCRIPTS) * draw.randint(1, 80)},
            *messages,
        ]
    body: dict[str, Any] = {"model": draw.choice(["auto", "small", "large"]), "messages": messages}
    if draw.random() < 0.4:
        body["max_tokens"] = draw.choice([1, 16, 300, 5_000])
    if draw.random() < 0.2:
        properties = {f"p{n}": {"type": "string", "description": draw.choice(SCRIPTS)} for n in range(9)}
        function = {"name": "f", "parameters": {"type": "object", "properties": properties}}
        body["tools"] = [{"type": "function", "function": function}] * draw.randint(1, 10)
    return body


def _attachment(draw: random.Random) -> dict[str, Any]:
    if draw.random() < 0.7:
        picture = {"url": f"data:image/png;base64,{_b64(draw.randbytes(30))}"}
        return {"type": "image_url", "image_url": picture | draw.choice([{}, {"detail": "low"}, {"detail": "high"}])}
    if draw.random() < 0.5:
        return {"type": "input_audio", "input_audio": {"data": _wav(draw.uniform(0.1, 3.0)), "format": "wav"}}
    return {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{_b64(b'%PDF-')}", "filename": "a.pdf"}}


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _wav(seconds: float) -> str:
    frames = round(8_000 * seconds)
    head = b"RIFF" + struct.pack("<I", 36 + frames) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
    return _b64(head + b"data" + struct.pack("<I", frames) + bytes(frames))


class Biller:
    """All three providers. Bills as their pages say: the densest tokenizer, pictures of any size, long answers."""

    def __init__(self, seed: int, *, long_answers: float = 0.3, no_usage: float = 0.05) -> None:
        self.draw = random.Random(seed)
        self.long_answers = long_answers
        self.no_usage = no_usage
        self.calls: Counter[str] = Counter()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        match request.url.host.removesuffix(".test"):
            case "openai":
                return self._openai(body)
            case "anthropic":
                return self._anthropic(body)
            case _:
                return self._google(body, request.url.path)

    def _completion(self, cap: int) -> int:
        return cap if self.draw.random() < self.long_answers else self.draw.randint(1, min(cap, 120))

    def _openai(self, body: dict[str, Any]) -> httpx.Response:
        prompt = self._text(body["messages"]) + self._rendered(body.get("tools"))
        files = 0  # all of them together are within the context
        tile_base, tile = (2_833, 5_667) if "mini" in body["model"] else (85, 170)
        for part in self._parts(body["messages"]):
            match part["type"]:
                case "image_url":
                    tiles = 0 if part["image_url"].get("detail") == "low" else self.draw.randint(1, 8)
                    prompt += tile_base + tile * tiles
                case "input_audio":
                    prompt += math.ceil(10 * self._seconds(part["input_audio"]["data"]))
                case "file":
                    files = self.draw.randint(1, 190_000)
        prompt += files
        cap = body.get("max_completion_tokens") or body["max_tokens"]
        completion = self._completion(cap)
        self.calls[body["model"]] += 1
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        answer = {
            "id": "c", "object": "chat.completion", "model": body["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "It is four."},
                         "finish_reason": "length" if completion == cap else "stop"}],
        }  # fmt: skip
        return httpx.Response(200, json=answer if self.draw.random() < self.no_usage else answer | {"usage": usage})

    def _anthropic(self, body: dict[str, Any]) -> httpx.Response:
        prompt = self._text(body["messages"]) + self._rendered(body.get("tools")) + (804 if "tools" in body else 0)
        files = 0
        for part in self._parts(body["messages"]):
            if part["type"] == "image":
                prompt += self.draw.randint(1, 4_784)
            elif part["type"] == "document":
                files = self.draw.randint(1, 190_000)
        prompt += files
        completion = self._completion(body["max_tokens"])
        self.calls[body["model"]] += 1
        return httpx.Response(
            200,
            json={
                "id": "m", "type": "message", "role": "assistant", "model": body["model"],
                "content": [{"type": "text", "text": "It is four."}],
                "stop_reason": "max_tokens" if completion == body["max_tokens"] else "end_turn",
                "usage": {"input_tokens": prompt, "output_tokens": completion},
            },
        )  # fmt: skip

    def _google(self, body: dict[str, Any], path: str) -> httpx.Response:
        prompt, files = self._rendered(body.get("tools")) + 16 * len(body["contents"]), 0
        for content in body["contents"]:
            for part in content["parts"]:
                prompt += len(part.get("text", "").encode())
                kind = part.get("inlineData", {}).get("mimeType", "")
                if kind.startswith("image"):
                    prompt += self.draw.choice([258, 1_120, 2_240, 16 * 258])
                elif kind.startswith("audio"):
                    prompt += math.ceil(32 * self._seconds(part["inlineData"]["data"]))
                elif kind:
                    files = self.draw.randint(1, 190_000)
        prompt += files
        cap = body["generationConfig"]["maxOutputTokens"]
        completion = self._completion(cap)
        thoughts = completion // 2
        self.calls[path.rpartition("/")[2].partition(":")[0]] += 1
        return httpx.Response(
            200,
            json={
                "responseId": "g",
                "candidates": [{"content": {"role": "model", "parts": [{"text": "It is four."}]},
                                "finishReason": "MAX_TOKENS" if completion == cap else "STOP"}],
                "usageMetadata": {"promptTokenCount": prompt, "candidatesTokenCount": completion - thoughts,
                                  "thoughtsTokenCount": thoughts},
            },
        )  # fmt: skip

    def _text(self, messages: list[dict[str, Any]]) -> int:
        tokens = 0
        for message in messages:
            content = message["content"]
            texts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
            tokens += 8 + sum(len(each.encode()) for each in texts)
        return tokens

    def _parts(self, messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for message in messages:
            if isinstance(message["content"], list):
                yield from message["content"]

    def _rendered(self, tools: object) -> int:
        return 0 if tools is None else len(json.dumps(tools, ensure_ascii=False, indent=1).encode())

    def _seconds(self, data: str) -> float:
        return (len(base64.b64decode(data)) - 44) / 8_000


Handler = Callable[[httpx.Request], httpx.Response]


async def play(
    bench: LedgerHarness, lines: Iterator[InputLine], *, cap_usd: float, policy: BudgetPolicy, biller: Handler
) -> dict[str, int]:
    """How many queries ended in which state, after a batch under ``cap_usd``."""
    async with bench.owner() as owner, owner.begin() as connection:
        for statement in HARD:
            await connection.execute(text(statement))
    the_fleet = fleet()
    async with worker_context_of(bench, the_fleet) as context:
        await context.pool.aclose()
        context.pool = ProviderClient(the_fleet, environ={}, transport=httpx.MockTransport(biller))
        batch = await hand_in(lines, BatchSpec(source="test", cap_usd=cap_usd, budget_policy=policy), context)
        await work_off(context)
        figures = await account(batch, context)
        rows = await bench.rows("SELECT state, count(*) AS n FROM queries GROUP BY 1")
        assert 0 < figures.cost_usd <= cap_usd
        above = await bench.rows("SELECT count(*) AS n FROM calls WHERE cost_usd > reserved_usd")
        assert above[0].n == 0
    return {row.state: row.n for row in rows}


@pytest.mark.parametrize("policy", list(BudgetPolicy))
@pytest.mark.parametrize("seed", range(2))
def test_no_commit_ever_has_more_settled_and_reserved_than_the_cap(
    on_bench: OnBench, seed: int, policy: BudgetPolicy
) -> None:
    async def story(bench: LedgerHarness) -> None:
        draw = random.Random(seed)
        cap_usd = draw.choice([0.05, 0.5, 3.0])
        states = await play(bench, bodies(draw, 80), cap_usd=cap_usd, policy=policy, biller=Biller(seed))
        assert states.get("done", 0) > 0
        assert set(states) <= {"done", "held", "failed"}

    on_bench(story)


def questions(count: int, **asked: object) -> Iterator[InputLine]:
    for number in range(1, count + 1):
        body = {"model": "large", "messages": [{"role": "user", "content": f"What is {number} + {number}?"}], **asked}
        yield InputLine(number, f"q{number}", orjson.dumps(body), orjson.dumps({"pin": "large"}))


class Answers:
    """gpt-4.1 with answers of usually 20 to 60 tokens, of which every ``every``-th needs all of 1,500."""

    def __init__(self, *, every: int) -> None:
        self.every = every
        self.caps: list[int] = []
        self.cut = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        number = int(body["messages"][0]["content"].split()[2])
        cap = body.get("max_completion_tokens") or body["max_tokens"]
        needs = 1_500 if number % self.every == 0 else 20 + number % 41
        self.caps.append(cap)
        self.cut += needs > cap
        answer = {
            "id": "c", "object": "chat.completion", "model": body["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "It is four."},
                         "finish_reason": "length" if needs > cap else "stop"}],
            "usage": {"prompt_tokens": 16, "completion_tokens": min(needs, cap)},
        }  # fmt: skip
        return httpx.Response(200, json=answer)


def test_a_tight_budget_asks_within_what_answers_take_and_asks_again_for_what_it_cut_off(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        count, every = 400, 150
        usual_usd = count * (16 * 2.0 + 40 * 8.0) / 1e6
        provider = Answers(every=every)
        cap_usd = 1.58 * usual_usd + 4 * 1_500 * 8.0 / 1e6
        states = await play(bench, questions(count), cap_usd=cap_usd, policy=BudgetPolicy.HOLD, biller=provider)
        assert states == {"done": count}
        # What 16 calls at once could cost at their longest is more than half of the budget.
        assert set(provider.caps) > {2_000}
        assert sum(cap < 200 for cap in provider.caps) > count / 2
        # With four times the room each time: three times at most for the same answer.
        assert 1 <= provider.cut <= 3 * (count // every)
        whole = await bench.rows("SELECT count(*) AS n FROM answers WHERE response::text LIKE '%length%'")
        assert whole[0].n == 0

    on_bench(story)


def test_what_a_learned_cap_cut_off_is_delivered_where_the_budget_pays_for_no_other(
    on_bench: OnBench,
) -> None:
    async def story(bench: LedgerHarness) -> None:
        count = 60
        provider = Answers(every=count)
        usual_usd = count * (16 * 2.0 + 40 * 8.0) / 1e6
        cap_usd = usual_usd + 1_990 * 8.0 / 1e6  # one call at its longest, at first: not the last of them
        states = await play(bench, questions(count), cap_usd=cap_usd, policy=BudgetPolicy.FAIL, biller=provider)
        assert provider.cut >= 1
        assert states == {"done": count}
        marked = await bench.rows("SELECT query_id FROM decisions WHERE kind = 'judge' AND 'truncated' = ANY(codes)")
        assert len(marked) == 1

    on_bench(story)


def test_what_a_learned_cap_cut_off_is_asked_again_where_its_worker_was_lost_meanwhile(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        count = 60
        provider, lost = Answers(every=count), asyncio.Event()

        async def lose_the_worker(request: httpx.Request) -> httpx.Response:
            if provider.cut:  # asked once more, with more room
                lost.set()
                await asyncio.Event().wait()
            return provider(request)

        the_fleet = fleet()
        cap_usd = count * (16 * 2.0 + 40 * 8.0) / 1e6 + 4 * 1_500 * 8.0 / 1e6
        async with worker_context_of(bench, the_fleet) as context:
            await context.pool.aclose()
            context.pool = ProviderClient(the_fleet, environ={}, transport=httpx.MockTransport(lose_the_worker))
            batch = await hand_in(
                questions(count, max_tokens=1_500), BatchSpec(source="test", cap_usd=cap_usd), context
            )
            work = asyncio.create_task(work_off(context))
            await lost.wait()
            work.cancel()
            await asyncio.wait([work])
            recorded = await bench.rows("SELECT id FROM calls WHERE finish_reason = 'length' AND response IS NOT NULL")
            assert len(recorded) == 1
            await bench.lose_workers()
        async with worker_context_of(bench, the_fleet) as context:
            await context.pool.aclose()
            context.pool = ProviderClient(the_fleet, environ={}, transport=httpx.MockTransport(provider))
            await work_off(context)
            assert (await account(batch, context)).progress.done == count
        cut = await bench.rows("SELECT query_id FROM answers WHERE response::text LIKE '%length%'")
        assert not cut

    on_bench(story)


def test_without_a_budget_no_answer_is_asked_to_be_short(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        provider = Answers(every=1_000)
        states = await play(bench, questions(120), cap_usd=1_000.0, policy=BudgetPolicy.HOLD, biller=provider)
        assert states == {"done": 120}
        assert set(provider.caps) == {2_000}

    on_bench(story)
