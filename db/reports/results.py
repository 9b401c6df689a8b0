"""The answers of a batch as lines of an OpenAI Batch output file, each with a ``pointsman`` object."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import transaction
from db.reports import report, run_report
from endpoints.endpoint import Endpoint
from endpoints.translation import answer_object
from routing.lifecycle import State

ROWS_AT_ONCE: Final = 500
PAGE_BYTES: Final = 1024**2
"""Maximum bytes of answers in a page. Five hundred answers may be gigabytes, and each slow reader of a file holds a
page."""

ERROR_CODES: Final = {
    "failed": "query_failed",
    "dead": "worker_lost",
    "expired": "batch_expired",
    "cancelled": "batch_cancelled",
}
"""The ``error.code`` for a query's state. Expired and cancelled have OpenAI's own codes."""


async def result_lines(engine: AsyncEngine, batch_id: int) -> AsyncIterator[bytes]:
    """One line (with its ``\\n``) per finished query, in the order of the input, from a server-side cursor.

    Also while the batch runs: then of the queries that were finished when the first line was asked for.
    """
    async with transaction(engine) as connection:  # which a cursor lives in
        stream = await connection.stream(
            report("results"),
            {"batch_id": batch_id, "states": None, "after": None, "rows": None, "bytes": None},
            execution_options={"yield_per": ROWS_AT_ONCE},
        )
        async for row in stream:
            yield result_line(row)


async def result_rows(engine: AsyncEngine, batch_id: int) -> AsyncIterator[Row[Any]]:
    """The rows of ``result_table.sql``, open queries included, in the order of the input, from a server-side cursor."""
    async with transaction(engine) as connection:
        stream = await connection.stream(
            report("result_table"), {"batch_id": batch_id}, execution_options={"yield_per": ROWS_AT_ONCE}
        )
        async for row in stream:
            yield row


async def result_file(engine: AsyncEngine, batch_id: int, *, states: Sequence[State]) -> AsyncIterator[bytes]:
    """The lines of one file of the Batch API, some hundreds at a time: the queries that ended in ``states``.

    Page by page, so that a reader may be slow without holding a connection. A query that a provider
    refused has the refusal as its response, as the Batch API has it.
    """
    async for rows in _pages(engine, batch_id, [state.value for state in states]):
        yield b"".join(result_line(row, with_refusals=True) for row in rows)


async def message_results(engine: AsyncEngine, batch_id: int) -> AsyncIterator[bytes]:
    """The results of a message batch, as Anthropic has them: a line for each finished query."""
    async for rows in _pages(engine, batch_id, None):
        yield b"".join(_message_result(row) for row in rows)


async def _pages(engine: AsyncEngine, batch_id: int, states: Sequence[str] | None) -> AsyncIterator[Sequence[Row[Any]]]:
    after: int | None = None
    while rows := await run_report(
        engine, "results", batch_id=batch_id, states=states, after=after, rows=ROWS_AT_ONCE, bytes=PAGE_BYTES
    ):
        yield rows
        after = rows[-1].id


def is_refused(row: Row[Any]) -> bool:
    """Whether a provider refused what a query of ``results.sql`` asks, and neither the account nor its rate."""
    return 400 <= (row.failed_status or 0) < 500 and row.failed_status not in (401, 403, 429)


def _message_result(row: Row[Any]) -> bytes:
    head = orjson.dumps({"custom_id": row.custom_id})[:-1] + b',"result":'
    if row.response is not None:
        return b"".join((head, b'{"type":"succeeded","message":', answer_body(row), b"}}\n"))
    result: dict[str, Any] = {"type": {"cancelled": "canceled", "expired": "expired"}.get(row.state, "errored")}
    if result["type"] == "errored":
        kind = "invalid_request_error" if is_refused(row) else "api_error"
        error = {"type": kind, "message": row.last_reason or "no reason recorded"}
        result["error"] = {"type": "error", "error": error}
    return head + orjson.dumps(result) + b"}\n"


def result_line(row: Row[Any], *, with_refusals: bool = False) -> bytes:
    """The output line of a row of ``results.sql``."""
    head = orjson.dumps({"id": f"batch_req_{row.id}", "custom_id": row.custom_id})[:-1]
    details = {
        "state": row.state,
        "tier": row.answer_tier,
        "model": row.model,
        "provider": row.provider,
        "escalations": row.escalations,
        "confidence": row.confidence,
        "accepted": row.accepted,
        "cost_usd": round(float(row.cost_usd or 0), 9),
        "reasons": row.reasons or [],
    }
    if row.cut_off:
        details["cut_off"] = True
    if row.answered_by is not None:
        details["answered_by"] = row.answered_by
    if row.service_tier is not None:
        details["service_tier"] = row.service_tier
    if row.failed_cause is not None:
        details["cause"] = row.failed_cause
    if row.failed_param is not None:
        details["param"] = row.failed_param
    error = response = None
    if row.response is not None:
        response = _response(row)
    else:
        code = ERROR_CODES.get(row.state, "purged")
        error = {"code": code, "message": row.last_reason or "no reason recorded"}
        if row.failed_param is not None:
            error["param"] = row.failed_param
        if with_refusals and (row.failed_status or 0) >= 400:
            response, error = _refusal(row, error), None
    tail = orjson.dumps({"error": error, "pointsman": details})[1:]
    return b"".join((head, b',"response":', response or b"null", b",", tail, b"\n"))


def _response(row: Row[Any]) -> bytes:
    about = orjson.dumps({"status_code": row.status or 200, "request_id": row.request_id or f"req_{row.id}"})[:-1]
    return about + b',"body":' + answer_body(row) + b"}"


def answer_body(row: Row[Any]) -> bytes:
    """The answer of a row of ``results.sql`` as JSON, in the form of its batch's endpoint."""
    stored: str = row.response
    if row.endpoint in (Endpoint.CHAT, Endpoint.EMBEDDINGS):
        return stored.encode()  # as it is stored: it need not be parsed to be passed on
    asked = orjson.loads(row.asked) if row.asked else {}
    return orjson.dumps(answer_object(Endpoint(row.endpoint), orjson.loads(stored), asked, name=str(row.id)))


def _refusal(row: Row[Any], error: Mapping[str, str]) -> bytes:
    kind = "server_error" if row.failed_status >= 500 else "invalid_request_error"
    return orjson.dumps(
        {
            "status_code": row.failed_status,
            "request_id": row.failed_request_id or f"req_{row.id}",
            "body": {
                "error": {"message": error["message"], "type": kind, "param": row.failed_param, "code": error["code"]}
            },
        }
    )
