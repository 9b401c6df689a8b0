"""The dashboard's figures: equal to what the ledger says, each tenant's own, and looked up once for all who watch."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from api.dashboard.router_info import router_card
from db.api_batches import CHAT_SOURCE
from db.batch_writer import BatchSpec
from db.ledger_types import DecisionRecord
from submission.input_line import InputLine
from submission.submit import submit
from tests.integration.api.conftest import Served, line, wait_until
from tests.integration.api.test_batch_routes import create, until, upload
from tests.integration.ledger_fixtures import LedgerHarness
from tests.integration.test_audit_seals import as_owner


def figures(client: httpx.Client) -> dict[str, Any]:
    """A snapshot that is newer than this call."""
    time.sleep(1.1)
    answer = client.get("/v1/pointsman/figures")
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def submitted(client: httpx.Client, *ids: str) -> str:
    public_id = str(create(client, upload(client, [line(id_) for id_ in ids])["id"])["id"])
    until(client, public_id, "in_progress")
    return public_id


def test_what_is_open_is_counted_by_stage_and_state(client: httpx.Client) -> None:
    submitted(client, "a", "b", "c")
    told = figures(client)
    route = told["stages"][0]
    assert (route["stage"], route["ready"], route["queued"], told["open"]) == ("route", 3, 0, 3)
    assert 0 < route["oldest_wait_s"] < 300
    stages = ["route", "small", "medium", "large", "special", "embeddings", "fallback"]
    assert [stage["stage"] for stage in told["stages"]] == stages
    assert told["fleet"]["simulated"] is True


def test_what_waits_for_a_pilot_is_open_and_no_work_yet(served: Served, client: httpx.Client) -> None:
    submitted(client, "a", "b", "c")

    async def put_off(bench: Any) -> None:
        await bench.rows("UPDATE queries SET due_at = 'infinity' WHERE id > (SELECT min(id) FROM queries) RETURNING id")

    served.play(put_off)
    told = figures(client)
    assert (told["stages"][0]["ready"], told["stages"][0]["waiting"], told["open"]) == (1, 2, 3)
    assert [(batch["done"], batch["open"]) for batch in told["batches"]] == [(0, 3)]


def test_a_resumed_batch_has_the_baseline_of_its_report_again(served: Served, client: httpx.Client) -> None:
    public_id = submitted(client, "a", "b", "c", "d")
    served.answer(public_id)
    before = figures(client)["recent"]["cost"]["baseline_usd"]

    async def resumed(bench: Any) -> None:
        longer = "jsonb_set(plan, '{tiers,small,top_tokens}', '5000')"
        await as_owner(bench, f"UPDATE batches SET ended_at = ended_at + interval '1 ms', plan = {longer}")

    served.play(resumed)
    wait_until(lambda: figures(client)["recent"]["cost"]["baseline_usd"] > 2 * before)
    report = client.get(f"/v1/pointsman/batches/{public_id}/report").json()
    assert figures(client)["recent"]["cost"]["baseline_usd"] == pytest.approx(report["baseline_cost_usd"])


def test_figures_are_those_of_the_ledger(served: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.dashboard.collector.RATE_S", 400.0)  # whatever else the machine does, all of it is within
    public_id = submitted(client, "a", "b", "c", "d")
    served.answer(public_id, failing=1)
    told = figures(client)
    report = client.get(f"/v1/pointsman/batches/{public_id}/report").json()
    (batch,) = told["batches"]
    assert (batch["id"], batch["done"], batch["failed"], batch["open"]) == (public_id, 3, 1, 0)
    recent = told["recent"]
    assert recent["ended"] == {"done": report["completed"], "failed": report["failed"]} == {"done": 3, "failed": 1}
    assert recent["answered"] == report["by_tier"] == {"small": 3}
    assert sum(recent["mix"]["10s"]["tiers"]["small"]) == sum(recent["mix"]["60s"]["tiers"]["small"]) == 3
    cost = recent["cost"]
    assert cost["usd"] == pytest.approx(report["cost_usd"])
    assert cost["baseline_usd"] == pytest.approx(report["baseline_cost_usd"])
    assert cost["saving_usd"] == pytest.approx(report["saving_usd"])
    assert told["queries_per_s"] == pytest.approx(0.01)
    calls = {each["deployment"]: (each["calls"], sum(each["failures"].values())) for each in told["providers"]}
    assert calls["gpt-5-nano"] == (4, 1)
    assert told["reserved"] == {"calls": 0, "usd": 0}


def test_the_waves_of_a_batch_are_listed_with_what_they_saved(served: Served, client: httpx.Client) -> None:
    public_id = submitted(client, "a", "b", "c")
    served.answer(public_id)

    async def buy_in_lanes(bench: Any) -> None:
        await bench.rows_as_owner(
            "INSERT INTO provider_batches (batch_id, tier, deployment, provider, model, marker, reason, max_queries,"
            " queries, answered, state, outcome, remote_id, submitted_at, ended_at, done_at)"
            " SELECT id, 'small', 'gpt-5-nano', 'openai', 'm', 'k', 'half price', 9, 2, 2, 'done', 'ended', 'batch_67',"
            " now() - interval '7 minutes', now(), now() FROM batches WHERE public_id = :h",
            h=public_id,
        )
        await bench.rows_as_owner(
            "UPDATE calls AS c SET cost_usd = c.cost_usd / 2, lane = n.lane, provider_batch_id = n.wave"
            " FROM (SELECT id, created_at,"
            " CASE WHEN row_number() OVER (ORDER BY id) < 3 THEN 'batch' ELSE 'flex' END AS lane,"
            " CASE WHEN row_number() OVER (ORDER BY id) < 3 THEN (SELECT max(id) FROM provider_batches) END AS wave"
            " FROM calls) AS n WHERE c.id = n.id AND c.created_at = n.created_at"
        )

    served.play(buy_in_lanes)
    wave, flex = figures(client)["waves"]
    assert (wave["batch"], wave["lane"], wave["tier"]) == (public_id, "batch", "small")
    assert (wave["state"], wave["outcome"]) == ("done", "ended")
    assert (wave["provider"], wave["remote_id"], wave["queries"], wave["answered"]) == ("openai", "batch_67", 2, 2)
    assert wave["age_s"] == pytest.approx(420)
    assert wave["saved_usd"] == pytest.approx(wave["cost_usd"]) != 0
    assert (flex["lane"], flex["queries"], flex["saved_usd"]) == ("flex", 1, pytest.approx(flex["cost_usd"]))


def test_a_batch_that_is_resumed_is_counted_anew(served: Served, client: httpx.Client) -> None:
    public_id = submitted(client, "a", "b")
    served.answer(public_id, failing=2)

    async def bill_failures(bench: Any) -> None:
        await as_owner(bench, "UPDATE calls SET cost_usd = 0.01")

    served.play(bill_failures)
    told = figures(client)
    assert told["batches"][0]["failed"] == 2
    assert told["recent"]["cost"]["baseline_usd"] == pytest.approx(0.02)

    async def resume(bench: Any) -> None:
        (row,) = await bench.rows("SELECT id FROM batches WHERE public_id = :h", h=public_id)
        await bench.ledger.resume(row.id)

    served.play(resume)
    told = figures(client)
    batch = told["batches"][0]
    assert (batch["failed"], batch["open"]) == (0, 2)
    assert told["recent"]["cost"]["baseline_usd"] == 0
    served.answer(public_id, failing=1)
    cost = figures(client)["recent"]["cost"]
    report = client.get(f"/v1/pointsman/batches/{public_id}/report").json()
    assert (cost["usd"], cost["baseline_usd"]) == pytest.approx((report["cost_usd"], report["baseline_cost_usd"]))


@pytest.fixture
def two(served: Served) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """The clients of two tenants."""
    with served.client(served.key("one")) as one, served.client(served.key("two")) as other:
        yield one, other


def test_a_tenant_sees_its_own_figures_only(served: Served, two: tuple[httpx.Client, httpx.Client]) -> None:
    one, other = two
    public_id = submitted(one, "mine")
    served.answer(public_id)
    submitted(one, "waiting")
    mine, theirs = figures(one), figures(other)
    assert (mine["open"], mine["recent"]["ended"], len(mine["batches"])) == (1, {"done": 1}, 2)
    assert (theirs["open"], theirs["recent"]["ended"], theirs["batches"]) == (0, {}, [])
    assert (theirs["recent"]["cost"]["usd"], sum(each["calls"] for each in theirs["providers"])) == (0, 0)
    assert [stage["oldest_wait_s"] for stage in theirs["stages"]] == [None] * 7


def test_a_query_is_found_by_its_custom_id_in_the_tenants_batches_only(two: tuple[httpx.Client, httpx.Client]) -> None:
    one, other = two
    public_id = submitted(one, "where-am-i")
    (found,) = one.get("/v1/pointsman/queries", params={"custom_id": "where-am-i"}).json()["data"]
    assert (found["batch_id"], found["state"], found["stage"]) == (public_id, "ready", "route")
    assert other.get("/v1/pointsman/queries", params={"custom_id": "where-am-i"}).json()["data"] == []


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for text in response.iter_lines():
        if text.startswith("data: "):
            yield orjson.loads(text.removeprefix("data: "))


def test_changes_arrive_as_events_without_a_new_request(served: Served, client: httpx.Client) -> None:
    with client.stream("GET", "/v1/pointsman/live") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        told = events(response)
        assert next(told)["open"] == 0
        public_id = submitted(client, "a", "b")
        assert next(one for one in told if one["open"] == 2)
        served.answer(public_id)
        assert next(one for one in told if one["recent"]["ended"].get("done") == 2)


def test_however_many_watch_there_is_one_look_a_second(served: Served, client: httpx.Client) -> None:
    service = served.app.state.service
    looks = []
    look = service.figures.look

    async def counted(*args: Any, **kwargs: Any) -> float:
        looks.append(args)
        return float(await look(*args, **kwargs))

    service.figures.look = counted
    streams = [client.stream("GET", "/v1/pointsman/live") for _ in range(5)]
    responses = [stream.__enter__() for stream in streams]
    for response in responses:
        told = events(response)
        for _ in range(2):
            next(told)
    began, before = time.monotonic(), len(looks)
    time.sleep(2.5)
    assert len(looks) - before <= (time.monotonic() - began) + 1
    for stream in streams:
        stream.__exit__(None, None, None)
    wait_until(lambda: not service.live._watched)
    time.sleep(1.5)
    quiet = len(looks)
    time.sleep(1.5)
    assert len(looks) == quiet


def test_the_page_needs_no_key_and_lets_nothing_in_from_elsewhere(served: Served) -> None:
    served.key("somebody")
    with served.client() as client:
        bare = client.get("/", follow_redirects=False)
        assert (bare.status_code, bare.headers["location"]) == (307, "/dashboard")
        page = client.get("/dashboard")
        assert page.status_code == 200
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert client.get("/dashboard/nothing.js").status_code in (401, 404)
        assert client.get("/v1/pointsman/figures").status_code == 401


def test_a_classifier_of_the_simulator_has_no_figures_on_real_models(served: Served) -> None:
    async def cards(bench: Any) -> list[dict[str, Any]]:
        return [await router_card(bench.engine, replace(bench.fleet, simulated=made_up)) for made_up in (True, False)]

    made_up, real = served.play(cards)
    assert (made_up["workload"], real["workload"]) == ("simulator", "simulator")
    assert made_up["evaluation"]["apgr"] > 0
    assert real["evaluation"] is None


def test_labels_tell_how_right_the_answers_of_each_tier_were(served: Served, client: httpx.Client) -> None:
    assert figures(client)["router"]["labels"] is None
    assert figures(client)["router"]["evaluation"]["apgr"] > 0
    public_id = submitted(client, "a", "b")

    async def label(bench: Any) -> None:
        rows = await bench.rows("SELECT q.id, q.batch_id FROM queries AS q ORDER BY q.id")
        for row, grades in zip(rows, ((0, 1), (1, 0.5)), strict=True):
            for grade in grades:
                await bench.rows(
                    "INSERT INTO labels (query_id, batch_id, tier, grade, source, said_by)"
                    " VALUES (:q, :b, 'small', :g, 'command', 'test')",
                    q=row.id,
                    b=row.batch_id,
                    g=grade,
                )

    served.play(label)
    served.app.state.service.figures._labels.cache_clear()
    assert public_id
    told = figures(client)["router"]["labels"]
    assert told == {"total": 2, "grade": 0.75, "tiers": {"small": {"total": 2, "grade": 0.75}}}


def test_a_confidence_that_is_not_told_is_shown_as_none(served: Served, client: httpx.Client) -> None:
    public_id = submitted(client, "a", "b")
    served.answer(
        public_id, why=DecisionRecord(kind="judge", router="judge", reasons=["the fleet asks for no confidence"])
    )
    (small,) = figures(client)["recent"]["confidence"].values()
    assert (small["unknown"], sum(small["accepted"])) == (2, 0)


def with_floor(served: Served, public_id: str, *, losses: int, of: int, broken: bool = False) -> None:
    """Gives a batch a certified floor, and audits of which some lost everything."""
    certificate = {"outcome": "certified", "policy": "cascade", "quality": 0.97, "quality_interval": [0.94, 0.99]}

    async def insert(bench: Any) -> None:
        await bench.rows(
            "INSERT INTO pilots (batch_id, floor, confidence, seed, audit_share, state, certificate, decided_at,"
            " breached_at) SELECT id, 0.9, 0.95, 1, 0.01, 'decided', CAST(:certificate AS jsonb), now(),"
            " CASE WHEN :broken THEN now() END FROM batches WHERE public_id = :h RETURNING batch_id",
            certificate=orjson.dumps(certificate).decode(),
            broken=broken,
            h=public_id,
        )
        await bench.rows(
            "INSERT INTO audits (query_id, batch_id, call_id, tier, grade, reference_grade)"
            " SELECT 1000000 * b.id + n, b.id, n, 'small', CASE WHEN n <= :losses THEN 0 ELSE 1 END, 1"
            " FROM batches AS b, generate_series(1, :of) AS n WHERE b.public_id = :h RETURNING query_id",
            losses=losses,
            of=of,
            h=public_id,
        )

    served.play(insert)


def test_a_floor_is_shown_with_its_certificate_and_what_was_measured(served: Served, client: httpx.Client) -> None:
    plain, certified, broken = submitted(client, "a"), submitted(client, "b"), submitted(client, "c")
    with_floor(served, certified, losses=0, of=10)
    with_floor(served, broken, losses=20, of=40, broken=True)
    by_id = {batch["id"]: batch["quality"] for batch in figures(client)["batches"]}
    assert by_id[plain] is None
    told = by_id[certified]
    assert (told["standing"], told["floor"], told["policy"]) == ("certified", 0.9, "cascade")
    assert (told["measured"], told["interval"]) == (0.97, [0.94, 0.99]), "ten audits say less than the pilot"
    told = by_id[broken]
    assert (told["standing"], told["measured"], told["audits"]) == ("broken", 0.5, 40)
    assert 0.3 < told["interval"][0] < 0.5 < told["interval"][1] < 0.7


def test_chat_completions_are_counted_apart_from_batches(served: Served, client: httpx.Client) -> None:
    batch = submitted(client, "a")

    async def chats(bench: LedgerHarness) -> None:
        for n in range(20):
            spec = BatchSpec(source=CHAT_SOURCE, public_id=f"batch_chat{n}")
            lines = [InputLine(1, "chat", b'{"model":"auto","messages":[{"role":"user","content":"a"}]}', None)]
            await submit(lines, engine=bench.engine, fleet=bench.fleet, spec=spec)

    served.play(chats)
    told = figures(client)
    assert [one["id"] for one in told["batches"]] == [batch]
    assert told["chats"] == {"asked": 20, "open": 20, "cancelled": 0, "mean_s": None}
