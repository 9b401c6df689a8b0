"""Batches as the Batch API shows them: from the request to the files of their results.

A batch that came over HTTP has a row in ``api_batches`` from the beginning, and one of the same public_id in
``batches`` once it is accepted. One that came otherwise gets its row here when somebody asks for it over HTTP.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, Final

import orjson
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.api_batch_types import ApiBatch, ApiBatchRequest, ApiBatchResults, ApiBatchTask, Counts, CreatedApiBatch
from db.engine import lock_names, transaction
from db.group_commit import GroupCommit
from db.rows import from_row
from db.sql import Statements, statement
from routing.fleet import BudgetPolicy
from routing.pilot import GraderChoice, PilotSpec

CHAT_SOURCE: Final = "/v1/chat/completions"
"""The source of a batch that is one chat completion; lists of batches leave it out."""

_AS_JSON: Final = ("metadata", "pilot", "row_mapping")

RETRY_WINDOW_S: Final = 1800.0
"""Maximum seconds between a request and its retry, if the retry has no idempotency key."""


class TooManyOpenBatches(Exception):
    """The tenant has as many open batches as it may."""


class ApiBatches(Statements):
    """The rows of ``api_batches``."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self._finds: defaultdict[str, GroupCommit[tuple[str, str], tuple[str, str], ApiBatch]] = defaultdict(
            partial(GroupCommit, self.find_many, key=lambda wanted: wanted)
        )
        """By tenant, because the queries of open batches are counted, and one tenant may have millions."""

    # -- asking ----------------------------------------------------------------------------

    async def find(self, public_id: str, *, tenant: str) -> ApiBatch | None:
        """The tenant's batch. Concurrent look-ups for one tenant share a statement."""
        return await self._finds[tenant]((tenant, public_id))

    async def find_many(self, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], ApiBatch]:
        """The batches of those (tenant, public id) pairs that exist."""
        rows = await self._fetch(
            "api_batches_find",
            tenants=[tenant for tenant, _ in wanted],
            public_ids=[public_id for _, public_id in wanted],
        )
        return {(row.tenant, row.public_id): _batch(row) for row in rows}

    async def page(
        self, *, tenant: str, after: ApiBatch | None, rows: int, endpoint: str | None = None
    ) -> list[ApiBatch]:
        """Return at most ``rows`` of the tenant's batches for ``endpoint``, the newest first, that follow the given
        one."""
        found = await self._fetch(
            "api_batches_page",
            tenant=tenant,
            after_at=after.created_at if after else None,
            after_public_id=after.public_id if after else None,
            rows=rows,
            endpoint=endpoint,
            chat=CHAT_SOURCE,
        )
        batches = await self.find_many([(tenant, row.public_id) for row in found]) if found else {}
        return [batches[tenant, row.public_id] for row in found if (tenant, row.public_id) in batches]

    async def batch_id(self, public_id: str, *, tenant: str) -> int | None:
        """Return the ledger's id of a tenant's batch, or None if the ledger does not have the batch."""
        rows = await self._query(
            "SELECT id FROM batches WHERE public_id = :public_id AND tenant = :tenant",
            public_id=public_id,
            tenant=tenant,
        )
        return int(rows[0].id) if rows else None

    async def of_key(self, key: str, *, tenant: str) -> str | None:
        """Return the public id of the batch that was created over HTTP with a tenant's idempotency key, or None."""
        rows = await self._query(
            "SELECT public_id FROM api_batches WHERE tenant = :tenant AND idempotency_key = :key",
            tenant=tenant,
            key=key,
        )
        return str(rows[0].public_id) if rows else None

    async def ended_chats(self, public_ids: Sequence[str]) -> dict[str, int]:
        """The chats that have ended or are held for good: public id → batch id."""
        rows = await self._fetch("find_ended_chats", public_ids=list(public_ids))
        return {row.public_id: int(row.id) for row in rows}

    async def open_batches(self, tenant: str) -> int:
        """Return how many batches of a tenant wait for validation or for their files."""
        return int((await self._fetch("open_batches", tenant=tenant))[0].n)

    async def open_kept_chats(self, tenant: str, *, but: str, most: int) -> int:
        """Return how many chats with an idempotency key are open, at most ``most``. 0 if the key ``but`` has a chat."""
        rows = await self._fetch("open_kept_chats", tenant=tenant, key=but, chat=CHAT_SOURCE, most=most)
        return int(rows[0].n)

    # -- making and cancelling -------------------------------------------------------------

    async def create(self, request: ApiBatchRequest, *, most_open: int) -> CreatedApiBatch:
        """Makes a batch that waits for validation, once per idempotency key and per retried request.

        Raises `TooManyOpenBatches` where the tenant has ``most_open``.
        """
        async with transaction(self._engine) as connection:
            await lock_names(connection, "api batch", request.tenant, request.idempotency_key or request.fingerprint)
            given = _params(request) | {"retried_within_s": RETRY_WINDOW_S}
            before = (await connection.execute(statement("api_batch_before"), given)).first()
            if before is not None:
                return CreatedApiBatch(before.public_id, same=before.fingerprint == request.fingerprint)
            open_batches = await connection.execute(statement("open_batches"), {"tenant": request.tenant})
            if open_batches.scalar_one() >= most_open:
                raise TooManyOpenBatches
            await connection.execute(statement("api_batch_create"), given)
        return CreatedApiBatch(request.public_id)

    async def created_before(self, request: ApiBatchRequest) -> CreatedApiBatch | None:
        """Return the batch that `create` made from the same request before, or None."""
        rows = await self._fetch("api_batch_before", **_params(request), retried_within_s=RETRY_WINDOW_S)
        return CreatedApiBatch(rows[0].public_id, same=rows[0].fingerprint == request.fingerprint) if rows else None

    async def adopt(self, tenant: str, public_ids: Sequence[str]) -> None:
        """Create rows for batches that did not come over HTTP, so that they get files of results."""
        await self._fetch("api_batches_adopt", tenant=tenant, public_ids=list(public_ids))

    async def cancel(self, public_id: str, *, tenant: str) -> None:
        """Mark the batch as cancelled. The caller cancels its queries in the ledger."""
        await self._query(
            "UPDATE api_batches SET cancelling_at = coalesce(cancelling_at, now())"
            " WHERE public_id = :public_id AND tenant = :tenant AND finalized_at IS NULL"
            " AND status IN ('validating', 'accepted')",
            public_id=public_id,
            tenant=tenant,
        )

    # -- validating ------------------------------------------------------------------------

    async def take_validating(self, lease_s: float, not_of: Sequence[str] = ()) -> ApiBatchTask | None:
        """A batch that waits for validation, or whose validator was lost, under a lease.

        The oldest one of a tenant of which the fewest are validated now, and of none in ``not_of``.
        """
        rows = await self._fetch("api_batch_take", lease_s=lease_s, not_of=list(not_of))
        if not rows:
            return None
        row = rows[0]
        return from_row(
            ApiBatchTask,
            row,
            metadata=row.metadata or {},
            budget_policy=None if row.budget_policy is None else BudgetPolicy(row.budget_policy),
            pilot=None if row.pilot is None else _pilot(row.pilot),
            cancelling=row.cancelling_at is not None,
        )

    async def renew(self, public_id: str, *, lease_s: float) -> bool:
        """Renew the lease of a batch that is still being processed. Return whether the batch exists."""
        rows = await self._query(
            "UPDATE api_batches SET lease_until = now() + make_interval(secs => :s) WHERE public_id = :public_id"
            " RETURNING public_id",
            public_id=public_id,
            s=lease_s,
        )
        return bool(rows)

    async def release(self, public_id: str) -> None:
        """Give the batch back: another process may take it at once, and this attempt does not count."""
        await self._query(
            "UPDATE api_batches SET lease_until = NULL, tries = greatest(tries - 1, 0)"
            " WHERE public_id = :public_id AND finalized_at IS NULL",
            public_id=public_id,
        )

    async def accept(self, public_id: str) -> bool:
        """Marks its queries as in the ledger. True if it was cancelled in between, and they must be as well."""
        rows = await self._fetch("api_batch_accept", public_id=public_id)
        return bool(rows) and rows[0].cancelling_at is not None

    async def fail(self, public_id: str, errors: Sequence[Mapping[str, Any]], *, event_id: str) -> None:
        """Record that the request does not become a batch, with the ``errors``, and send its tenant's webhooks."""
        await self._fetch(
            "api_batch_fail",
            public_id=public_id,
            errors=orjson.dumps(errors).decode(),
            event_id=event_id,
        )

    async def drop(self, public_id: str, *, event_id: str) -> None:
        """Record that the request was cancelled before it became a batch."""
        await self._fetch("api_batch_drop", public_id=public_id, event_id=event_id)

    # -- finalizing ------------------------------------------------------------------------

    async def take_ended(self, lease_s: float, not_of: Sequence[str] = ()) -> ApiBatch | None:
        """The oldest batch that has ended and has no result files yet, of no tenant in ``not_of``, under a lease."""
        rows = await self._fetch("api_batch_take_ended", lease_s=lease_s, not_of=list(not_of))
        if not rows:
            return None
        key = (rows[0].tenant, rows[0].public_id)
        return (await self.find_many([key])).get(key)

    async def usage(self, batch_id: int) -> dict[str, int]:
        """Return the tokens of all its calls that have an outcome."""
        rows = await self._fetch("batch_usage", batch_id=batch_id)
        return {name: int(value) for name, value in rows[0]._mapping.items()}

    async def finalize(
        self,
        batch: ApiBatch,
        *,
        usage: Mapping[str, int] | None,
        files: Sequence[ApiBatchResults],
        event: str,
        event_id: str,
    ) -> None:
        """Makes its files visible and sends ``event`` to its webhooks, unless it was resumed in between."""
        by_content = {file.content: file.id for file in files}
        counts = batch.counts
        await self._fetch(
            "api_batch_finalize",
            public_id=batch.public_id,
            ended_at=batch.ended_at,
            usage=orjson.dumps(usage).decode(),
            counts=orjson.dumps(counts).decode(),
            files=orjson.dumps(files).decode(),
            output_file_id=by_content.get("output"),
            error_file_id=by_content.get("errors"),
            event=event,
            event_id=event_id,
        )

    async def reopen(self, public_id: str | None = None) -> None:
        """Batches that were resumed after their end get new files; ``public_id`` even if it has ended again."""
        await self._fetch("api_batches_reopen", public_id=public_id)


def _params(request: ApiBatchRequest) -> dict[str, Any]:
    given = {part.name: getattr(request, part.name) for part in fields(request)}
    texts = {name: orjson.dumps(given[name]).decode() for name in _AS_JSON if given[name] is not None}
    return given | texts


def _pilot(stored: Mapping[str, Any]) -> PilotSpec:
    grader = stored.get("grader")
    return PilotSpec(**{**stored, "grader": None if grader is None else GraderChoice(grader)})


def _batch(row: Row[Any]) -> ApiBatch:
    counts = Counts(**row.stored_counts) if row.stored_counts else from_row(Counts, row)
    return from_row(ApiBatch, row, counts=counts)
