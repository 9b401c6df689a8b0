"""How much the prompts and answers of a tenant's batches take, known without a look at any of them.

A batch counts from its submission: its prompts with their length, and what its answers are expected to take where they
cost next to nothing. Once it has ended, the feeder measures its answers and adds it to the sum of its tenant; a purge
takes it off.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.engine import fetch, lock_names
from db.sql import statement
from endpoints.embeddings_request import most_answer_bytes
from routing.embedding_input import inputs_of

ROW_BYTES: Final = 4096
"""Bytes of one query's rows without its texts: its state, calls and decisions, with their indexes."""

SHARED_ANSWER_BYTES: Final = 16 * 1024
"""Expected bytes of a follower's answer, which is a copy and costs nothing."""

FAILED_BYTES: Final = 128 * 1024
"""Bytes of a batch that failed its validation: a hundred errors, metadata, messages to webhooks."""

_QUERIES_AT_ONCE: Final = 20_000


class NoRoomForBatch(Exception):
    """The tenant's quota of stored bytes has no room for the batch: it needs more than the bytes ``left`` of it."""

    def __init__(self, left: int) -> None:
        super().__init__(f"the tenant's quota has {left} bytes left")
        self.left = left


async def stored_bytes(engine: AsyncEngine, tenant: str) -> int:
    """Of all batches of the tenant. Raises DBAPIError."""
    (row,) = await fetch(engine, statement("stored_bytes"), **_asked(tenant))
    return int(row.bytes)


async def reserve_bytes(connection: AsyncConnection, tenant: str, wanted: int, *, most: int) -> None:
    """Other batches of the tenant wait for the commit. Raises NoRoomForBatch where ``wanted`` more pass ``most``."""
    await lock_names(connection, "stored bytes", tenant)
    stored = int((await connection.execute(statement("stored_bytes"), _asked(tenant))).scalar_one())
    if stored + wanted > most:
        raise NoRoomForBatch(max(most - stored, 0))


async def measure_batches(engine: AsyncEngine) -> None:
    """Measures what is not measured yet, some batches at a time. Raises DBAPIError."""
    after: int | None = 0
    while after is not None:
        (row,) = await fetch(engine, statement("measure_batches"), after=after, queries=_QUERIES_AT_ONCE)
        after = row.last_id


async def pause_beyond(engine: AsyncEngine, most: int) -> Sequence[Row[Any]]:
    """Pauses batches of keys of tenants that store more than ``most`` bytes: ``public_id``, ``tenant``.

    Raises DBAPIError.
    """
    return await fetch(engine, statement("pause_beyond"), most=most)


def expected_bytes(bodies: Iterable[bytes]) -> int:
    """What the answers to embeddings requests take at most: vectors of a word are thousands of times its length."""
    requests = map(orjson.loads, bodies)
    return sum(most_answer_bytes(body, len(inputs_of(body["input"]))) for body in requests)


def _asked(tenant: str) -> dict[str, object]:
    return {"tenant": tenant, "failed_bytes": FAILED_BYTES}
