"""Queries join a provider batch, each with the intent of its call at the lane's price."""

from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Row

from db import failpoints
from db.ledger_encoding import read_queued
from db.ledger_types import QueuedQuery
from db.provider_batches import Joining, ProviderBatches, TakenBatch
from providers.batch_api.provider_batch_api import ProviderBatchApi
from providers.batch_api.remote_batch import BATCH_SERVICE_TIER, BatchLine
from providers.provider_errors import UnsupportedParameter
from routing.budget.query_budget import worst_usd
from routing.context_window import fits
from routing.fleet import Model
from routing.query import Query
from tasks.lanes.line_key import key_of
from tasks.lanes.wave_wait import batch_deployments
from tasks.stages.budget_guard import remaining_per_query
from tasks.stages.logprobs import with_logprobs
from tasks.worker_context import WorkerContext

JOINING_AT_ONCE: Final = 200


@dataclass(slots=True)
class WaveFormer:
    """Forms one provider batch. `form` it once."""

    taken: TakenBatch
    row: Row[Any]
    api: ProviderBatchApi
    batches: ProviderBatches
    context: WorkerContext
    joined: int = 0
    bytes: int = 0
    tokens: int = 0
    budget_is_full: bool = False

    async def form(self) -> bool:
        """Has queries join until it is full or nothing waits. Returns whether ``taken`` still holds. Raises DBAPIError.

        What has no place in a provider batch is due at its tier at once, where a direct call says what is wrong.
        """
        after: tuple[Any, int] = (None, 0)
        while not (self._is_full or self.context.stopping.is_set()):
            rows = await self.batches.candidates(
                self.row.batch_id,
                self.row.tier,
                after_due=after[0],
                after_id=after[1],
                most=min(JOINING_AT_ONCE, self.row.max_queries - self.joined),
            )
            if not rows:
                return True
            after = rows[-1].due_at, rows[-1].id
            joining = await self._joining([read_queued(row) for row in rows])
            enlisted = await self.batches.enlist(
                self.taken, joining, worker_id=self.context.ledger.worker_id, lease_s=self.context.fleet.timing.lease_s
            )
            if enlisted is None:
                return False
            failpoints.die_once_at("die_forming")
            self.joined += enlisted.joined
            if enlisted.too_dear:
                self.budget_is_full = True
                return True
        return True

    @property
    def _is_full(self) -> bool:
        enough = self.row.max_tokens is not None and self.tokens >= self.row.max_tokens
        return enough or self.joined >= self.row.max_queries or self.bytes >= self.api.model.batch_limits.max_bytes

    async def _joining(self, waiting: list[QueuedQuery]) -> list[Joining]:
        left_usd = await remaining_per_query(waiting, self.context)
        model = self.api.model
        joining: list[Joining] = []
        refused: list[int] = []
        for queued in waiting:
            query = queued.to_query()
            reserved_usd = batch_reservation_usd(query, model)
            others = batch_deployments(query, self.row.tier, self.context.fleet)
            size = 0
            if model in others and fits(query, model) and reserved_usd <= left_usd.get(queued.id, reserved_usd):
                call_id = await self.context.ledger.next_call_id()
                size = self._size(call_id, queued, query)
            if not size:
                if not any(other != model and fits(query, other) for other in others):
                    refused.append(queued.id)
                continue
            if self.bytes + size > model.batch_limits.max_bytes and self.bytes:
                self.bytes = model.batch_limits.max_bytes
                break
            tokens = query.measured.expected(model)
            if self.row.max_tokens is not None and self.tokens + tokens > self.row.max_tokens and self.tokens:
                self.tokens = self.row.max_tokens
                break
            self.bytes += size
            self.tokens += tokens
            joining.append(Joining(queued.id, queued.epoch, call_id, reserved_usd, model.price.version, tokens))
        if refused:
            await self.batches.make_due(refused)
        return joining

    def _size(self, call_id: int, queued: QueuedQuery, query: Query) -> int:
        """Bytes of its line; 0 where the protocol cannot say it."""
        try:
            return (
                len(line_of(key_of(call_id, self.row.marker), queued.body, query, self.api, self.context).content) + 1
            )
        except UnsupportedParameter:
            return 0


def line_of(key: str, body: Any, query: Query, api: ProviderBatchApi, context: WorkerContext) -> BatchLine:
    """The line of the call with this key: what a direct call would send. Raises UnsupportedParameter."""
    source = context.fleet.confidence_of(api.model).source
    sent = with_logprobs(body, query, api.model, source=source)
    return api.line(key, sent, added=frozenset(sent.keys() - body.keys()))


def batch_reservation_usd(query: Query, model: Model) -> float:
    """The most that the call of ``query`` can be billed as a line of a provider batch, in dollars."""
    return worst_usd(query, replace(model, price=model.price.at_service_tier(BATCH_SERVICE_TIER)))
