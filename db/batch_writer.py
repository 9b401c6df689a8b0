"""A new batch into Postgres: prompts and queries by COPY, and all of it or nothing.

A connection is one process of Postgres, and a COPY keeps it busy: a large batch takes two, for its prompts and for its
queries, side by side. That is two transactions, and the one with the batch's own row commits last: nobody looks at a
query whose batch is not there. Should this process die between the two, `orphan_cleanup` removes the
queries (docs/decisions/0011-two-transactions-for-a-large-batch.md).
"""

import asyncio
import hashlib
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import Any, Final, NamedTuple, TypeVar, cast
from weakref import WeakKeyDictionary

import orjson
import psycopg
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import failpoints
from db.copy_stream import CopyStream, abandon, run_uncancelled
from db.engine import fetch, lock_names, to_dbapi_error, transaction
from db.ledger_encoding import to_json
from db.ledger_types import ID_BLOCK
from db.orphan_cleanup import BATCHES_UNDER_WAY
from db.pilots import start_pilot
from db.sql import statement
from db.stored_bytes import (
    ROW_BYTES,
    SHARED_ANSWER_BYTES,
    NoRoomForBatch,
    expected_bytes,
    reserve_bytes,
    stored_bytes,
)
from endpoints.endpoint import Endpoint
from routing.fleet import BudgetPolicy, Fleet, is_pin
from routing.lifecycle import ROUTE, State
from routing.pilot import PilotSpec
from routing.price_list import PriceList

MAX_USD: Final = 1e8
"""The largest cap: the ledger's amounts have nine digits before the point, and what is settled is a sum."""

Prompt = tuple[int, str, bytes, bytes | None]
"""One query: line number, custom id, body and options, the latter two as JSON without raw control characters."""

AnyPrompt = TypeVar("AnyPrompt", bound=Prompt)


class RequestKey(NamedTuple):
    """A hash of a query's request. Of queries with the same key, one is sent, and the others follow it."""

    key: bytes
    reuse_s: float = 0.0
    """Maximum age, in seconds, of an answer from the tenant's earlier batches that may be reused. 0: none is reused."""


MAX_CONCURRENT_WRITERS: Final = 4
MAX_CONCURRENT_LARGE_WRITERS: Final = 2
"""Writers of one process at a time, and those of large batches. Each holds a connection, a large one two, and needs
another one for its ids: were the whole pool (eight, see `make_engine`) taken, all would wait for each other."""

TWO_CONNECTION_THRESHOLD: Final = 5_000
"""Minimum queries of a batch for which a second connection and a second commit pay."""

_PROMPTS: Final = "COPY prompts (query_id, batch_id, custom_id, line, body, options) FROM STDIN (NULL '')"
_QUERIES: Final = "COPY queries (id, batch_id, stage, state) FROM STDIN"
_WAITING_QUERIES: Final = "COPY queries (id, batch_id, stage, state, due_at) FROM STDIN"
"""The due time of queries in a batch with a pilot, until they are sampled or the pilot is decided."""

_NEVER: Final = b"9000-01-01"
"""When followers are due, and pinned queries of a batch that ends with its pilot: these are neither sampled nor
answered."""

_FOLLOWERS: Final = "COPY followers (query_id, batch_id, leader_id) FROM STDIN"
_COPY_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_REQUEST_KEYS: Final = "COPY request_keys (query_id, batch_id, tenant, key) FROM STDIN"


class _WriterSlots:
    """Who waits for what, of one engine."""

    def __init__(self) -> None:
        self.any = asyncio.Semaphore(MAX_CONCURRENT_WRITERS)
        self.large = asyncio.Semaphore(MAX_CONCURRENT_LARGE_WRITERS)


_turns: WeakKeyDictionary[AsyncEngine, _WriterSlots] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """The options of a batch as a whole. ``cap_usd`` None takes the fleet's default."""

    source: str
    tenant: str = "default"
    key_id: str | None = None
    """The API key that submits it, by the part that may be shown; None without one."""
    idempotency_key: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    priority: int = 0
    cap_usd: float | None = None
    budget_policy: BudgetPolicy | None = None
    """What happens to queries that the budget does not cover. None uses the fleet's policy."""
    public_id: str | None = None
    """The public id, if it was given out before the batch existed."""
    expires_at: datetime | None = None
    """When the batch's open queries expire."""
    deadline: datetime | None = None
    """When the answers are due. Until then, cheaper lanes may be used. None: every call is made in
    the standard lane."""
    traceparent: str | None = None
    """The sender's valid W3C trace context."""
    pilot: PilotSpec | None = None
    """A quality floor to certify on a sample before the rest is routed; None routes everything at once."""
    dedup: bool = False
    """Whether lines with the same request share one answer at any temperature."""
    most_stored_bytes: int | None = None
    """Maximum bytes that the tenant may store, this batch included. None: no limit."""

    def cap_at(self, fleet: Fleet) -> float | None:
        """Return the budget of the batch in USD: its own, else the fleet's default. None: it has none."""
        return fleet.budgets.batch_usd if self.cap_usd is None else self.cap_usd


def hash_prompts(content: "hashlib._Hash", prompts: Sequence[Prompt]) -> None:
    """Adds ``prompts`` to the hash of a batch's content, whatever the sizes of the writes."""
    content.update(
        b"".join(
            b"%b\0%b\0%b\n" % (custom_id.encode(), body, options or b"") for _, custom_id, body, options in prompts
        )
    )


class BatchWriter:
    """A batch that is being written: `write` prompts to it. ``second`` gives a connection for a large one's queries."""

    def __init__(
        self,
        connection: AsyncConnection,
        second: Callable[[], Awaitable[AsyncConnection]],
        ids: "_Ids",
        *,
        batch_id: int,
        tenant: str = "default",
        public_id: str | None = None,
        pilot: PilotSpec | None = None,
        room: float = math.inf,
        find_reusable: "Callable[[Sequence[RequestKey]], Awaitable[Mapping[bytes, int]]]",
    ) -> None:
        self._connection = connection
        self._find_reusable = find_reusable
        self._batch_id = batch_id
        self._tenant = tenant
        self._room = room
        self._second = second
        self._ids = ids
        self._row = b"%%d\t%d\t%%b\t%%d\t%%b\t%%b\n" % batch_id
        self._copy = _QUERIES if pilot is None else _WAITING_QUERIES
        self._pinned_due = None if pilot is None else _NEVER if pilot.stops else b"now"
        """Pinned queries are not part of a pilot, and do not wait for it. None: there is no pilot."""
        due_at = "" if pilot is None else "\tinfinity"
        self._between = f"\t{batch_id}\t{ROUTE}\t{State.READY}{due_at}\n".encode()
        self._prompts: CopyStream | None = None
        self._queries: CopyStream | None = None
        self._shared: CopyStream | None = None
        self._few: list[bytes] = []
        """The batch's queries, as long as they are few enough to wait for their prompts."""
        self.public_id = public_id or f"batch_{secrets.token_hex(12)}"
        """The public id, which cannot be guessed."""
        self.ranges: list[tuple[int, int]] = []
        """The ids that the batch used, as inclusive ranges."""
        self.total = 0
        self.prompt_bytes = 0
        """Bytes of the batch's prompts, including their rows."""
        self.answer_bytes = 0
        """Expected bytes of answers that cost next to nothing."""
        self.endpoint = Endpoint.CHAT
        """The endpoint that its lines are for."""
        self._content = hashlib.sha256()
        self._leaders: dict[bytes, int] = {}
        """By request key: the query that is sent."""
        self._followers: list[tuple[int, int]] = []
        """Followers with their leaders."""
        self._reusable: list[tuple[int, bytes]] = []
        """Queries whose answers later batches may take, with their keys."""
        self.plan: Mapping[str, Any] | None = None
        """The prediction for the batch, which is compared with the outcome."""

    @property
    def content_sha256(self) -> bytes:
        """The hash of all prompts so far. The same lines in the same order have the same hash."""
        return self._content.digest()

    async def write(
        self, prompts: Sequence[AnyPrompt], keys: Sequence[RequestKey | None] | None = None
    ) -> Sequence[AnyPrompt]:
        """Adds ``prompts`` in their order; those with the ``keys`` of earlier ones follow them.

        Returns those that are asked. Raises what Postgres had against these or earlier ones, and NoRoomForBatch.
        """
        ids = tuple(await self._ids.take(len(prompts)))
        for id_range in ids:
            if self.ranges and self.ranges[-1][1] == id_range.start - 1:
                self.ranges[-1] = (self.ranges[-1][0], id_range.stop - 1)
            else:
                self.ranges.append((id_range.start, id_range.stop - 1))
        row = self._row
        rows = [
            row % (query_id, custom_id.encode(), line, body, options or b"")
            for query_id, (line, custom_id, body, options) in zip(chain.from_iterable(ids), prompts, strict=True)
        ]
        if not self.total:
            self.endpoint = endpoint_of(prompts[0][3])
        self.total += len(rows)
        written = b"".join(rows)
        self.prompt_bytes += len(written) + ROW_BYTES * len(rows)
        if self.endpoint is Endpoint.EMBEDDINGS:
            self.answer_bytes += expected_bytes(body for _, _, body, _ in prompts)
        hash_prompts(self._content, prompts)
        if self.prompt_bytes + self.answer_bytes > self._room:
            raise NoRoomForBatch(int(self._room))
        if self._prompts is None:
            self._prompts = CopyStream(await _driver(self._connection), _PROMPTS)
        asked = prompts
        if keys is not None and (followers := await self._follow(list(chain.from_iterable(ids)), keys)):
            rest = [pair for pair in zip(chain.from_iterable(ids), prompts, strict=True) if pair[0] not in followers]
            ids = tuple(range(query_id, query_id + 1) for query_id, _ in rest)
            asked = [prompt for _, prompt in rest]
            if self.endpoint is not Endpoint.EMBEDDINGS:
                self.answer_bytes += SHARED_ANSWER_BYTES * len(followers)
        await self._put_queries(self._query_rows(ids, asked))
        await self._prompts.write(written.replace(b"\\", b"\\\\"))
        return asked

    def _query_rows(self, ids: Sequence[range], prompts: Sequence[Prompt]) -> bytes:
        between = self._between
        if self._pinned_due is None:
            return b"".join(between.join([b"%d" % id_ for id_ in id_range]) + between for id_range in ids)
        pinned = between.replace(b"infinity", self._pinned_due)
        return b"".join(
            b"%d" % query_id + (pinned if _is_pinned(options) else between)
            for query_id, (_, _, _, options) in zip(chain.from_iterable(ids), prompts, strict=True)
        )

    async def _follow(self, ids: Sequence[int], keys: Sequence[RequestKey | None]) -> set[int]:
        """Notes who leads and who follows; returns the followers."""
        leaders = self._leaders
        new = {key.key: key for key in keys if key is not None and key.reuse_s and key.key not in leaders}
        if new:
            leaders.update(await self._find_reusable(list(new.values())))
        followers = set()
        for query_id, key in zip(ids, keys, strict=True):
            if key is None:
                continue
            leader_id = leaders.setdefault(key.key, query_id)
            if leader_id != query_id:
                self._followers.append((query_id, leader_id))
                followers.add(query_id)
            elif key.reuse_s:
                self._reusable.append((query_id, key.key))
        return followers

    async def _put_queries(self, rows: bytes) -> None:
        if self._queries is None:
            self._few.append(rows)
            if self.total < TWO_CONNECTION_THRESHOLD:
                return
            self._queries = CopyStream(await _driver(await self._second()), self._copy)
            rows = b"".join(self._few)
        await self._queries.write(rows)

    async def finish(self) -> None:
        """Wait until everything is written. Raises Postgres' error for any of it."""
        if self._prompts is None:
            return
        await self._prompts.finish()
        if self._queries is None:
            self._queries = CopyStream(await _driver(self._connection), self._copy)
            await self._queries.write(b"".join(self._few))
        await self._queries.finish()
        if self._followers or self._reusable:
            await self._finish_shared()

    async def _finish_shared(self) -> None:
        """On the first connection, which commits last: no follower is visible before its batch."""
        batch_id, tenant = self._batch_id, self._tenant.translate(_COPY_ESCAPES).encode()
        row = f"%d\t{batch_id}\t{ROUTE}\t{State.READY}\t".encode() + _NEVER + b"\n"
        for copy, rows in (
            (_WAITING_QUERIES, [row % query_id for query_id, _ in self._followers]),
            (_FOLLOWERS, [b"%d\t%d\t%d\n" % (query_id, batch_id, leader) for query_id, leader in self._followers]),
            (
                _REQUEST_KEYS,
                [
                    b"%d\t%d\t%b\t\\\\x%b\n" % (query_id, batch_id, tenant, key.hex().encode())
                    for query_id, key in self._reusable
                ],
            ),
        ):
            if rows:
                self._shared = CopyStream(await _driver(self._connection), copy)
                await self._shared.write(b"".join(rows))
                await self._shared.finish()

    async def abandon(self) -> None:
        """Its connections are free again, for a rollback: also where this is cancelled, which then comes after it."""
        await abandon([stream for stream in (self._prompts, self._queries, self._shared) if stream is not None])


def _is_pinned(options: bytes | None) -> bool:
    return bool(options and b'"pin"' in options and is_pin(orjson.loads(options).get("pin")))


def endpoint_of(options: bytes | None) -> Endpoint:
    """Return the endpoint of a line. All lines of a batch have the same."""
    return Endpoint(orjson.loads(options).get("endpoint", Endpoint.CHAT)) if options else Endpoint.CHAT


@asynccontextmanager
async def open_batch_writer(
    engine: AsyncEngine, order: BatchSpec, fleet: Fleet
) -> AsyncIterator["BatchWriter | Row[Any]"]:
    """A `BatchWriter` to write to; or, where the order's idempotency key was used before, that batch's row.

    The batch exists once the block ends without an exception and with at least one prompt. Raises DBAPIError, and
    NoRoomForBatch where the order has a quota.
    A cancellation during the commit takes effect at the next await, when the caller knows that the batch exists.
    """
    turns = _turns.setdefault(engine, _WriterSlots())
    # Left in the opposite order: the queries' transaction is entered last, so it commits first.
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(turns.any)
        connection = await stack.enter_async_context(transaction(engine))
        if (before := await _find_existing_batch(connection, engine, order)) is not None:
            yield before
            return
        most = order.most_stored_bytes
        room = math.inf if most is None else max(most - await stored_bytes(engine, order.tenant), 0)
        batch_id = int(
            (await connection.execute(statement("allocate_batch_id"), {"kind": BATCHES_UNDER_WAY})).scalar_one()
        )
        stack.callback(failpoints.die_at, "die_between_commits")

        async def second() -> AsyncConnection:
            await stack.enter_async_context(turns.large)
            return await stack.enter_async_context(transaction(engine))

        async def find_reusable(keys: Sequence[RequestKey]) -> dict[bytes, int]:
            rows = await fetch(
                engine,
                statement("find_reusable"),
                tenant=order.tenant,
                simulated=fleet.simulated,
                keys=[key.key for key in keys],
                within_s=[key.reuse_s for key in keys],
            )
            return {bytes(row.key): int(row.query_id) for row in rows}

        opened = BatchWriter(
            connection,
            second,
            _Ids(engine),
            batch_id=batch_id,
            tenant=order.tenant,
            public_id=order.public_id,
            pilot=order.pilot,
            room=room,
            find_reusable=find_reusable,
        )
        try:
            yield opened
            await opened.finish()
        except BaseException as error:
            await opened.abandon()
            if isinstance(error, psycopg.Error):
                raise to_dbapi_error(error) from error
            raise
        await _close(connection, opened, order, fleet, batch_id=batch_id)
        # A stop between two commits would leave queries; a stop in the last one, a batch that no caller knows of.
        await run_uncancelled(stack.aclose())


async def _driver(connection: AsyncConnection) -> psycopg.AsyncConnection[Any]:
    driver = (await connection.get_raw_connection()).driver_connection
    if driver is None:
        raise RuntimeError("the connection was closed")
    return cast(psycopg.AsyncConnection[Any], driver)


class _Ids:
    """Return query ids from reserved blocks, over a separate connection, because COPY occupies the other one."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._blocks: list[int] = []
        self._ask = 1
        self._next = 0
        self._end = 0

    async def take(self, count: int) -> list[range]:
        taken: list[range] = []
        while count:
            if self._next == self._end:
                await self._take_block()
            id_range = range(self._next, min(self._next + count, self._end))
            self._next = id_range.stop
            count -= len(id_range)
            taken.append(id_range)
        return taken

    async def _take_block(self) -> None:
        if not self._blocks:
            blocks = text("SELECT nextval('query_blocks') AS block FROM generate_series(1, :n)")
            rows = await fetch(self._engine, blocks, n=self._ask)
            self._blocks = sorted((int(row.block) for row in rows), reverse=True)
            self._ask = min(self._ask * 4, 256)
        self._next = self._blocks.pop() * ID_BLOCK
        self._end = self._next + ID_BLOCK


async def _find_existing_batch(connection: AsyncConnection, engine: AsyncEngine, order: BatchSpec) -> Row[Any] | None:
    """Return the batch of the same key. The lock makes a second submitter wait for the first."""
    if order.idempotency_key is None or failpoints.is_set("without_submit_once"):
        return None
    key = {"tenant": order.tenant, "key": order.idempotency_key}
    await lock_names(connection, "batch", order.tenant, order.idempotency_key)
    # On a connection of its own: in the batch's transaction it would hold a lock of the table for as long as the
    # lines come, as of `prompts` and `queries`, and a migration would wait for that too.
    rows = await fetch(
        engine,
        "SELECT id, public_id, total, content_sha256 FROM batches WHERE tenant = :tenant AND idempotency_key = :key",
        **key,
    )
    return rows[0] if rows else None


async def _close(
    connection: AsyncConnection, opened: BatchWriter, order: BatchSpec, fleet: Fleet, *, batch_id: int
) -> None:
    metadata, plan = to_json(order.metadata), None if opened.plan is None else orjson.dumps(opened.plan)
    opened.prompt_bytes += 2 * len(metadata.encode()) + len(plan or b"")  # the former is in api_batches too
    if order.most_stored_bytes is not None:
        await reserve_bytes(
            connection, order.tenant, opened.prompt_bytes + opened.answer_bytes, most=order.most_stored_bytes
        )
    prices = PriceList.of(fleet)
    await connection.execute(
        statement("insert_batch"),
        {
            "id": batch_id,
            "public_id": opened.public_id,
            "tenant": order.tenant,
            "key_id": order.key_id,
            "key": order.idempotency_key,
            "source": order.source,
            "endpoint": opened.endpoint.value,
            "metadata": metadata,
            "total": opened.total,
            "content": opened.content_sha256,
            "prompt_bytes": opened.prompt_bytes,
            "answer_bytes": opened.answer_bytes,
            "first_id": min(first for first, _ in opened.ranges),
            "last_id": max(last for _, last in opened.ranges),
            "priority": order.priority,
            "fleet": fleet.name,
            "digest": fleet.digest,
            "price_list": prices.digest,
            "prices": prices.encoded().decode(),
            "simulated": fleet.simulated,
            "cap_usd": order.cap_at(fleet),
            "day_cap_usd": fleet.budgets.tenant_day_usd,
            "policy": (order.budget_policy or fleet.budgets.policy).value,
            "plan": None if plan is None else plan.decode(),
            "expires_at": order.expires_at,
            "deadline": order.deadline,
            "traceparent": order.traceparent,
        },
    )
    if order.pilot is not None:
        await start_pilot(connection, batch_id, order.pilot)
