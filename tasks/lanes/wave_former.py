"""Adds queries to a provider batch, each with the intent of its call at the lane's price."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from sqlalchemy import Row

from db import failpoints
from db.ledger_encoding import read_queued
from db.ledger_types import QueuedQuery
from db.provider_batches import Joining, ProviderBatches, TakenBatch
from providers.batch_api.provider_batch_api import ProviderBatchApi
from providers.batch_api.remote_batch import BATCH_SERVICE_TIER
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


class Request(NamedTuple):
    """The request of a direct call, before its deployment's refusals are known."""

    body: Mapping[str, Any]
    added: frozenset[str]
    """Fields that Pointsman added."""


@dataclass(slots=True)
class WaveFormer:
    """Forms one provider batch. Call `form` once."""

    taken: TakenBatch
    row: Row[Any]
    api: ProviderBatchApi
    batches: ProviderBatches
    context: WorkerContext
    joined: int = 0
    bytes: int = 0
    tokens: int = 0
    budget_is_full: bool = False
    refused: frozenset[str] = frozenset()
    """Fields that the deployment is known to refuse."""

    async def form(self) -> bool:
        """Add queries until it is full or none waits. Return whether ``taken`` is still valid. Raises DBAPIError.

        A query that cannot be part of a provider batch becomes due at its tier at once, where a direct call shows the
        cause.
        """
        after: tuple[Any, int] = (None, 0)
        self.refused = self.api.outcomes.refused_fields | await self.batches.refused_fields(self.api.model)
        while not (self._is_full or self.context.stopping.is_set()):
            rows = await self.batches.candidates(
                self.row.batch_id,
                self.row.tier,
                deployment=self.row.deployment,
                after_due=after[0],
                after_id=after[1],
                most=min(JOINING_AT_ONCE, self.row.max_queries - self.joined),
            )
            if not rows:
                return True
            after = rows[-1].due_at, rows[-1].id
            joining = await self._joining([(read_queued(row), row.refused or ()) for row in rows])
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

    async def _joining(self, waiting: Sequence[tuple[QueuedQuery, Sequence[str]]]) -> list[Joining]:
        """Return those of ``waiting`` that fit, each with the fields for which its earlier lines were refused."""
        left_usd = await remaining_per_query([queued for queued, _ in waiting], self.context)
        model = self.api.model
        joining: list[Joining] = []
        unplaced: list[int] = []
        for queued, refused in waiting:
            query = queued.to_query()
            reserved_usd = batch_reservation_usd(query, model)
            others = batch_deployments(query, self.row.tier, self.context.fleet)
            size, left_out = 0, list[str]()
            if model in others and fits(query, model) and reserved_usd <= left_usd.get(queued.id, reserved_usd):
                call_id = await self.context.ledger.next_call_id()
                request = request_of(queued.body, query, model, self.context)
                left_out = self.api.outcomes.left_out(*request, self.refused.union(refused))
                size = self._size(call_id, request, left_out)
            if not size:
                if not any(other != model and fits(query, other) for other in others):
                    unplaced.append(queued.id)
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
            joining.append(
                Joining(queued.id, queued.epoch, call_id, reserved_usd, model.price.version, tokens, left_out or None)
            )
        if unplaced:
            await self.batches.make_due(unplaced)
        return joining

    def _size(self, call_id: int, request: Request, left_out: Sequence[str]) -> int:
        """Return the bytes of its line, or 0 if the protocol cannot express it."""
        body, added = request
        try:
            return len(self.api.line(key_of(call_id, self.row.marker), body, added=added, left_out=left_out)) + 1
        except UnsupportedParameter:
            return 0


def request_of(body: Mapping[str, Any], query: Query, model: Model, context: WorkerContext) -> Request:
    sent = with_logprobs(body, query, model, source=context.fleet.confidence_of(model).source)
    return Request(sent, frozenset(sent.keys() - body.keys()))


def batch_reservation_usd(query: Query, model: Model) -> float:
    """Return the maximum bill, in USD, for the call of ``query`` as a line of a provider batch."""
    return worst_usd(query, replace(model, price=model.price.at_service_tier(BATCH_SERVICE_TIER)))
