"""Traces of the work: a ledger and a pool that tell of what passes through them, in workers that trace.

Everything that a trace tells goes through the ledger anyway: what a worker reads, the intents of its calls, their
results, and each move with its reasons. So nothing in the stages knows of traces.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from db.ledger import Ledger
from db.ledger_types import CallIntent, CallResult, Claim, QueuedQuery, SentCall, Transition
from providers.client import ProviderClient
from routing.fleet import Fleet, Model
from routing.lifecycle import FALLBACK, ROUTE, TERMINAL, MoveKind, State
from routing.outcome import Completion, Outcome
from telemetry.span_attributes import of_call, of_end, of_result, of_verdict, redact_reasons
from telemetry.spans import Trace, Traces
from telemetry.tracing import suppress_tracing_errors

MOST: Final = 100_000
"""Batches, visits and calls that are remembered at a time; those that nobody concludes must not pile up."""

_ENDS: Final = frozenset(state.value for state in TERMINAL)

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class StageVisit:
    """A query of a traced batch that waits at a stage of this worker."""

    trace: Trace
    began_ns: int
    router: str | None = None
    """Who sent it here, and why."""
    reason: str | None = None


@dataclass(slots=True)
class TracedCall:
    """A call whose intent is committed."""

    trace: Trace
    intent: CallIntent
    epoch: int
    visit: StageVisit | None = None
    began_ns: int = 0
    ended_ns: int = 0


class TraceRecorder:
    """What a worker knows of the traces that it has a part in."""

    def __init__(self, traces: Traces, fleet: Fleet) -> None:
        self.traces = traces
        self.fleet = fleet
        self.batches: dict[int, Trace | None] = {}
        self.visits: dict[int, StageVisit] = {}
        self.calls: dict[int, TracedCall] = {}

    def called(self, intent: CallIntent, *, epoch: int) -> None:
        """An intent is committed: its call is about to be sent."""
        if intent.query_id is not None:
            visit = self.visits.get(intent.query_id)
            if visit is not None:
                _remember(self.calls, intent.call_id, TracedCall(visit.trace, intent, epoch, visit))
            return
        trace = self.batches.get(intent.batch_id or 0)
        # A call that serves several queries; of a batch that is told as a sample, a sample of these.
        if trace is not None and trace.is_sampled(intent.call_id):
            _remember(self.calls, intent.call_id, TracedCall(trace, intent, epoch))

    def ended(self, result: CallResult, verdict: Mapping[str, Any] | None = None) -> None:
        """A call's result is in the ledger."""
        call = self.calls.pop(result.sent.call_id, None)
        if call is None:
            return
        now = time.time_ns()
        outcome = result.outcome
        self.traces.call(
            f"chat {call.intent.model.model}",
            call.trace,
            call.intent.query_id,
            {**self._known(call), **of_result(result)},
            # One that was never handed to a provider took no time.
            began_ns=call.began_ns or now,
            ended_ns=call.ended_ns or now,
            error=None if isinstance(outcome, Completion) else outcome.kind.value,
            verdict=verdict,
        )

    def concluded(self, conclusions: Sequence[Transition], moved: Mapping[int, tuple[str, State]]) -> None:
        """Queries have moved, or were fenced out."""
        chunks: dict[str, list[tuple[StageVisit, Transition]]] = {}
        for one in conclusions:
            visit = self.visits.pop(one.query_id, None)
            went = moved.get(one.query_id)
            answered = [result for result in one.results if isinstance(result.outcome, Completion)]
            for result in one.results:
                judged = went is not None and result in answered and one.why.kind == "judge"
                self.ended(result, of_verdict(one) if judged else None)
            if visit is None or went is None:
                continue
            if one.stage == ROUTE:
                chunks.setdefault(visit.trace.handle, []).append((visit, one))
            elif not answered:
                self._step(visit, one)
            if one.to_state in _ENDS and visit.trace.is_sampled(one.query_id):
                self.traces.query(visit.trace, one.query_id, of_end(one))
        for chunk in chunks.values():
            self._routed(chunk)

    def _known(self, call: TracedCall) -> dict[str, Any]:
        router, reason = (None, None) if call.visit is None else (call.visit.router, call.visit.reason)
        known = of_call(call.intent, self.fleet, router=router, reason=reason)
        return known | {"pointsman.epoch": call.epoch}

    def _routed(self, chunk: Sequence[tuple[StageVisit, Transition]]) -> None:
        trace = chunk[0][0].trace
        if not any(trace.is_sampled(one.query_id) for _, one in chunk):
            return
        tiers = Counter(one.to_stage if one.move is MoveKind.ADVANCE else one.to_state.value for _, one in chunk)
        routers = Counter(one.why.router for _, one in chunk)
        self.traces.chunk(
            "route",
            trace,
            {
                "pointsman.queries": len(chunk),
                **{f"pointsman.decisions.{tier}": count for tier, count in tiers.items()},
                **{f"pointsman.routers.{router}": count for router, count in routers.items()},
            },
            began_ns=min(visit.began_ns for visit, _ in chunk),
        )

    def _step(self, visit: StageVisit, one: Transition) -> None:
        """What moved it without an answer: the fallback stage, a wait, a budget, a tier that gave none."""
        name = FALLBACK if one.stage == FALLBACK else "put off" if one.move is MoveKind.RELEASE else "no answer"
        self.traces.step(
            name,
            visit.trace,
            one.query_id,
            {
                "pointsman.query_id": one.query_id,
                "pointsman.epoch": one.epoch,
                "pointsman.stage": one.stage,
                "pointsman.move": one.move.value,
                "pointsman.to_stage": one.to_stage,
                "pointsman.to_state": one.to_state.value,
                "pointsman.escalated": one.escalated,
                "pointsman.wait_s": one.wait_s,
                "pointsman.reasons": redact_reasons(one.why.reasons),
            },
            began_ns=visit.began_ns,
        )


class TracedLedger(Ledger):
    """A `Ledger` that is watched."""

    def __init__(
        self, engine: AsyncEngine, watch: TraceRecorder, *, worker_id: int | None, lease_s: float, simulated: bool
    ) -> None:
        super().__init__(engine, worker_id=worker_id, lease_s=lease_s, simulated=simulated)
        self._watch = watch

    async def waiting(self, stage: str, ids: Sequence[int]) -> list[QueuedQuery]:
        """As of `Ledger`."""
        waiting = await super().waiting(stage, ids)
        with suppress_tracing_errors():
            await self._see(stage, waiting)
        return waiting

    async def claim_many(self, wanted: Sequence[tuple[str, int, CallIntent | None]]) -> dict[int, Claim]:
        """As of `Ledger`."""
        claims = await super().claim_many(wanted)
        with suppress_tracing_errors():
            for _, query_id, intent in wanted:
                if intent is not None and query_id in claims:
                    self._watch.called(intent, epoch=claims[query_id].epoch)
        return claims

    async def transition_many(self, conclusions: Sequence[Transition]) -> dict[int, tuple[str, State]]:
        """As of `Ledger`."""
        moved = await super().transition_many(conclusions)
        with suppress_tracing_errors():
            self._watch.concluded(conclusions, moved)
        return moved

    async def _intend(self, meant: Sequence[CallIntent]) -> dict[int, SentCall]:
        committed = await super()._intend(meant)
        with suppress_tracing_errors():
            for intent in meant:
                if intent.call_id in committed:
                    self._watch.called(intent, epoch=intent.epoch)
        return committed

    async def _record(self, results: Sequence[CallResult]) -> dict[int, bool]:
        recorded = await super()._record(results)
        with suppress_tracing_errors():
            for result in results:
                self._watch.ended(result)
        return recorded

    async def _see(self, stage: str, waiting: Sequence[QueuedQuery]) -> None:
        watch, began_ns = self._watch, time.time_ns()
        if unknown := {one.batch_id for one in waiting} - watch.batches.keys():
            for row in await self._named("read_batch_traces", ids=list(unknown)):
                created_ns = int(row.created_at.timestamp() * 1e9)
                trace = watch.traces.trace(
                    row.handle, total=row.total, traceparent=row.traceparent, created_ns=created_ns
                )
                _remember(watch.batches, row.id, trace)
        seen = {}
        for one in waiting:
            trace = watch.batches.get(one.batch_id)
            # A chunk is routed as a whole, so there all of it is counted.
            if trace is not None and (stage == ROUTE or trace.is_sampled(one.id)):
                seen[one.id] = trace
        arrivals = {}
        if seen and stage not in (ROUTE, FALLBACK):
            rows = await self._named("read_arrivals", ids=list(seen), stage=stage)
            arrivals = {row.query_id: (row.router, row.reason) for row in rows}
        for query_id, trace in seen.items():
            _remember(watch.visits, query_id, StageVisit(trace, began_ns, *arrivals.get(query_id, (None, None))))


class TracedProviderClient(ProviderClient):
    """A `ProviderClient` that notes when each watched call was under way."""

    def __init__(self, fleet: Fleet, watch: TraceRecorder, *, environ: Mapping[str, str]) -> None:
        super().__init__(fleet, environ=environ)
        self._watch = watch

    async def complete(
        self,
        model: Model,
        body: Mapping[str, Any],
        *,
        deadline_s: float | None = None,
        call_id: int | None = None,
        added: frozenset[str] = frozenset(),
    ) -> Outcome:
        """As of `ProviderClient`."""
        call = None if call_id is None else self._watch.calls.get(call_id)
        if call is not None:
            call.began_ns = time.time_ns()
        outcome = await super().complete(model, body, deadline_s=deadline_s, call_id=call_id, added=added)
        if call is not None:
            # As long as the ledger has it, by one clock, whatever became of the other one meanwhile.
            call.ended_ns = call.began_ns + round(outcome.latency_ms * 1e6)
        return outcome


def _remember(kept: dict[Key, Value], key: Key, value: Value) -> None:
    kept[key] = value
    while len(kept) > MOST:
        del kept[next(iter(kept))]
