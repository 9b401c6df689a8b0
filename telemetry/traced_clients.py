"""A ledger and a provider client that record traces, for workers with tracing.

Everything in a trace goes through the ledger anyway: what a worker reads, the intents of its calls, their results, and
each transition with its reasons. So the stages contain no tracing code.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from db.call_result import CallResult, SentCall
from db.ledger import Ledger
from db.ledger_types import CallIntent, Claim, QueuedQuery, Transition
from providers.client import ProviderClient
from routing.fleet import Fleet, Model
from routing.lifecycle import FALLBACK, ROUTE, TERMINAL, MoveKind, State
from routing.outcome import Completion, Outcome
from routing.reason import Reason
from telemetry.span_attributes import of_call, of_end, of_result, of_verdict, redact_reasons
from telemetry.spans import Trace, Traces
from telemetry.tracing import suppress_tracing_errors

MAX_TRACKED: Final = 100_000
"""Batches, visits and calls tracked at a time; abandoned ones must not accumulate."""

_ENDS: Final = frozenset(state.value for state in TERMINAL)

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class StageVisit:
    """A query of a traced batch that waits at a stage of this worker."""

    trace: Trace
    began_ns: int
    router: str | None = None
    """The router that chose this stage; ``reason`` is why."""
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
    """The traces that a worker contributes to."""

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
        # A call for several queries; in a sampled batch these calls are sampled too.
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
            # A call that was never sent took no time.
            began_ns=call.began_ns or now,
            ended_ns=call.ended_ns or now,
            error=None if isinstance(outcome, Completion) else outcome.kind.value,
            verdict=verdict,
        )

    def concluded(self, transitions: Sequence[Transition], moved: Mapping[int, tuple[str, State]]) -> None:
        """Transitions are committed, or were fenced out."""
        chunks: dict[str, list[tuple[StageVisit, Transition]]] = {}
        for transition in transitions:
            visit = self.visits.pop(transition.query_id, None)
            went = moved.get(transition.query_id)
            answered = [result for result in transition.results if isinstance(result.outcome, Completion)]
            for result in transition.results:
                judged = went is not None and result in answered and transition.why.kind == "judge"
                self.ended(result, of_verdict(transition) if judged else None)
            if visit is None or went is None:
                continue
            if transition.stage == ROUTE:
                chunks.setdefault(visit.trace.public_id, []).append((visit, transition))
            elif not answered:
                self._step(visit, transition)
            if transition.to_state in _ENDS and visit.trace.is_sampled(transition.query_id):
                self.traces.query(visit.trace, transition.query_id, of_end(transition))
        for chunk in chunks.values():
            self._routed(chunk)

    def _known(self, call: TracedCall) -> dict[str, Any]:
        router, reason = (None, None) if call.visit is None else (call.visit.router, call.visit.reason)
        known = of_call(call.intent, self.fleet, router=router, reason=reason)
        return known | {"pointsman.epoch": call.epoch}

    def _routed(self, chunk: Sequence[tuple[StageVisit, Transition]]) -> None:
        trace = chunk[0][0].trace
        if not any(trace.is_sampled(transition.query_id) for _, transition in chunk):
            return
        tiers = Counter(
            transition.to_stage if transition.move is MoveKind.ADVANCE else transition.to_state.value
            for _, transition in chunk
        )
        routers = Counter(transition.why.router for _, transition in chunk)
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

    def _step(self, visit: StageVisit, transition: Transition) -> None:
        """A transition without an answer: the fallback stage, a wait, a budget, a tier without an answer."""
        name = (
            FALLBACK
            if transition.stage == FALLBACK
            else "put off"
            if transition.move is MoveKind.RELEASE
            else "no answer"
        )
        self.traces.step(
            name,
            visit.trace,
            transition.query_id,
            {
                "pointsman.query_id": transition.query_id,
                "pointsman.epoch": transition.epoch,
                "pointsman.stage": transition.stage,
                "pointsman.move": transition.move.value,
                "pointsman.to_stage": transition.to_stage,
                "pointsman.to_state": transition.to_state.value,
                "pointsman.escalated": transition.escalated,
                "pointsman.wait_s": transition.wait_s,
                "pointsman.reasons": redact_reasons(transition.why.reasons),
            },
            began_ns=visit.began_ns,
        )


class TracedLedger(Ledger):
    """A `Ledger` that records traces."""

    def __init__(
        self, engine: AsyncEngine, recorder: TraceRecorder, *, worker_id: int | None, lease_s: float, simulated: bool
    ) -> None:
        super().__init__(engine, worker_id=worker_id, lease_s=lease_s, simulated=simulated)
        self._recorder = recorder

    async def waiting(self, stage: str, ids: Sequence[int]) -> list[QueuedQuery]:
        waiting = await super().waiting(stage, ids)
        with suppress_tracing_errors():
            await self._see(stage, waiting)
        return waiting

    async def claim_many(self, wanted: Sequence[tuple[str, int, CallIntent | None]]) -> dict[int, Claim]:
        claims = await super().claim_many(wanted)
        with suppress_tracing_errors():
            for _, query_id, intent in wanted:
                if intent is not None and query_id in claims:
                    self._recorder.called(intent, epoch=claims[query_id].epoch)
        return claims

    async def transition_many(self, transitions: Sequence[Transition]) -> dict[int, tuple[str, State]]:
        moved = await super().transition_many(transitions)
        with suppress_tracing_errors():
            self._recorder.concluded(transitions, moved)
        return moved

    async def _reserve_calls(self, intents: Sequence[CallIntent]) -> dict[int, SentCall]:
        committed = await super()._reserve_calls(intents)
        with suppress_tracing_errors():
            for intent in intents:
                if intent.call_id in committed:
                    self._recorder.called(intent, epoch=intent.epoch)
        return committed

    async def _record(self, results: Sequence[CallResult]) -> dict[int, bool]:
        recorded = await super()._record(results)
        with suppress_tracing_errors():
            for result in results:
                self._recorder.ended(result)
        return recorded

    async def _see(self, stage: str, waiting: Sequence[QueuedQuery]) -> None:
        recorder, began_ns = self._recorder, time.time_ns()
        if unknown := {query.batch_id for query in waiting} - recorder.batches.keys():
            for row in await self._named("read_batch_traces", ids=list(unknown)):
                created_ns = int(row.created_at.timestamp() * 1e9)
                trace = recorder.traces.trace(
                    row.public_id, total=row.total, traceparent=row.traceparent, created_ns=created_ns
                )
                _remember(recorder.batches, row.id, trace)
        seen = {}
        for query in waiting:
            trace = recorder.batches.get(query.batch_id)
            # A chunk is routed as a whole, so all of it is counted there.
            if trace is not None and (stage == ROUTE or trace.is_sampled(query.id)):
                seen[query.id] = trace
        arrivals = {}
        if seen and stage not in (ROUTE, FALLBACK):
            rows = await self._named("read_arrivals", ids=list(seen), stage=stage)
            arrivals = {row.query_id: (row.router, Reason(row.code, row.reason)) for row in rows if row.reason}
        for query_id, trace in seen.items():
            _remember(recorder.visits, query_id, StageVisit(trace, began_ns, *arrivals.get(query_id, (None, None))))


class TracedProviderClient(ProviderClient):
    """A `ProviderClient` that records the start and end of each traced call."""

    def __init__(self, fleet: Fleet, recorder: TraceRecorder, *, environ: Mapping[str, str]) -> None:
        super().__init__(fleet, environ=environ)
        self._recorder = recorder

    async def complete(
        self,
        model: Model,
        body: Mapping[str, Any],
        *,
        deadline_s: float | None = None,
        call_id: int | None = None,
        added: frozenset[str] = frozenset(),
    ) -> Outcome:
        call = None if call_id is None else self._recorder.calls.get(call_id)
        if call is not None:
            call.began_ns = time.time_ns()
        outcome = await super().complete(model, body, deadline_s=deadline_s, call_id=call_id, added=added)
        if call is not None:
            # The ledger's latency, so that changes of the wall clock do not matter.
            call.ended_ns = call.began_ns + round(outcome.latency_ms * 1e6)
        return outcome


def _remember(kept: dict[Key, Value], key: Key, value: Value) -> None:
    kept[key] = value
    while len(kept) > MAX_TRACKED:
        del kept[next(iter(kept))]
