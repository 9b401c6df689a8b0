"""The answers of a batch as lines of an OpenAI Batch output file, each with a ``pointsman`` object."""

from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.reports import report

ROWS_AT_ONCE: Final = 500

ERROR_CODES: Final = {
    "failed": "query_failed",
    "dead": "worker_lost",
    "expired": "batch_expired",
    "cancelled": "batch_cancelled",
}
"""The ``error.code`` of a query's state; expired and cancelled have OpenAI's own codes."""


async def result_lines(engine: AsyncEngine, batch_id: int) -> AsyncIterator[bytes]:
    """One line (with its ``\\n``) per finished query, in the order of the input, from a server-side cursor.

    Also while the batch runs: then of the queries that were finished when the first line was asked for.
    """
    async with engine.connect() as connection:
        # A cursor lives in a transaction, and the engine's connections are in autocommit.
        await connection.execution_options(isolation_level="READ COMMITTED")
        async with connection.begin():
            stream = await connection.stream(
                report("results"), {"batch_id": batch_id}, execution_options={"yield_per": ROWS_AT_ONCE}
            )
            async for row in stream:
                yield result_line(row)


def result_line(row: Row[Any]) -> bytes:
    """The output line of a row of ``results.sql``."""
    head = orjson.dumps({"id": f"batch_req_{row.id}", "custom_id": row.custom_id})[:-1]
    answered = row.response is not None
    told = {
        "state": row.state,
        "tier": row.answer_tier or row.tier,
        "model": row.model,
        "provider": row.provider,
        "escalations": row.escalations,
        "confidence": row.confidence,
        "accepted": row.accepted,
        "cost_usd": round(float(row.cost_usd or 0), 9),
        "reasons": row.reasons or [],
    }
    error = None
    if not answered:
        code = ERROR_CODES.get(row.state, "purged")
        error = {"code": code, "message": row.last_reason or "no reason recorded"}
    tail = orjson.dumps({"error": error, "pointsman": told})[1:]
    return b"".join((head, b',"response":', _response(row) if answered else b"null", b",", tail, b"\n"))


def _response(row: Row[Any]) -> bytes:
    about = orjson.dumps({"status_code": row.status or 200, "request_id": row.request_id or f"req_{row.id}"})[:-1]
    body: str = row.response  # JSON as it is stored: it need not be parsed to be passed on
    return about + b',"body":' + body.encode() + b"}"
