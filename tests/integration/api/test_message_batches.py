"""Anthropic's Message Batches over HTTP."""

import json
from dataclasses import replace
from typing import Any

import httpx

from routing.fleet import Fleet
from settings import Settings
from tests.integration.api.conftest import Served, line, serving, wait_until
from tests.integration.api.test_batch_routes import create, upload

PARAMS = {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "Is it?"}]}


def asked(*custom_ids: str, **params: Any) -> dict[str, Any]:
    return {"requests": [{"custom_id": each, "params": PARAMS | params} for each in custom_ids]}


def created(client: httpx.Client, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/v1/messages/batches", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_message_batch_gives_messages_and_errors(served: Served, client: httpx.Client) -> None:
    batch = created(client, asked("a", "b"))
    assert (batch["type"], batch["processing_status"], batch["results_url"]) == ("message_batch", "in_progress", None)
    path = f"/v1/messages/batches/{batch['id']}"
    assert client.get(f"{path}/results").status_code == 404
    wait_until(lambda: client.get(path).json()["request_counts"]["processing"] == 2)
    served.answer(batch["id"], failing=1, status=429)
    wait_until(lambda: client.get(path).json()["processing_status"] == "ended")
    done = client.get(path).json()
    counts = {"processing": 0, "succeeded": 1, "errored": 1, "canceled": 0, "expired": 0}
    assert (done["request_counts"], done["ended_at"] is not None) == (counts, True)
    lines = [json.loads(one) for one in client.get(done["results_url"]).text.splitlines()]
    results = {one["custom_id"]: one["result"] for one in lines}
    assert (results["a"]["type"], results["a"]["error"]["type"]) == ("errored", "error")
    assert results["a"]["error"]["error"]["type"] == "api_error"
    assert results["a"]["error"]["error"]["message"]
    assert results["b"]["type"] == "succeeded"
    assert results["b"]["message"]["content"][0]["text"] == "yes"
    assert [one["id"] for one in client.get("/v1/messages/batches").json()["data"]] == [batch["id"]]
    # It is a batch like any other.
    assert client.get(f"/v1/batches/{batch['id']}").json()["endpoint"] == "/v1/messages"


def test_a_cancelled_message_batch_ends(client: httpx.Client, served: Served) -> None:
    batch = created(client, asked("a"))
    path = f"/v1/messages/batches/{batch['id']}"
    wait_until(lambda: client.get(path).json()["request_counts"]["processing"] == 1)
    cancelled = client.post(f"{path}/cancel").json()
    assert cancelled["cancel_initiated_at"]
    served.answer(batch["id"])  # ends what has no open query, as the feeder would
    wait_until(lambda: client.get(path).json()["processing_status"] == "ended")
    assert client.post(f"{path}/cancel").status_code == 409


def test_an_invalid_request_is_named_before_anything_is_kept(client: httpx.Client) -> None:
    body = asked("a", "b")
    body["requests"][1]["params"] = PARAMS | {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}
    refused = client.post("/v1/messages/batches", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "requests[1].params.tools[0].type")
    assert refused.json()["error"]["message"].startswith("requests[1].params.tools[0].type: ")
    twice = client.post("/v1/messages/batches", json=asked("a", "a"))
    assert (twice.status_code, twice.json()["error"]["param"]) == (400, "requests[1].custom_id")
    for wrong in ({}, {"requests": []}, {"requests": ["a"]}, {"requests": [{"custom_id": "a"}]}):
        assert client.post("/v1/messages/batches", json=wrong).status_code == 400
    assert client.get("/v1/batches").json()["data"] == []
    assert client.get("/v1/files").json()["data"] == []


def test_batches_of_other_endpoints_are_no_message_batches(client: httpx.Client) -> None:
    assert client.get("/v1/messages/batches/batch_none").status_code == 404
    older, newer = created(client, asked("a")), created(client, asked("b"))
    other = create(client, upload(client, [line("c")])["id"])
    assert client.get(f"/v1/messages/batches/{other['id']}").status_code == 404
    first = client.get("/v1/messages/batches", params={"limit": 1}).json()
    assert ([one["id"] for one in first["data"]], first["has_more"]) == ([newer["id"]], True)
    last = client.get("/v1/messages/batches", params={"limit": 1, "after_id": first["last_id"]}).json()
    assert ([one["id"] for one in last["data"]], last["has_more"]) == ([older["id"]], False)


def test_a_batch_beyond_the_quota_leaves_no_file(settings: Settings, shipped_fleet: Fleet) -> None:
    fleet = replace(shipped_fleet, tenant_quotas=replace(shipped_fleet.tenant_quotas, open_batches=1))
    with serving(settings, fleet) as served, served.client() as client:
        created(client, asked("a"))
        refused = client.post("/v1/messages/batches", json=asked("b"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "quota_reached")
        assert len(client.get("/v1/files").json()["data"]) == 1


def test_anthropics_header_brings_the_key(served: Served) -> None:
    key = served.key("theirs")

    def opens(headers: dict[str, str]) -> bool:
        return httpx.get(f"{served.url}/v1/models", headers=headers).status_code == 200

    wait_until(lambda: not opens({}))
    assert opens({"x-api-key": key})
    assert not opens({"x-api-key": "wrong"})
