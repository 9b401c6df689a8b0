"""What a batch over HTTP may cost: its own cap, policy and priority, and the plan that is stored with it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api.routes.batch_routes import _fingerprint
from api.schemas import BatchCreate
from tests.integration.api.conftest import Served, line
from tests.integration.api.test_batch_routes import create, until, upload
from tests.integration.ledger_fixtures import LedgerHarness

ASKED = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}


@pytest.fixture(scope="module")
def client(module_served: Served) -> Iterator[httpx.Client]:
    with module_served.client() as client:
        yield client


def stored(served: Served, public_id: str) -> Any:
    async def look(bench: LedgerHarness) -> Any:
        (row,) = await bench.rows(
            "SELECT b.budget_policy, b.priority, b.plan, g.cap_usd FROM batches AS b"
            " LEFT JOIN budgets AS g ON g.batch_id = b.id WHERE b.public_id = :h",
            h=public_id,
        )
        return row

    return served.play(look)


def test_a_batch_brings_its_own_cap_policy_and_priority(client: httpx.Client, module_served: Served) -> None:
    means = {"max_cost_usd": 0.25, "budget_policy": "degrade", "priority": -5}
    batch = create(client, upload(client, [line(f"q-{n}") for n in range(5)])["id"], pointsman=means)
    until(client, batch["id"], "in_progress")
    row = stored(module_served, batch["id"])
    assert (float(row.cap_usd), row.budget_policy, row.priority) == (0.25, "degrade", -5)
    report = client.get(f"/v1/pointsman/batches/{batch['id']}/report").json()
    assert report["budget"]["budget"] == {"cap_usd": 0.25, "settled_usd": 0.0, "reserved_usd": 0.0, "left_usd": 0.25}
    assert (report["budget"]["policy"], report["budget"]["held"]) == ("degrade", 0)


def test_identical_lines_are_asked_once_where_the_batch_says_so(client: httpx.Client, module_served: Served) -> None:
    for dedup, asked in ((True, 1), (False, 3)):
        lines = [line(f"q-{n}", temperature=1) for n in range(3)]
        batch = create(client, upload(client, lines)["id"], pointsman={"dedup": dedup})
        until(client, batch["id"], "in_progress")
        assert stored(module_served, batch["id"]).plan["total"] == asked
        client.post(f"/v1/batches/{batch['id']}/cancel").raise_for_status()


def test_a_batch_over_http_carries_its_plan_and_the_report_holds_it_against_what_came(
    client: httpx.Client, module_served: Served
) -> None:
    lines = [line("easy", model="small"), line("hard", model="large"), line("hard-2", model="large")]
    batch = create(client, upload(client, lines)["id"])
    until(client, batch["id"], "in_progress")
    report = client.get(f"/v1/pointsman/batches/{batch['id']}/report").json()
    assert (report["plan"]["total"], report["plan"]["sampled"]) == (3, 3)
    assert report["plan"]["tiers"]["large"]["routed"] == 2
    assert 0 < report["plan"]["cost_usd"]["low"] < report["plan"]["cost_usd"]["high"]
    assert report["plan_against_actual"]["cost_usd"]["within"] is None, "it is still open"
    module_served.answer(batch["id"])
    until(client, batch["id"], "completed")
    told = client.get(f"/v1/pointsman/batches/{batch['id']}/report").json()["plan_against_actual"]
    assert told["by_tier"]["small"]["actual"] == 3
    assert told["cost_usd"]["within"] in (True, False)


def test_without_a_word_the_fleets_means_hold(client: httpx.Client, module_served: Served) -> None:
    batch = create(client, upload(client, [line("a")])["id"], pointsman={})
    until(client, batch["id"], "in_progress")
    row = stored(module_served, batch["id"])
    fleets = module_served.fleet.budgets
    assert (row.cap_usd, row.budget_policy, row.priority) == (fleets.batch_usd, fleets.policy, 0)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ('{"max_cost": 5}', "pointsman.max_cost"),
        ('{"max_cost_usd": -1}', "pointsman.max_cost_usd"),
        ('{"max_cost_usd": NaN}', "pointsman.max_cost_usd"),
        ('{"max_cost_usd": 1e300}', "pointsman.max_cost_usd"),
        ('{"max_cost_usd": "5"}', "pointsman.max_cost_usd"),
        ('{"max_cost_usd": true}', "pointsman.max_cost_usd"),
        ('{"budget_policy": "wait"}', "pointsman.budget_policy"),
        ('{"priority": 1}', "pointsman.priority"),
        ('{"priority": -1.5}', "pointsman.priority"),
        ('{"dedup": 1}', "pointsman.dedup"),
        ("5", "pointsman"),
    ],
)
def test_what_is_no_budget_is_refused_by_its_name(client: httpx.Client, given: str, param: str) -> None:
    body = json.dumps(ASKED)[:-1] + f', "pointsman": {given}}}'
    answer = client.post("/v1/batches", content=body, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


@pytest.mark.parametrize("key", ["max_cost_usd", "budget_policy", "budget_usd"])
def test_a_budget_beside_the_object_for_it_is_refused(client: httpx.Client, key: str) -> None:
    answer = client.post("/v1/batches", json=ASKED | {key: 5})
    assert answer.status_code == 400
    assert f'{key} belongs in the object "pointsman"' in answer.json()["error"]["message"]


def test_a_flaw_is_reported_in_words_and_never_as_a_regular_expression(client: httpx.Client) -> None:
    def told(asked: dict[str, Any]) -> str:
        return str(client.post("/v1/batches", json=asked).json()["error"]["message"])

    assert told(ASKED | {"completion_window": "soon"}).startswith("completion_window: use a duration such as 24h")
    assert told(ASKED | {"metadata": {"a": "\0"}}) == "metadata.a: a character is not allowed."
    misspelt = told(ASKED | {"pointsman": {"max_cost": 5}})
    assert misspelt.startswith("pointsman.max_cost: unknown key; use any of budget_policy, confidence, dedup, ")


def test_the_same_key_with_another_budget_is_another_request(client: httpx.Client) -> None:
    file = upload(client, [line("a")])["id"]
    key = {"idempotency-key": "a-budget"}
    asked = ASKED | {"input_file_id": file, "pointsman": {"max_cost_usd": 1}}
    made, again = (client.post("/v1/batches", json=asked, headers=key) for _ in range(2))
    assert made.json()["id"] == again.json()["id"]
    other = client.post("/v1/batches", json=asked | {"pointsman": {"max_cost_usd": 2}}, headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_key_reused")


def test_a_request_without_means_has_the_print_that_it_had_before_there_were_any() -> None:
    before = "1eed632a9e120c2df5dbf51f87d6c6d1f8d54ae04abf930bbe9a2e41f599c127"
    assert _fingerprint(BatchCreate(**ASKED)) == before
    assert _fingerprint(BatchCreate(**ASKED, pointsman={"max_cost_usd": 1.0})) != before


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/webhook_endpoints", "/v1/pointsman/labels"])
def test_a_body_without_end_is_refused(client: httpx.Client, path: str) -> None:
    def endless() -> Iterator[bytes]:
        yield b'{"metadata": "'
        for _ in range(40):
            yield b"x" * 65536

    for content in (endless(), b"".join(endless())):
        answer = client.post(path, content=content, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


def test_a_batch_over_http_may_ask_for_a_quality_floor(client: httpx.Client, module_served: Served) -> None:
    options = {"quality": 0.9, "confidence": 0.9, "pilot": 50, "grader": "judge"}
    batch = create(client, upload(client, [line(f"q-{n}") for n in range(5)])["id"], pointsman=options)
    until(client, batch["id"], "in_progress")

    async def look(bench: LedgerHarness) -> Any:
        (row,) = await bench.rows(
            "SELECT t.floor, t.confidence, t.max_queries, t.stops, t.state, t.grader FROM pilots AS t"
            " JOIN batches AS b ON b.id = t.batch_id WHERE b.public_id = :h",
            h=batch["id"],
        )
        return tuple(row)

    assert module_served.play(look) == (0.9, 0.9, 50, False, "sampling", "judge")


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 1},
        {"quality": 0.2},
        {"confidence": 0.9},
        {"grader": "judge"},
        {"quality": 0.9, "pilot": 0},
        {"quality": 0.9, "grader": "somebody"},
    ],
)
def test_a_floor_that_cannot_be_certified_is_refused(client: httpx.Client, options: dict[str, Any]) -> None:
    body = ASKED | {"input_file_id": upload(client, [line("q")])["id"], "pointsman": options}
    response = client.post("/v1/batches", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["message"]


def test_a_grader_that_the_fleet_does_not_name_is_refused(client: httpx.Client) -> None:
    options = {"quality": 0.9, "grader": "command"}
    body = ASKED | {"input_file_id": upload(client, [line("q")])["id"], "pointsman": options}
    response = client.post("/v1/batches", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (409, "grader_not_configured")
    assert "[quality]" in response.json()["error"]["message"]
