"""Files and batches over HTTP, from the upload to the files of results."""

import asyncio
import json
import threading
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from api.background import finalize_batch
from api.background.batch_lease import LEASE_S
from routing.lifecycle import ROUTE, MoveKind, State
from tests.integration.api.conftest import PATIENCE_S, Served, finish_one, line, wait_until
from tests.integration.ledger_fixtures import LedgerHarness, advance


def upload(client: httpx.Client, lines: list[Any] | bytes, **fields: str) -> dict[str, Any]:
    data = lines if isinstance(lines, bytes) else b"".join(json.dumps(one).encode() + b"\n" for one in lines)
    form = {"purpose": "batch"} | fields
    answer = client.post("/v1/files", data=form, files={"file": ("input.jsonl", data, "application/jsonl")})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def begin_validation(served: Served, file_id: str) -> None:
    """As if a process validated a batch of that file now."""
    asked = (
        "INSERT INTO api_batches (public_id, tenant, input_file_id, endpoint, completion_window, status, lease_until)"
        " VALUES ('batch_x', 'default', :f, '/v1/chat/completions', '24h', 'validating', now() + interval '1 h')"
    )
    served.play(lambda bench: bench.rows(asked, f=file_id))


def create(client: httpx.Client, file_id: str, **more: Any) -> dict[str, Any]:
    asked = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h"} | more
    answer = client.post("/v1/batches", json=asked)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def until(client: httpx.Client, batch_id: str, *statuses: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        batch = client.get(f"/v1/batches/{batch_id}").json()
        return batch if batch["status"] in statuses else None

    return dict(wait_until(look))


def content(client: httpx.Client, file_id: str) -> list[dict[str, Any]]:
    answer = client.get(f"/v1/files/{file_id}/content")
    assert answer.status_code == 200
    return [json.loads(one) for one in answer.text.splitlines()]


def test_a_file_comes_back_byte_for_byte(client: httpx.Client) -> None:
    data = bytes(range(256)) * 9000
    file = upload(client, data)
    assert (file["object"], file["bytes"], file["purpose"]) == ("file", len(data), "batch")
    assert (file["filename"], file["status"], file["expires_at"]) == ("input.jsonl", "processed", None)
    assert client.get(f"/v1/files/{file['id']}").json() == file
    assert client.get(f"/v1/files/{file['id']}/content").content == data


def test_an_empty_file_is_a_file(client: httpx.Client) -> None:
    file = upload(client, b"")
    assert file["bytes"] == 0
    assert client.get(f"/v1/files/{file['id']}/content").content == b""


def test_a_deleted_file_is_gone(client: httpx.Client, served: Served) -> None:
    file = upload(client, b"x" * 2_500_000)
    deleted = client.delete(f"/v1/files/{file['id']}")
    assert deleted.json() == {"id": file["id"], "object": "file", "deleted": True}
    assert client.get(f"/v1/files/{file['id']}").status_code == 404
    assert client.delete(f"/v1/files/{file['id']}").status_code == 404

    async def pieces(bench: LedgerHarness) -> int:
        return int((await bench.rows("SELECT count(*) FROM file_pieces"))[0][0])

    assert served.play(pieces) == 0


def test_files_are_listed_page_by_page_in_either_order(client: httpx.Client) -> None:
    ids = [upload(client, b"x")["id"] for _ in range(5)]
    for order, expected in (("asc", ids), ("desc", ids[::-1])):
        seen: list[str] = []
        after: dict[str, str] = {}
        while True:
            page = client.get("/v1/files", params={"limit": 2, "order": order, "purpose": "batch"} | after).json()
            seen += [file["id"] for file in page["data"]]
            assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
            if not page["has_more"]:
                break
            after = {"after": page["last_id"]}
        assert seen == expected
    assert client.get("/v1/files", params={"purpose": "batch_output"}).json()["data"] == []


def test_what_breaks_off_or_is_too_large_leaves_nothing(client: httpx.Client, served: Served) -> None:
    large = client.post("/v1/files", data={"purpose": "batch"}, files={"file": ("x", b"x" * 3_000_001)})
    assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")
    kind = {"content-type": "multipart/form-data; boundary=b"}
    cut = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + b"y" * 2_000_000
    for broken in (cut, b"nonsense", b""):
        answer = client.post("/v1/files", content=broken, headers=kind)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")

    async def left(bench: LedgerHarness) -> list[int]:
        return [(await bench.rows(f"SELECT count(*) FROM {table}"))[0][0] for table in ("files", "file_pieces")]

    assert served.play(left) == [0, 0]


WRONG_FORMS: list[tuple[dict[str, str], str]] = [
    ({}, "purpose"),
    ({"purpose": "fine-tune"}, "purpose"),
    ({"expires_after[anchor]": "now", "expires_after[seconds]": "3600"}, "expires_after[anchor]"),
    ({"expires_after[anchor]": "created_at"}, "expires_after[seconds]"),
    ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "60"}, "expires_after[seconds]"),
]


def test_a_wrong_form_is_reported_by_its_field(client: httpx.Client) -> None:
    for form, param in WRONG_FORMS:
        given = form if param == "purpose" else {"purpose": "batch"} | form
        answer = client.post("/v1/files", data=given, files={"file": ("x.jsonl", b"x")})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_a_batch_goes_from_validating_to_completed_with_both_files(client: httpx.Client, served: Served) -> None:
    file = upload(client, [line(f"q-{n}") for n in range(5)])
    made = create(
        client, file["id"], metadata={"team": "search"}, output_expires_after={"anchor": "created_at", "seconds": 7200}
    )
    assert (made["object"], made["status"], made["input_file_id"]) == ("batch", "validating", file["id"])
    assert made["expires_at"] == made["created_at"] + 86400
    going = until(client, made["id"], "in_progress")
    assert going["request_counts"] == {"total": 5, "completed": 0, "failed": 0}
    assert going["output_file_id"] is going["error_file_id"] is None
    assert going["in_progress_at"] >= going["created_at"]
    served.answer(made["id"], failing=2, status=400)
    done = until(client, made["id"], "completed")
    assert done["request_counts"] == {"total": 5, "completed": 3, "failed": 2}
    assert done["metadata"] == {"team": "search"}
    assert done["completed_at"] >= done["finalizing_at"] >= done["in_progress_at"]
    assert all(type(done[name]) is int for name in ("created_at", "expires_at", "completed_at", "finalizing_at"))
    assert done["usage"] == {
        "input_tokens": 30,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 15,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 45,
    }
    output = content(client, done["output_file_id"])
    assert sorted(one["custom_id"] for one in output) == ["q-2", "q-3", "q-4"]
    assert all(one["response"]["status_code"] == 200 and one["error"] is None for one in output)
    assert output[0]["response"]["body"]["object"] == "chat.completion"
    errors = content(client, done["error_file_id"])
    assert [one["custom_id"] for one in errors] == ["q-0", "q-1"]
    assert errors[0]["response"]["status_code"] == 400
    assert errors[0]["response"]["body"]["error"]["code"] == "query_failed"
    about = client.get(f"/v1/files/{done['output_file_id']}").json()
    assert about["bytes"] == len(client.get(f"/v1/files/{done['output_file_id']}/content").content)
    assert about["purpose"] == "batch_output"
    assert about["expires_at"] == about["created_at"] + 7200


def test_a_status_skips_the_router_and_is_the_same_as_through_the_routes(client: httpx.Client) -> None:
    batch = create(client, upload(client, [line("a")])["id"])["id"]
    until(client, batch, "in_progress")
    before = count_of_polls(client)
    polls = [client.get(f"/v1/batches/{batch}") for _ in range(2)]
    (listed,) = client.get("/v1/batches").json()["data"]
    assert [poll.json() for poll in polls] == [listed, listed]
    differing = ("x-request-id", "date", "server")
    assert [{k: v for k, v in poll.headers.items() if k not in differing} for poll in polls] == [
        {
            "content-type": "application/json",
            "content-length": str(len(polls[0].content)),
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
        }
    ] * 2
    assert polls[0].headers["x-request-id"] != polls[1].headers["x-request-id"]
    assert count_of_polls(client) == before + 2
    by_shortcut, by_router = (client.get(f"/v1/batches/{unknown}") for unknown in ("batch_none", "none"))
    assert (by_shortcut.status_code, by_router.status_code) == (404, 404)
    assert by_shortcut.text.replace("batch_none", "none") == by_router.text
    assert client.get(f"/v1/batches/{batch}/cancel").status_code == 405


def count_of_polls(client: httpx.Client) -> int:
    told = client.get("/metrics").text
    kind = 'pointsman_http_requests_total{method="GET",route="/v1/batches/{batch_id}",status="200"} '
    (count,) = [one.removeprefix(kind) for one in told.splitlines() if one.startswith(kind)]
    return int(float(count))


def test_a_batch_whose_lines_all_fail_is_completed_without_an_output_file(client: httpx.Client, served: Served) -> None:
    batch = create(client, upload(client, [line("a"), line("b")])["id"])
    until(client, batch["id"], "in_progress")
    served.answer(batch["id"], failing=2)
    done = until(client, batch["id"], "completed")
    assert (done["output_file_id"], done["errors"]) == (None, None)
    assert done["request_counts"] == {"total": 2, "completed": 0, "failed": 2}
    errors = content(client, done["error_file_id"])
    assert [(one["response"], one["error"]["code"]) for one in errors] == [(None, "query_failed")] * 2


def test_a_cancelled_batch_keeps_what_is_answered(client: httpx.Client, served: Served) -> None:
    batch = create(client, upload(client, [line(f"q-{n}") for n in range(3)])["id"])
    until(client, batch["id"], "in_progress")

    async def answer_one(bench: LedgerHarness) -> None:
        first, second, *_ = await bench.rows("SELECT id FROM queries ORDER BY id")
        await finish_one(bench, first.id, fails=False, status=None)
        claim = await bench.claim(ROUTE, second.id)
        await bench.ledger.transition(advance(second.id, claim.epoch, ROUTE, "small"))

    served.play(answer_one)
    asked = client.post(f"/v1/batches/{batch['id']}/cancel").json()
    assert asked["status"] == "cancelling"
    assert type(asked["cancelling_at"]) is int
    served.answer(batch["id"])
    done = until(client, batch["id"], "cancelled")
    assert done["cancelled_at"] >= done["cancelling_at"]
    assert len(content(client, done["output_file_id"])) == 1
    errors = content(client, done["error_file_id"])
    assert [one["error"]["code"] for one in errors] == ["batch_cancelled"] * 2
    assert [one["pointsman"]["tier"] for one in errors] == [None] * 2  # although one was routed
    again = client.post(f"/v1/batches/{batch['id']}/cancel")
    assert (again.status_code, again.headers["x-should-retry"]) == (409, "false")


def test_a_batch_that_expires_keeps_what_is_answered(client: httpx.Client, served: Served) -> None:
    batch = create(client, upload(client, [line("a"), line("b")])["id"], completion_window="1h")
    assert batch["expires_at"] == batch["created_at"] + 3600
    until(client, batch["id"], "in_progress")

    async def expire(bench: LedgerHarness) -> None:
        first = (await bench.rows("SELECT id FROM queries ORDER BY id LIMIT 1"))[0].id
        await finish_one(bench, first, fails=False, status=None)
        await bench.rows("UPDATE batches SET expires_at = now() - interval '1 s'")
        (closing,) = await bench.ledger.closing_batches()
        reason = "the completion window closed"
        await bench.ledger.close_queries(
            closing.id, move=MoveKind.EXPIRE, to_state=State.EXPIRED, actor="feeder", reason=reason
        )
        await bench.ledger.end_batches()

    served.play(expire)
    done = until(client, batch["id"], "expired")
    assert done["expired_at"] is not None
    assert done["request_counts"] == {"total": 2, "completed": 1, "failed": 1}
    assert len(content(client, done["output_file_id"])) == 1
    assert content(client, done["error_file_id"])[0]["error"]["code"] == "batch_expired"


def test_batches_are_listed_newest_first_whichever_way_they_came(client: httpx.Client, served: Served) -> None:
    ids = [create(client, upload(client, [line("a")])["id"])["id"] for _ in range(3)]

    async def submit(bench: LedgerHarness) -> str:
        await bench.submit(2)
        return str((await bench.rows("SELECT public_id FROM batches WHERE source = 'test'"))[0][0])

    ids.append(served.play(submit))
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = client.get("/v1/batches", params={"limit": 3} | after).json()
        seen += [one["id"] for one in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert seen == ids[::-1]
    served.answer(ids[-1])
    done = until(client, ids[-1], "completed")
    assert done["input_file_id"] == ""
    assert len(content(client, done["output_file_id"])) == 2


def test_a_resumed_batch_gets_its_files_anew(client: httpx.Client, served: Served) -> None:
    batch = create(client, upload(client, [line("a"), line("b")])["id"])
    until(client, batch["id"], "in_progress")
    served.answer(batch["id"], failing=1)
    before = until(client, batch["id"], "completed")

    async def resume(bench: LedgerHarness) -> None:
        (row,) = await bench.rows("SELECT id FROM batches")
        assert await bench.ledger.resume(row.id) == 1

    served.play(resume)
    served.answer(batch["id"])
    wait_until(lambda: client.get(f"/v1/batches/{batch['id']}").json()["request_counts"]["completed"] == 2)
    after = until(client, batch["id"], "completed")
    assert (after["output_file_id"], after["error_file_id"]) == (before["output_file_id"], None)
    assert len(content(client, after["output_file_id"])) == 2


def test_a_batch_that_is_resumed_while_its_files_are_measured_gets_those_of_its_last_end(
    client: httpx.Client, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = create(client, upload(client, [line("a"), line("b")])["id"])
    until(client, batch["id"], "in_progress")
    measured, resumed = finalize_batch._size, threading.Event()

    async def resume(bench: LedgerHarness) -> None:
        (row,) = await bench.rows("SELECT id FROM batches")
        assert await bench.ledger.resume(row.id) == 1

    def end_again() -> None:
        served.play(resume)
        served.answer(batch["id"])

    async def size(*about: Any) -> int:
        told = await measured(*about)
        if not resumed.is_set():
            await asyncio.to_thread(end_again)
            resumed.set()
        return told

    monkeypatch.setattr(finalize_batch, "_size", size)
    served.answer(batch["id"], failing=1)
    assert resumed.wait(PATIENCE_S)
    done = until(client, batch["id"], "completed")
    assert done["request_counts"] == {"total": 2, "completed": 2, "failed": 0}
    assert done["error_file_id"] is None
    assert len(content(client, done["output_file_id"])) == 2


def test_a_batch_that_postgres_left_in_its_finalization_is_finalized_half_a_minute_later(
    client: httpx.Client, served: Served
) -> None:
    batch = create(client, upload(client, [line("a")])["id"])
    until(client, batch["id"], "in_progress")

    async def lose_the_connection(bench: LedgerHarness) -> float:
        async with bench.owner() as owner, owner.connect() as connection:
            await connection.execute(text("BEGIN"))
            await connection.execute(text("LOCK TABLE files IN EXCLUSIVE MODE"))
            await asyncio.to_thread(served.answer, batch["id"])
            ended = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%INSERT INTO files%'"
            )
            while not await bench.rows_as_owner(ended):  # noqa: ASYNC110  # Postgres tells nobody
                await asyncio.sleep(0.02)
            await connection.execute(text("COMMIT"))
        left = "SELECT extract(epoch FROM lease_until - now()) AS left_s FROM api_batches"
        left_s = float((await bench.rows(left))[0].left_s)
        await bench.rows("UPDATE api_batches SET lease_until = now() RETURNING 1")
        return left_s

    assert 0 < served.play(lose_the_connection) <= LEASE_S
    done = until(client, batch["id"], "completed")
    assert len(content(client, done["output_file_id"])) == 1


def test_the_same_key_or_a_retry_is_the_same_batch(client: httpx.Client) -> None:
    file = upload(client, [line("a")])
    asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    first = client.post("/v1/batches", json=asked, headers={"idempotency-key": "k"}).json()
    again = client.post("/v1/batches", json=asked, headers={"idempotency-key": "k"}).json()
    assert again["id"] == first["id"]
    other = client.post("/v1/batches", json=asked | {"completion_window": "1h"}, headers={"idempotency-key": "k"})
    assert (other.status_code, other.headers["x-should-retry"]) == (409, "false")
    second = client.post("/v1/batches", json=asked, headers={"x-stainless-retry-count": "0"}).json()
    retried = client.post("/v1/batches", json=asked, headers={"x-stainless-retry-count": "1"}).json()
    assert second["id"] != first["id"]
    assert retried["id"] == second["id"]
    until(client, first["id"], "in_progress")
    until(client, second["id"], "in_progress")
    assert client.delete(f"/v1/files/{file['id']}").status_code == 200
    for headers, made in (({"idempotency-key": "k"}, first), ({"x-stainless-retry-count": "1"}, second)):
        assert client.post("/v1/batches", json=asked, headers=headers).json()["id"] == made["id"]
    assert client.post("/v1/batches", json=asked, headers={"idempotency-key": "new"}).status_code == 404


WRONG_REQUESTS: list[tuple[dict[str, Any], int, str]] = [
    ({"input_file_id": "file-none"}, 404, "input_file_id"),
    ({"input_file_id": "\0"}, 400, "input_file_id"),
    ({"input_file_id": 7}, 400, "input_file_id"),
    ({"endpoint": "/v1/completions"}, 400, "endpoint"),
    ({"completion_window": "soon"}, 400, "completion_window"),
    ({"completion_window": "31d"}, 400, "completion_window"),
    ({"metadata": {"k": "v" * 513}}, 400, "metadata.k"),
    ({"metadata": {str(n): "v" for n in range(17)}}, 400, "metadata"),
    ({"metadata": {"k": "\0"}}, 400, "metadata.k"),
    ({"output_expires_after": {"anchor": "created_at", "seconds": 5}}, 400, "output_expires_after.seconds"),
]


def test_a_wrong_request_is_reported_by_its_field(client: httpx.Client) -> None:
    for change, status, param in WRONG_REQUESTS:
        asked = {"input_file_id": "file-x", "endpoint": "/v1/chat/completions", "completion_window": "24h"} | change
        answer = client.post("/v1/batches", json=asked)
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_batch_of_responses_returns_response_objects(served: Served, client: httpx.Client) -> None:
    body = {"model": "auto", "input": "Is it?", "instructions": "Be brief.", "max_output_tokens": 9}
    asked = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}
    simple = {"query": "Is it?", "id": "b"}
    batch = create(client, upload(client, [asked, simple])["id"], endpoint="/v1/responses")
    until(client, batch["id"], "in_progress")
    served.answer(batch["id"])
    done = until(client, batch["id"], "completed")
    assert done["endpoint"] == "/v1/responses"
    lines = {one["custom_id"]: one for one in content(client, done["output_file_id"])}
    for one in lines.values():
        response = one["response"]["body"]
        assert (response["object"], response["status"]) == ("response", "completed")
        assert response["output"][0]["content"][0]["text"] == "yes"
        assert one["pointsman"]["tier"] == "small"
    assert lines["a"]["response"]["body"]["max_output_tokens"] == 9
    bytes_ = client.get(f"/v1/files/{done['output_file_id']}").json()["bytes"]
    assert bytes_ == len(client.get(f"/v1/files/{done['output_file_id']}/content").content)


def test_lines_of_another_endpoint_than_the_batch_are_refused(client: httpx.Client) -> None:
    body = {"model": "auto", "input": "Is it?", "previous_response_id": "resp_1"}
    chained = {"custom_id": "b", "method": "POST", "url": "/v1/responses", "body": body}
    batch = create(client, upload(client, [line("a"), chained])["id"], endpoint="/v1/responses")
    failed = until(client, batch["id"], "failed")
    assert [(error["line"], error["param"]) for error in failed["errors"]["data"]] == [
        (1, "url"),
        (2, "body.previous_response_id"),
    ]


def test_an_endpoint_that_no_provider_answers_is_refused_wherever_it_is_named(client: httpx.Client) -> None:
    endpoint = "/v1/completions"
    file = upload(client, [line("a") | {"url": endpoint}])["id"]
    asked = {"input_file_id": file, "completion_window": "24h"}
    refused = client.post("/v1/batches", json=asked | {"endpoint": endpoint})
    told = refused.json()["error"]
    assert (refused.status_code, told["param"], told["code"]) == (400, "endpoint", "unsupported_endpoint")
    assert "use /v1/chat/completions" in told["message"].lower()
    (error,) = until(client, create(client, file)["id"], "failed")["errors"]["data"]
    assert (error["line"], error["param"], error["code"]) == (1, "url", "invalid_url")
    assert "/v1/chat/completions" in error["message"]
    directly = client.post(endpoint, json={"model": "auto", "input": "Is it?"})
    assert (directly.status_code, directly.json()["error"]["code"]) == (404, "unsupported_endpoint")
    assert "/v1/chat/completions" in directly.json()["error"]["message"]


def test_what_is_not_json_or_not_there_is_reported_in_the_same_form(client: httpx.Client) -> None:
    kind = {"content-type": "application/json"}
    for broken in (b"{", b"[1]", b'{"metadata": {"\\ud800": "x"}}', b"\xff"):
        answer = client.post("/v1/batches", content=broken, headers=kind)
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"
    assert client.get("/v1/nothing").json()["error"]["message"] == "Invalid URL (GET /v1/nothing)"
    wrong = client.put("/v1/batches")
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (405, None)
    assert client.get("/v1/batches/batch_none").json()["error"]["message"] == "No such Batch object: batch_none"


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(("sent", "kept"), [(TRACEPARENT, TRACEPARENT), ("00-canary-01", None)])
def test_a_batch_keeps_the_trace_of_its_client_if_it_is_whole(
    sent: str, kept: str | None, client: httpx.Client, served: Served
) -> None:
    client.headers["traceparent"] = sent
    batch = create(client, upload(client, [line("a")])["id"])
    until(client, batch["id"], "in_progress")

    async def story(bench: LedgerHarness) -> list[Any]:
        return await bench.rows("SELECT traceparent FROM batches WHERE public_id = :h", h=batch["id"])

    assert [row.traceparent for row in served.play(story)] == [kept]
