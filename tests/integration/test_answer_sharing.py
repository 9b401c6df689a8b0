"""Queries that ask the same are asked once, and each has an answer: of its own tenant, accepted, paid once."""

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from db.batch_writer import BatchSpec
from db.ledger import Ledger
from db.pilots import Pilots
from db.reports.batch_progress import Batch
from db.reports.query_timeline import find_queries
from db.reports.results import result_lines
from routing.fleet import AnswerSharing
from routing.lifecycle import ROUTE, MoveKind, State
from routing.pilot import PilotSpec
from settings import Settings
from submission.forecaster import Forecaster
from submission.line_reader import read_objects
from submission.submit import submit
from tasks.stages.answer import answer
from tasks.stages.route import route
from tasks.worker_context import WorkerContext
from tests.fake_provider import chat, refusal, serving
from tests.integration.end_to_end import account, hand_in, work_off, worker_context_of
from tests.integration.ledger_fixtures import LedgerHarness, OnBench
from tests.integration.test_provider_cases import fleet_of, line

Line = dict[str, Any]


def asked(custom_id: str, case: str, *, temperature: float = 0, **keys: Any) -> Line:
    return line(case, model="small", temperature=temperature) | {"custom_id": custom_id} | keys


async def taken_in(lines: list[Line], context: WorkerContext, **spec: Any) -> Batch:
    read = read_objects(lines, fleet=context.fleet)
    return await hand_in(read, BatchSpec(source="test", **spec), context)


async def results(batch: Batch, context: WorkerContext) -> Mapping[str, Any]:
    rows = [orjson.loads(each) async for each in result_lines(context.engine, batch.id)]
    return {row["custom_id"]: row for row in rows}


def test_lines_that_ask_the_same_at_temperature_0_are_asked_once(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        with serving({"same": chat, "other": chat}) as provider:
            async with worker_context_of(bench, fleet_of(provider.url)) as context:
                batch = await taken_in(
                    [
                        asked("a", "same"),
                        asked("b", "same", temperature=0.0, metadata={"row": 2}),
                        asked("c", "other"),
                        asked("warm", "same", temperature=0.5),
                        asked("d", "same"),
                        asked("own", "same", dedup=False),
                    ],
                    context,
                )
                assert [row.follows for row in await find_queries(bench.engine, "b")] == ["a"]
                await work_off(context)
                figures = await account(batch, context)
                assert [row.follows for row in await find_queries(bench.engine, "b")] == [None]
                lines = await results(batch, context)
        assert len(provider.calls) == figures.calls == 4
        assert {name: row["pointsman"]["state"] for name, row in lines.items()} == dict.fromkeys(lines, "done")
        assert lines["b"]["response"]["body"] == lines["a"]["response"]["body"]
        assert lines["b"]["pointsman"]["cost_usd"] == 0 < lines["a"]["pointsman"]["cost_usd"]
        assert lines["b"]["pointsman"]["reasons"] == [
            f"not asked: it has the accepted answer of query a of {batch.public_id}, which asks the same"
        ]
        assert figures.not_paid_queries == 2
        assert figures.not_paid_usd == round(2 * lines["a"]["pointsman"]["cost_usd"], 9)
        # The baseline is that of the four that were asked.
        paid = sum(lines[name]["pointsman"]["cost_usd"] for name in ("a", "c", "warm", "own"))
        assert abs(figures.cost_usd - paid) < 1e-12
        assert await bench.rows("SELECT 1 FROM followers") == []

    on_bench(story)


def test_a_leader_that_fails_promotes_one_follower_and_a_second_failure_has_all_asked(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        refused = iter([True])
        cases = {
            "once": lambda body: refusal(400, "invalid") if next(refused, False) else chat(body),
            "never": lambda body: refusal(400, "invalid"),
        }
        with serving(cases) as provider:
            async with worker_context_of(bench, fleet_of(provider.url)) as context:
                lines = [asked(f"{case}-{number}", case) for case in cases for number in range(5)]
                batch = await taken_in(lines, context)
                await work_off(context)
                ended = {name: row["pointsman"]["state"] for name, row in (await results(batch, context)).items()}
        # The first is refused, the second answers for the other three.
        assert [ended[f"once-{number}"] for number in range(5)] == ["failed", "done", "done", "done", "done"]
        assert len(provider.of("once")) == 2
        assert [ended[f"never-{number}"] for number in range(5)] == ["failed"] * 5
        assert len(provider.of("never")) == 5

    on_bench(story)


def test_no_follower_gets_a_rejected_answer(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        far = "The committee postponed yesterday's announcement about municipal swimming facilities indefinitely."
        with serving({"far": lambda body: chat(body, far)}) as provider:
            async with worker_context_of(bench, fleet_of(provider.url)) as context:
                lines = [asked(f"q-{n}", "far", expects={"context": "Two and two are four. " * 5}) for n in range(3)]
                batch = await taken_in(lines, context)
                await work_off(context)
                found = await results(batch, context)
        assert [row["pointsman"]["accepted"] for row in found.values()] == [False] * 3
        assert all(row["pointsman"]["cost_usd"] > 0 for row in found.values())
        assert len(provider.calls) == 3

    on_bench(story)


def test_an_answer_of_an_earlier_batch_is_reused_within_tenant_and_workload_and_age(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        with serving({"same": chat}) as provider:
            fleet = replace(fleet_of(provider.url), answer_sharing={"tickets": AnswerSharing(True, reuse_s=86_400.0)})
            async with worker_context_of(bench, fleet) as context:
                tickets, others = {"metadata": {"workload": "tickets"}}, {"metadata": {"workload": "others"}}
                ways: list[tuple[str, dict[str, Any], dict[str, Any], int]] = [
                    ("the first", tickets, {}, 1),
                    ("the same again", tickets, {}, 1),
                    ("another workload", others, {}, 2),
                    ("another tenant", tickets, {"tenant": "acme"}, 3),
                    ("that tenant again", tickets, {"tenant": "acme"}, 3),
                ]
                for what, keys, spec, calls in ways:
                    batch = await taken_in([asked("a", "same", temperature=0.7, **keys)], context, **spec)
                    await work_off(context)
                    assert len(provider.calls) == calls, what
                    (row,) = (await results(batch, context)).values()
                    assert row["pointsman"]["state"] == "done", what
                await bench.rows("SELECT 1")
                async with bench.owner() as owner, owner.begin() as connection:
                    await connection.exec_driver_sql("UPDATE answers SET created_at = now() - interval '2 days'")
                await taken_in([asked("a", "same", temperature=0.7, **tickets)], context)
                await work_off(context)
                assert len(provider.calls) == 4, "too old"

    on_bench(story)


def test_followers_are_cancelled_expire_and_resume_as_any_query(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        with serving({"same": chat}) as provider:
            async with worker_context_of(bench, fleet_of(provider.url)) as context:
                lines = [asked(f"q-{n}", "same") for n in range(4)]
                cancelled = await taken_in(lines, context)
                assert await context.ledger.cancel(cancelled.id) == 4
                expired = await taken_in(lines, context)
                await context.ledger.close_queries(
                    expired.id, move=MoveKind.EXPIRE, to_state=State.EXPIRED, actor="feeder", reason="r"
                )
                await work_off(context)
                assert provider.calls == []
                assert await context.ledger.resume(expired.id) == 4
                await work_off(context)
                assert len(provider.calls) == 1
                found = await results(expired, context)
                assert [row["pointsman"]["state"] for row in found.values()] == ["done"] * 4

    on_bench(story)


def test_a_leader_of_a_killed_worker_is_asked_again_and_its_followers_are_not(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        with serving({"same": chat}) as provider:
            async with worker_context_of(bench, fleet_of(provider.url)) as context:
                batch = await taken_in([asked(f"q-{n}", "same") for n in range(5)], context)
                await route(await context.ledger.fill_window(ROUTE, room=10), context)
                (leader,) = await context.ledger.fill_window("small", room=10)
                lost = Ledger(bench.engine, worker_id=9, lease_s=0.0)
                assert await lost.claim(("small", leader, None)) is not None  # by a worker that is gone now
                assert await context.ledger.share_answers() == 0
                assert await lost.rescue(as_of=await lost.clock()) == (1, 0)
                await answer("small", await context.ledger.fill_window("small", room=10), context)
                await work_off(context)
                found = await results(batch, context)
        assert len(provider.calls) == 1
        assert [row["pointsman"]["state"] for row in found.values()] == ["done"] * 5

    on_bench(story)


def test_whoever_asks_what_no_answer_crosses_tenants(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        draw = random.Random(19)
        cases = {f"c{number}": chat for number in range(4)}
        with serving(cases) as provider:
            sharing = {"": AnswerSharing(True, 3600.0), "w": AnswerSharing(None, 3600.0)}
            async with worker_context_of(bench, replace(fleet_of(provider.url), answer_sharing=sharing)) as context:
                for _ in range(25):
                    keys = [{}, {"metadata": {"workload": "w"}}]
                    lines = [
                        asked(f"q-{n}", draw.choice(list(cases)), temperature=draw.choice([0, 1]), **draw.choice(keys))
                        for n in range(draw.randint(1, 6))
                    ]
                    await taken_in(lines, context, tenant=draw.choice(["a", "b", "c"]))
                    if draw.random() < 0.6:
                        await work_off(context)
                await work_off(context)
        pairs = await bench.rows(
            "SELECT own.tenant, led.tenant AS of_tenant, q.state, p.body::text = l.body::text AS is_same"
            " FROM queries AS q JOIN batches AS own ON own.id = q.batch_id JOIN prompts AS p ON p.query_id = q.id"
            " JOIN answers AS a ON a.query_id = q.id JOIN calls AS c ON c.id = a.call_id"
            " JOIN prompts AS l ON l.query_id = c.query_id JOIN batches AS led ON led.id = c.batch_id"
        )
        assert {(pair.tenant == pair.of_tenant, pair.is_same, pair.state) for pair in pairs} == {(True, True, "done")}
        (counts,) = await bench.rows("SELECT count(*) AS queries, (SELECT count(*) FROM calls) AS calls FROM queries")
        assert len(pairs) == counts.queries > counts.calls == len(provider.calls)

    on_bench(story)


def test_the_forecast_counts_what_is_asked(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        fleet = fleet_of("http://127.0.0.1:9")
        for lines, total in (([asked(f"q-{n}", "same") for n in range(10)], 1), ([asked("a", "same", dedup=False)], 1)):
            forecaster = Forecaster(Settings.load({}), fleet, bench.engine, BatchSpec(source="t"))
            read = read_objects(lines, fleet=fleet)
            await submit(read, engine=bench.engine, fleet=fleet, spec=BatchSpec(source="t"), forecaster=forecaster)
            assert forecaster.sample.seen == total
        plans = await bench.rows("SELECT plan ->> 'total' AS total FROM batches ORDER BY id")
        assert [plan.total for plan in plans] == ["1", "1"]

    on_bench(story)


def test_a_pilot_samples_leaders_alone(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        async with worker_context_of(bench, fleet_of("http://127.0.0.1:9")) as context:
            lines = [asked(f"q-{n}", f"c{n % 40}") for n in range(60)]
            for line_ in lines:
                line_["body"]["model"] = "auto"
            batch = await taken_in(lines, context, pilot=PilotSpec(0.9))
            pilots = Pilots(bench.engine)
            found = await pilots.find(batch.id)
            assert found is not None
            assert found.total == 40
            (taken,) = await pilots.take_sampled(lease_s=60.0, simulated=None)
            await pilots.extend(taken, sample=100)
        sampled = await bench.rows("SELECT count(*) AS n FROM queries WHERE pilot AND due_at <= now()")
        waiting = await bench.rows("SELECT count(*) AS n FROM queries WHERE NOT pilot AND due_at = '9000-01-01'")
        assert (sampled[0].n, waiting[0].n) == (40, 20)

    on_bench(story)


def test_a_pinned_follower_of_a_failed_leader_is_asked_and_not_sampled_by_a_pilot(on_bench: OnBench) -> None:
    async def story(bench: LedgerHarness) -> None:
        with serving({"same": chat, "other": chat}) as provider:
            async with worker_context_of(bench, fleet_of(provider.url)) as context:
                lines = [asked(f"p-{n}", "same") for n in range(2)]
                lines += [line("other", temperature=0) | {"custom_id": f"q-{n}"} for n in range(2)]
                await taken_in(lines, context, pilot=PilotSpec(0.9))
                async with bench.owner() as owner, owner.begin() as connection:
                    await connection.exec_driver_sql(
                        "UPDATE queries SET state = 'failed', finished_at = now()"
                        " WHERE id IN (SELECT leader_id FROM followers)"
                    )
                assert await context.ledger.share_answers() == 2
                due = await bench.rows(
                    "SELECT p.custom_id, q.due_at <= now() AS is_due FROM queries AS q"
                    " JOIN prompts AS p ON p.query_id = q.id WHERE q.state = 'ready'"
                )
        assert {row.custom_id: row.is_due for row in due} == {"p-1": True, "q-1": False}

    on_bench(story)
