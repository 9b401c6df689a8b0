"""The results of a provider batch, applied to its queries by the same code as direct answers."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import structlog
from sqlalchemy import Row

from db import failpoints
from db.call_result import CallResult, SentCall
from db.ledger_encoding import read_queued
from db.ledger_types import Claim
from db.provider_batches import ProviderBatches
from providers.batch_api.provider_batch_api import ProviderBatchApi
from providers.batch_api.remote_batch import RemoteBatch
from providers.provider_errors import UnsupportedParameter
from routing.outcome import Completion, FailureKind, Outcome
from tasks.lanes.line_key import call_of
from tasks.lanes.wave_former import Request, request_of
from tasks.stages.answer import earlier_calls
from tasks.stages.budget_guard import left_of_budgets, remaining_per_query
from tasks.stages.query_executor import NO_CALLS, QueryExecutor
from tasks.worker_context import WorkerContext

log = structlog.get_logger()

APPLIED_AT_ONCE: Final = 200
APPLIED_BYTES: Final = 32_000_000
"""Results are applied once their lines have this many bytes."""


@dataclass(slots=True)
class BatchResults:
    row: Row[Any]
    api: ProviderBatchApi
    batches: ProviderBatches
    context: WorkerContext
    refused: set[str] = field(default_factory=set)
    """Fields that the deployment refuses, learned from its failures."""

    async def collect(self, remote: RemoteBatch) -> None:
        """Apply every result, in bounded memory. Raises BatchCallFailed and DBAPIError, after which it starts again.

        What was applied before is not changed: a call gets its result once, and a query moves under its epoch once.
        """
        some: dict[int, Outcome] = {}
        strays = size = 0
        async for result in self.api.results(remote):
            if (call_id := call_of(result.key, self.row.marker)) is None:
                strays += 1
                continue
            some.setdefault(call_id, result.outcome)
            size += result.size
            if len(some) >= APPLIED_AT_ONCE or size >= APPLIED_BYTES:
                strays += await self.apply(some)
                failpoints.die_once_at("die_applying")
                some, size = {}, 0
        strays += await self.apply(some)
        if strays:
            log.warning("provider_batch_unknown_lines", provider_batch=self.row.id, lines=strays)

    async def apply(self, outcomes: Mapping[int, Outcome]) -> int:
        """Apply outcomes by call id. Return how many belong to calls outside this batch."""
        rest, strays = sorted(outcomes), 0
        while rest:
            some = rest[:APPLIED_AT_ONCE]
            rows = await self.batches.calls(self.row.id, some)
            read = [row for row in rows if row.body is not None]
            await self._apply(read, outcomes)
            strays += len(some) - len(rows)
            rest = [row.call_id for row in rows if row.body is None] + rest[APPLIED_AT_ONCE:]
        return strays

    async def _apply(self, rows: Sequence[Row[Any]], outcomes: Mapping[int, Outcome]) -> None:
        # A query that was released may still be answered; a failure, and one that is applied again after a worker was
        # lost, says nothing that its release has not said.
        waiting = {
            row.call_id: read_queued(row)
            for row in rows
            if row.is_awaited and (row.is_batched or isinstance(outcomes[row.call_id], Completion))
        }
        earlier = await earlier_calls(list(waiting.values()), self.context)
        left_usd = await remaining_per_query(list(waiting.values()), self.context)
        budgets_usd = await left_of_budgets({queued.batch_id for queued in waiting.values()}, self.context)

        async def conclude(row: Row[Any]) -> None:
            sent = SentCall(row.call_id, row.at, self.api.model, float(row.reserved_usd), is_batched=True)
            outcome = outcomes[row.call_id]
            queued = waiting.get(row.call_id)
            if queued is None:
                # The user cancelled it, or it was answered elsewhere: it is paid all the same.
                await self.context.ledger.record(CallResult(sent, outcome))
                return
            executor = QueryExecutor(
                queued,
                self.row.tier,
                self.context,
                earlier.get(queued.id, NO_CALLS),
                left_usd=left_usd.get(queued.id, math.inf),
                budget_usd=budgets_usd[queued.batch_id],
                claim=Claim(queued.id, queued.epoch, row.at),
            )
            request = request_of(queued.body, executor.query, self.api.model, self.context)
            await executor.conclude(CallResult(sent, self._as_sent(outcome, request, row.left_out or ())))

        known = len(self.refused)
        async with asyncio.TaskGroup() as concluding:
            for row in rows:
                concluding.create_task(conclude(row))
        if len(self.refused) > known:
            await self.batches.note_refused(self.row.id, sorted(self.refused))

    def _as_sent(self, outcome: Outcome, request: Request, left_out: Sequence[str]) -> Outcome:
        """Return ``outcome`` with notes on what its line left out.

        A refusal of an optional field only costs time: another line, or a direct call, omits it.
        """
        outcomes = self.api.outcomes
        if isinstance(outcome, Completion):
            with suppress(UnsupportedParameter):  # the fleet has changed since the line was written
                outcome = outcome._replace(notes=(*outcomes.prepare(*request, left_out).notes, *outcome.notes))
            return outcome
        if outcome.param is None or not outcomes.is_refusal(outcome, *request, left_out):
            return outcome
        self.refused |= outcomes.refused_fields & {outcome.param}
        return replace(outcome, kind=FailureKind.NOT_RUN)
