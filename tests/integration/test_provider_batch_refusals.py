"""A field that a deployment refuses in the line of a provider batch is left out of the next, and the result says so."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from db.reports.results import result_lines
from fleet_config.price_lookup import with_lanes
from routing.fleet import Fleet, Model, Protocol, Provider, Tier, Timing
from routing.lanes.lane import Lane
from routing.price import Price
from submission.line_reader import read_objects
from tasks.lanes import provider_batch_step
from tests.fake_provider import Answer, BatchingProvider, Body, chat, refusal, serving
from tests.integration.end_to_end import account, hand_in, worker_context_of
from tests.integration.lane_fixtures import buy, within
from tests.integration.ledger_fixtures import LedgerHarness, OnBench

LANES = (Lane.BATCH, Lane.STANDARD)


@pytest.fixture(autouse=True)
def looked_at_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's batches are over at once."""
    monkeypatch.setattr(provider_batch_step, "SOONEST_POLL_S", 0.05)


def batch_fleet(url: str) -> Fleet:
    """One deployment whose server has a batch API."""
    price = with_lanes(Price(1.0, 2.0, 0.1, "test"), LANES)
    model = Model("reasoner", "fake", "reasoner", "large", price, 100_000, lanes=LANES)
    return Fleet(
        "lanes",
        False,
        {"fake": Provider("fake", Protocol.OPENAI, f"{url}/v1", deadline_s=30.0)},
        {model.name: model},
        {"large": Tier("large", "large", 4, (model.name,), None)},
        timing=Timing(lease_s=120.0, backoff_s=0.01),
    )


def line(custom_id: str, content: str = "What is 2+2?", **body: Any) -> Mapping[str, Any]:
    asked = {"model": "auto", "messages": [{"role": "user", "content": f"{content} {custom_id}"}]} | body
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": asked}


def picky(*refused: str) -> BatchingProvider:
    """A reasoning model's server, which refuses these fields."""

    class Picky(BatchingProvider):
        def plain_answer(self, body: Body) -> Answer:
            field = next((name for name in refused if name in body), None)
            return chat(body) if field is None else refusal(400, "unsupported_value", field)

    return Picky({})


@pytest.mark.parametrize("beside", [{}, {"response_format": {"type": "text"}, "stop": ["\n\n"]}])
def test_a_refused_field_is_left_out_of_the_next_line_and_costs_no_attempt(
    on_bench: OnBench, beside: Mapping[str, Any]
) -> None:
    async def story(bench: LedgerHarness) -> None:
        with serving(picky("temperature", "max_tokens")) as server:
            assert isinstance(server, BatchingProvider)
            async with worker_context_of(bench, batch_fleet(server.url)) as context:
                lines = [line(f"q{number}", temperature=0, **beside) for number in range(6)]
                batch = await hand_in(read_objects(lines, fleet=context.fleet), within(24), context)
                await buy(context)
                assert (await account(batch, context)).unanswered_lanes == ()
                results = [orjson.loads(each) async for each in result_lines(context.engine, batch.id)]
            assert server.direct == [], "bought at half price"
            assert [result["error"] for result in results] == [None] * 6
            for result in results:
                assert "left out: temperature (this model refuses it)" in result["pointsman"]["reasons"]
            calls = await bench.rows("SELECT outcome, lane, param, cost_usd FROM calls")
            paid = [call for call in calls if call.cost_usd]
            assert [(call.outcome, call.lane) for call in paid] == [("ok", "batch")] * 6
            refusals = {(call.outcome, call.param) for call in calls if not call.cost_usd}
            assert refusals == {("not_run", "temperature"), ("not_run", "max_tokens")}
            assert {row.attempts for row in await bench.rows("SELECT attempts FROM queries")} == {0}

    on_bench(story)


def test_what_one_worker_learned_no_other_sends(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        with serving(picky("temperature")) as server:
            assert isinstance(server, BatchingProvider)
            for round_ in ("first", "second"):  # each by a worker that has called nothing before
                async with worker_context_of(bench, batch_fleet(server.url)) as context:
                    lines = [line(f"{round_}-{number}", temperature=0) for number in range(3)]
                    await hand_in(read_objects(lines, fleet=context.fleet), within(24), context)
                    await buy(context)
            assert ["temperature" in bodies[0] for bodies in server.lines()] == [True, False, False]
            assert server.direct == []

    on_bench(story)


def test_an_error_in_a_200_costs_nothing_and_has_no_missing_line_charged(on_bench: OnBench) -> None:
    class Odd(BatchingProvider):
        def plain_answer(self, body: Body) -> Answer:
            return chat(body, body["messages"][0]["content"])

        def result(self, line: Mapping[str, Any]) -> dict[str, Any]:
            found = super().result(line)
            text = line["body"]["messages"][0]["content"]
            if "inside" in text:
                found["response"]["body"] = {"error": {"code": 503, "message": "no instances"}}
            if "unstated" in text:
                del found["response"]["status_code"]
            if "beside" in text:
                found["error"] = {"code": None, "message": None}
            return found

        def _made(self, asked: Mapping[str, Any]) -> dict[str, Any]:
            made = super()._made(asked)
            if made["id"] == "batch-0":  # one of its lines has expired, and is in no file
                made["status"] = "expired"
                made["request_counts"] |= {"completed": 4, "failed": 1}
                results = self.files[made["output_file_id"]].splitlines()
                self.files[made["output_file_id"]] = b"\n".join(each for each in results if b"missing" not in each)
            return made

    async def story(bench: LedgerHarness) -> None:
        with serving(Odd({})) as server:
            async with worker_context_of(bench, batch_fleet(server.url)) as context:
                names = ("plain", "inside", "unstated", "beside", "missing")
                await hand_in(read_objects([line(name) for name in names], fleet=context.fleet), within(24), context)
                await buy(context)
            (first, *_) = await bench.rows("SELECT min(id) AS id FROM provider_batches")
            calls = await bench.rows(
                "SELECT p.custom_id, c.outcome, c.cost_usd > 0 AS is_paid FROM calls AS c"
                " JOIN prompts AS p ON p.query_id = c.query_id WHERE c.provider_batch_id = :id",
                id=first.id,
            )
            assert {call.custom_id: (call.outcome, call.is_paid) for call in calls} == {
                "plain": ("ok", True),
                "inside": ("overloaded", False),
                "unstated": ("ok", True),
                "beside": ("ok", True),
                "missing": ("not_run", False),
            }

    on_bench(story)
