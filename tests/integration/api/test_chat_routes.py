"""Chat completions through the queue, models, and what else there is to ask."""

import json
import threading
from dataclasses import replace
from typing import Any

import httpx

from routing.fleet import Fleet
from settings import Settings
from tests.integration.api.conftest import Served, line, serving, wait_until
from tests.integration.api.test_batch_routes import create, until, upload
from tests.integration.ledger_fixtures import LedgerHarness

ASKED = {"model": "auto", "messages": [{"role": "user", "content": "Is it?"}]}


def waiting(served: Served) -> str | None:
    """The public id of the chat that waits, if one does."""

    async def look(bench: LedgerHarness) -> str | None:
        rows = await bench.rows(
            "SELECT public_id FROM batches WHERE ended_at IS NULL AND source = '/v1/chat/completions'"
        )
        return str(rows[0].public_id) if rows else None

    found: str | None = served.play(look)
    return found


def ask_and_answer(
    served: Served,
    client: httpx.Client,
    headers: dict[str, str],
    asked: dict[str, Any] = ASKED,
    path: str = "/v1/chat/completions",
    **how: Any,
) -> httpx.Response:
    answers: list[httpx.Response] = []
    asking = threading.Thread(target=lambda: answers.append(client.post(path, json=asked, headers=headers)))
    asking.start()
    served.answer(wait_until(lambda: waiting(served)), **how)
    asking.join()
    return answers[0]


def test_a_chat_waits_for_its_answer_and_is_in_no_list(served: Served, client: httpx.Client) -> None:
    answer = ask_and_answer(served, client, {"idempotency-key": "one"})
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "yes"
    assert answer.headers["x-pointsman-tier"] == "small"
    again = client.post("/v1/chat/completions", json=ASKED, headers={"idempotency-key": "one"})
    assert again.headers["x-pointsman-batch"] == answer.headers["x-pointsman-batch"]
    assert client.get("/v1/batches").json()["data"] == []

    async def priority(bench: LedgerHarness) -> int:
        return int((await bench.rows("SELECT priority FROM batches"))[0].priority)

    assert served.play(priority) > 0


def test_a_chat_is_streamed_once_it_is_judged(served: Served, client: httpx.Client) -> None:
    asked = ASKED | {"stream": True, "stream_options": {"include_usage": True}}
    answer = ask_and_answer(served, client, {"idempotency-key": "one"}, asked=asked)
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/event-stream")
    assert answer.headers["x-pointsman-tier"] == "small"
    *events, last = [event.removeprefix("data: ") for event in answer.text.split("\n\n") if event]
    chunks = [json.loads(event) for event in events]
    assert last == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    said, ended, usage = chunks
    assert said["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": "yes"}, "finish_reason": None}]
    assert ended["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert (usage["choices"], "usage" in usage) == ([], True)
    # It is the same query as the whole answer, and costs nothing again.
    whole = client.post("/v1/chat/completions", json=ASKED, headers={"idempotency-key": "one"})
    assert whole.json()["choices"][0]["message"]["content"] == "yes"
    refused = ask_and_answer(served, client, {}, asked=asked, failing=1)
    assert (refused.status_code, refused.json()["error"]["code"]) == (502, "query_failed")


def test_a_response_is_the_same_query_in_another_form(served: Served, client: httpx.Client) -> None:
    asked = {"model": "auto", "input": "Is it?"}
    answer = ask_and_answer(served, client, {}, asked=asked, path="/v1/responses")
    assert answer.status_code == 200
    assert answer.json()["output"][0]["content"][0]["text"] == "yes"
    assert answer.headers["x-pointsman-tier"] == "small"
    refused = client.post("/v1/responses", json=asked | {"previous_response_id": "resp_1"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "previous_response_id")
    refused = client.post("/v1/responses", json=asked | {"max_output_tokens": 0})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "max_output_tokens")


def test_a_chat_may_name_an_alias(settings: Settings, shipped_fleet: Fleet) -> None:
    fleet = replace(shipped_fleet, aliases={"gpt-4o": "gpt-4.1", "*": "auto"})
    with serving(settings, fleet) as served, served.client() as client:
        names = [model["id"] for model in client.get("/v1/models").json()["data"]]
        assert "gpt-4o" in names
        assert "*" not in names
        assert client.get("/v1/models/anything").status_code == 200
        for name, pin in (("gpt-4o", "gpt-4.1"), ("anything", None)):
            body = {"model": name, "messages": ASKED["messages"]}
            asking = threading.Thread(target=client.post, args=("/v1/chat/completions",), kwargs={"json": body})
            asking.start()
            public_id = wait_until(lambda: waiting(served))

            async def pinned(bench: LedgerHarness) -> list[Any]:
                return await bench.rows("SELECT options ->> 'pin' AS pin FROM prompts ORDER BY query_id DESC LIMIT 1")

            assert served.play(pinned)[0].pin == pin
            served.answer(public_id)
            asking.join()


def test_a_chat_with_a_name_that_the_fleet_does_not_know_is_refused(served: Served, client: httpx.Client) -> None:
    refused = client.post("/v1/chat/completions", json={"model": "gpt-99", "messages": ASKED["messages"]})
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["param"] == "model"
    assert "under [aliases]" in error["message"]


def test_a_chat_that_no_tier_could_answer_is_not_tried_again(served: Served, client: httpx.Client) -> None:
    refused = ask_and_answer(served, client, {}, failing=1, status=400)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (400, "false")
    lost = ask_and_answer(served, client, {}, failing=1)
    assert (lost.status_code, lost.headers["x-should-retry"]) == (502, "false")


def test_a_chat_without_an_answer_in_time_is_cancelled_unless_it_can_be_found_again(
    served: Served, client: httpx.Client
) -> None:
    served.app.state.service.config = type(served.app.state.service.config)(chat_timeout_s=0.2)
    lost = client.post("/v1/chat/completions", json=ASKED)
    kept = client.post("/v1/chat/completions", json=ASKED, headers={"idempotency-key": "k"})
    assert (lost.status_code, lost.headers["x-should-retry"]) == (504, "false")
    assert (kept.status_code, kept.headers["x-should-retry"]) == (504, "true")

    async def states(bench: LedgerHarness) -> list[str]:
        return [row.state for row in await bench.rows("SELECT state FROM queries ORDER BY id")]

    assert served.play(states) == ["cancelled", "ready"]


def test_a_wrong_chat_is_reported_by_its_field(client: httpx.Client) -> None:
    for change, param in (
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"model": "gpt-none"}, "model"),
        ({"messages": []}, "messages"),
        ({"n": 3}, "n"),
        ({"temperature": 9}, "temperature"),
    ):
        answer = client.post("/v1/chat/completions", json=ASKED | change)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    words = client.post("/v1/chat/completions", json=ASKED | {"model": "gpt-none"}).json()["error"]["message"]
    assert words.startswith('The fleet has no tier or model of that name: "gpt-none". Use auto, ')
    large = {"messages": [{"role": "user", "content": "x" * 4_300_000}]}
    assert client.post("/v1/chat/completions", json=large).status_code == 413


def test_models_are_auto_the_tiers_and_the_fleets(served: Served, client: httpx.Client) -> None:
    names = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert names[0] == "auto"
    assert set(served.fleet.tiers) | set(served.fleet.models) <= set(names)
    assert client.get("/v1/models/small").json()["owned_by"] == "pointsman"
    assert client.get("/v1/models/none").json()["error"]["code"] == "model_not_found"


def test_a_line_is_explained_a_batch_reported_and_its_progress_streamed(served: Served, client: httpx.Client) -> None:
    batch = create(client, upload(client, [line("a/b c"), line("d")])["id"])["id"]
    until(client, batch, "in_progress")
    with client.stream("GET", f"/v1/pointsman/batches/{batch}/events") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: progress"
        assert json.loads(next(lines).removeprefix("data: "))["request_counts"]["total"] == 2
        served.answer(batch)
        rest = list(lines)
    assert "event: end" in rest
    assert json.loads([one for one in rest if one][-1].removeprefix("data: "))["status"] == "completed"
    path = f"/v1/pointsman/batches/{batch}"
    story = client.get(f"{path}/explain", params={"custom_id": "a/b c"}).json()
    assert [event["kind"] for event in story["events"] if event["event"] == "decision"]
    assert story["custom_id"] == "a/b c"
    report = client.get(f"{path}/report").json()
    assert (report["total"], report["completed"], report["by_tier"]) == (2, 2, {"small": 2})
    assert client.get(f"{path}/explain", params={"custom_id": "none"}).status_code == 404
    told = client.get("/metrics").text
    assert (
        'pointsman_http_requests_total{method="GET",route="/v1/pointsman/batches/{batch_id}/report",status="200"} 1.0'
        in told
    )


def test_depths_in_the_metrics_are_those_of_postgres(served: Served, client: httpx.Client) -> None:
    batch = create(client, upload(client, [line("a"), line("b")])["id"])["id"]
    until(client, batch, "in_progress")
    assert 'pointsman_stage_queries{stage="route",state="ready"} 2.0' in client.get("/metrics").text
