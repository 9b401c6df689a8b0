"""Spend by tenant, key, workload, tier and day: equal to SQL over the calls, however late they end."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from db.engine import make_engine
from db.ledger_types import DecisionRecord
from db.spend import sum_spend
from db.tenants import Role
from db.workload_sums import sum_workloads
from tests.integration.api.conftest import Served, line
from tests.integration.api.test_batch_routes import create, until, upload
from tests.integration.api.test_chat_routes import ask_and_answer
from tests.integration.api.test_message_batches import asked, created
from tests.integration.api.test_roles import register_shipped
from tests.integration.ledger_fixtures import LedgerHarness

NAMES = {
    "tenant": "b.tenant",
    "key": "b.key_id",
    "workload": "w.workload",
    "tier": "c.tier",
    "day": "CAST(c.created_at AT TIME ZONE 'UTC' AS date)",
}
OVER_CALLS = """
SELECT CAST({name} AS text) AS name, count(*) AS calls, sum(c.cost_usd) AS usd
FROM calls AS c JOIN batches AS b ON b.id = c.batch_id
LEFT JOIN LATERAL (SELECT detail ->> 'workload' AS workload FROM decisions AS d
                   WHERE d.query_id = c.query_id AND d.kind = 'route' ORDER BY d.id DESC LIMIT 1) AS w ON true
WHERE c.outcome IS NOT NULL AND b.tenant = ANY(CAST(:tenants AS text[])) GROUP BY 1
"""


def noted(workload: str) -> DecisionRecord:
    return DecisionRecord(kind="route", router="gate", reasons=["a test"], detail={"workload": workload})


def answered(served: Served, key: str, *ids: str, workload: str, days_ago: int = 0) -> None:
    """A batch of a key, with its calls on an earlier day."""
    with served.client(key) as client:
        batch = create(client, upload(client, [line(id_) for id_ in ids])["id"])["id"]
        until(client, batch, "in_progress")
        served.answer(batch, why=noted(workload))

    async def move(bench: LedgerHarness) -> None:
        await bench.rows_as_owner(
            "UPDATE calls SET created_at = created_at - make_interval(days => :days)"
            " WHERE batch_id = (SELECT id FROM batches WHERE public_id = :id)",
            days=days_ago,
            id=batch,
        )

    served.play(move)


def summed(served: Served) -> None:
    served.play(lambda bench: sum_spend(bench.engine))


def equal_sql(served: Served, key: str, *tenants: str) -> None:
    """What the service tells this key is what SQL says of these tenants."""

    async def read(bench: LedgerHarness) -> dict[str, Any]:
        return {by: await bench.rows(OVER_CALLS.format(name=name), tenants=list(tenants)) for by, name in NAMES.items()}

    with served.client(key) as client:
        for by, rows in served.play(read).items():
            told = client.get("/v1/pointsman/spend", params={"by": by}).json()
            found = {one[by]: (one["calls"], one["cost_usd"]) for one in told["data"]}
            assert found == {row.name: (row.calls, pytest.approx(float(row.usd), abs=1e-9)) for row in rows}
            assert told["calls"] == sum(row.calls for row in rows)
            assert told["cost_usd"] == pytest.approx(float(sum(row.usd for row in rows)), abs=1e-9)
            if by == "day":
                assert all(sum(day["tiers"].values()) == pytest.approx(day["cost_usd"]) for day in told["data"])


def test_spend_equals_sql_over_calls_and_a_late_call_changes_its_day(served: Served) -> None:
    operator, viewer = served.key("default"), served.key("default", role=Role.VIEWER)
    one, other = served.key("b"), served.key("b", role=Role.ADMIN)
    answered(served, operator, "x", workload="chat")
    answered(served, one, "x", "y", "z", workload="bills", days_ago=1)
    answered(served, other, "x", workload="mail")
    summed(served)
    for key, tenants in ((operator, ("default", "b")), (viewer, ("default",)), (one, ("b",)), (other, ("b",))):
        equal_sql(served, key, *tenants)
    answered(served, one, "late", workload="mail", days_ago=1)
    summed(served)
    equal_sql(served, one, "b")

    async def rows(bench: LedgerHarness) -> list[Any]:
        return [tuple(row) for row in await bench.rows("SELECT * FROM spend_daily ORDER BY 1, 2, 3, 4, 5, 6")]

    before = served.play(rows)
    summed(served)
    assert [row[:-1] for row in served.play(rows)] == [row[:-1] for row in before]
    with served.client(one) as client:
        (today,) = client.get("/v1/pointsman/spend", params={"days": 1, "by": "workload"}).json()["data"]
        told = {name: today[name] for name in ("workload", "tenant", "calls", "prompt_tokens", "completion_tokens")}
        assert list(told.values()) == ["mail", "b", 1, 10, 5]
        assert client.get("/v1/pointsman/spend", params={"by": "model"}).status_code == 400


def test_chats_and_message_batches_count_for_the_key_that_asked(served: Served) -> None:
    key = served.key("c")
    with served.client(key) as client:
        assert ask_and_answer(served, client, {}).status_code == 200
        batch = created(client, asked("a"))["id"]
        until(client, batch, "in_progress")
        served.answer(batch)
        summed(served)
        (told,) = client.get("/v1/pointsman/spend", params={"by": "key"}).json()["data"]
        assert (told["key"], told["name"], told["calls"]) == (key.split("-")[1], "test", 2)
        assert client.get("/v1/pointsman/me").json() == {
            "tenant": "c",
            "role": "operator",
            "key": key.split("-")[1],
            "name": "test",
        }


BATCH = (
    "INSERT INTO batches (id, public_id, source, total, first_query_id, last_query_id, fleet, fleet_digest, price_list,"
    " simulated) VALUES (1, 'batch_1', 'x', 1, 1, 1, 'f', 'd', 'p', true)"
)
CALLS = (
    "INSERT INTO calls (id, batch_id, query_id, epoch, purpose, tier, deployment, provider, model, reserved_usd,"
    " price_version, outcome, finished_at, cost_usd)"
    " SELECT n, 1, n, 1, 'answer', 'small', 'd', 'p', 'm', 0, 'v', 'ok', now(), n"
    " FROM generate_series(CAST(:first AS integer), CAST(:last AS integer)) AS n"
)
SLOW_WRITER = (
    "CREATE FUNCTION wait_for_leave() RETURNS trigger LANGUAGE plpgsql AS $$"
    " BEGIN IF current_setting('application_name') = 'slow' THEN PERFORM pg_advisory_xact_lock(1); END IF;"
    " RETURN NEW; END $$",
    "CREATE TRIGGER slow BEFORE INSERT ON spend_daily FOR EACH ROW EXECUTE FUNCTION wait_for_leave()",
)
WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"


def test_a_slow_sum_does_not_replace_one_that_read_later_calls(served: Served) -> None:
    async def story(bench: LedgerHarness) -> None:
        async def until_waiting(writers: int, task: asyncio.Task[int]) -> None:
            for _ in range(1000):
                if task.done() or len(await bench.rows_as_owner(WAITING)) >= writers:
                    return
                await asyncio.sleep(0.02)

        for sql in (BATCH, *SLOW_WRITER):
            await bench.rows_as_owner(sql)
        await bench.rows_as_owner(CALLS, first=1, last=1)
        slow = make_engine(bench.engine.url.render_as_string(hide_password=False), pool_size=1)
        async with slow.connect() as connection:
            await connection.execute(text("SET application_name = 'slow'"))
        async with bench.engine.connect() as holder:
            await holder.execute(text("SELECT pg_advisory_lock(1)"))
            earlier = asyncio.create_task(sum_spend(slow))
            await until_waiting(1, earlier)
            await bench.rows_as_owner(CALLS, first=2, last=2)
            later = asyncio.create_task(sum_spend(bench.engine))
            await until_waiting(2, later)
            await holder.execute(text("SELECT pg_advisory_unlock(1)"))
        assert await asyncio.gather(earlier, later) == [1, 1]
        assert [row.calls for row in await bench.rows("SELECT calls FROM spend_daily")] == [2]
        await slow.dispose()

    served.play(story)


def test_prompts_of_one_query_and_the_cheapest_workloads_have_no_name(served: Served) -> None:
    async def story(bench: LedgerHarness) -> list[Any]:
        await bench.rows_as_owner(BATCH)
        await bench.rows_as_owner(CALLS, first=1, last=105)
        await bench.rows_as_owner(
            "INSERT INTO decisions (batch_id, query_id, epoch, kind, move, from_stage, to_stage, to_state,"
            " reasons, detail)"
            " SELECT 1, n, 1, 'route', 'advance', 'route', 'small', 'ready', '{}', jsonb_build_object('workload',"
            " CASE WHEN n = 105 THEN 'prompt-once' WHEN n > 102 THEN 'prompt-twice' ELSE 'w-' || n END)"
            " FROM generate_series(1, 105) AS n"
        )
        await sum_spend(bench.engine)
        return await bench.rows("SELECT workload, calls, cost_usd FROM spend_daily")

    rows = {row.workload: (row.calls, float(row.cost_usd)) for row in served.play(story)}
    # Of 102 named workloads and one of a prompt the 100 costliest keep their names.
    assert len(rows) == 101
    assert rows["prompt-twice"] == (2, 103 + 104)
    assert rows[""] == (4, 105 + 1 + 2 + 3)


def test_the_cheapest_of_many_workloads_are_summed_up_without_a_name(served: Served) -> None:
    answered(served, served.key("m"), *(f"q-{n}" for n in range(103)), workload="each")

    async def story(bench: LedgerHarness) -> tuple[list[Any], Any]:
        await bench.rows_as_owner("UPDATE decisions SET detail = jsonb_build_object('workload', 'w-' || query_id)")
        await bench.rows_as_owner("UPDATE calls SET cost_usd = query_id WHERE query_id IS NOT NULL")
        await sum_workloads(bench.engine)
        (paid,) = await bench.rows("SELECT sum(cost_usd) AS usd, min(query_id) AS first FROM calls")
        sums = await bench.rows("SELECT workload, answers, cost_usd FROM workload_sums")
        return sums, paid

    sums, paid = served.play(story)
    rows = {row.workload: (row.answers, float(row.cost_usd)) for row in sums}
    assert len(rows) == 101
    assert rows[""] == (3, 3 * paid.first + 3)
    assert sum(usd for _, usd in rows.values()) == pytest.approx(float(paid.usd))


OF_BATCH = """
SELECT a.tier, count(*) AS answers, (SELECT sum(cost_usd) FROM calls WHERE batch_id = b.id) AS usd
FROM batches AS b JOIN answers AS a ON a.query_id BETWEEN b.first_query_id AND b.last_query_id
WHERE b.public_id = :id GROUP BY a.tier, b.id
"""


def test_a_workload_has_its_spend_and_grades_and_what_routed_it_side_by_side(served: Served) -> None:
    key, other = served.key("w"), served.key("x")
    answered(served, key, "a", "b", workload="bills")
    answered(served, key, "c", "d", "e", workload="bills")
    answered(served, key, "f", workload="mail")
    answered(served, other, "g", workload="bills")
    with served.client(key) as client:
        certified, trained = (batch["id"] for batch in client.get("/v1/batches").json()["data"][1:3])
        for custom_id, grade in (("a", 1.0), ("b", 0.0), ("b", 0.5)):  # the newest of an answer counts
            given = {"batch_id": trained, "custom_id": custom_id, "grade": grade, "by": "chance"}
            assert client.post("/v1/pointsman/labels", json=given).status_code == 200

        async def route(bench: LedgerHarness) -> dict[str, list[Any]]:
            await register_shipped(bench.engine, "v1")
            await bench.rows_as_owner(
                "UPDATE decisions SET router = 'v1', detail = jsonb_build_object('workload', 'bills', 'version',"
                " (SELECT left(digest, 12) FROM routers))"
                " WHERE batch_id = (SELECT id FROM batches WHERE public_id = :id)",
                id=trained,
            )
            await bench.rows_as_owner(
                "UPDATE decisions SET router = CASE query_id % 3 WHEN 0 THEN 'pilot' ELSE 'quality_policy' END,"
                """ detail = '{"workload": "bills"}' WHERE batch_id = (SELECT id FROM batches WHERE public_id = :id)""",
                id=certified,
            )
            await bench.rows_as_owner(
                "INSERT INTO pilots (batch_id, floor, confidence, seed, audit_share, state, policy, decided_at,"
                " certificate)"
                " SELECT id, 0.9, 0.95, 1, 0.01, 'decided', '{}', now(), CAST(:certificate AS jsonb) FROM batches"
                " WHERE public_id = :id",
                certificate='{"outcome": "certified", "quality": 0.97}',
                id=certified,
            )
            assert await sum_workloads(bench.engine) == 4
            assert await sum_workloads(bench.engine) == 0
            return {id_: await bench.rows(OF_BATCH, id=id_) for id_ in (certified, trained)}

        by_sql = served.play(route)
        summed(served)
        told = client.get("/v1/pointsman/workload", params={"name": "bills"}).json()
        assert (told["spend"]["calls"], [day["calls"] for day in told["spend"]["data"]]) == (5, [5])
        (grade,) = told["grades"]
        assert (grade["tier"], grade["labels"], grade["grade"]) == ("small", 2, 0.75)
        policy, router = told["versions"]
        for version, id_ in ((policy, certified), (router, trained)):
            report = client.get(f"/v1/pointsman/batches/{id_}/report").json()
            assert version["tiers"] == {row.tier: row.answers for row in by_sql[id_]} == {"small": version["answers"]}
            assert version["cost_usd"] == pytest.approx(float(by_sql[id_][0].usd)) == pytest.approx(report["cost_usd"])
            assert version["baseline_usd"] == pytest.approx(report["baseline_cost_usd"])
            assert version["saving_share"] == pytest.approx(report["saving_share"], abs=1e-4)
        assert (policy["batch_id"], policy["quality"]["standing"], policy["quality"]["measured"]) == (
            certified, "certified", 0.97
        )  # fmt: skip
        assert (router["router"], len(router["version"]), router["labels"]["labels"]) == ("v1", 12, 2)
        low, high = router["labels"]["interval"]
        assert 0.0 < low < router["labels"]["grade"] == 0.75 < high < 1.0
        nothing = client.get("/v1/pointsman/workload", params={"name": "unknown"}).json()
        assert (nothing["spend"]["calls"], nothing["grades"], nothing["versions"]) == (0, [], [])
