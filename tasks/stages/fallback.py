"""The fallback stage: escalates a query, accepts its best answer, or fails it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import orjson
from sqlalchemy import Row

from db.ledger_types import AnswerRecord, DecisionRecord, QueuedQuery, Transition
from routing.context_window import fitting
from routing.fleet import BudgetPolicy, Fleet
from routing.lifecycle import FALLBACK, MoveKind, State
from routing.policy.escalation import Accept, Escalate, RemainingBudget, Step, TierAttempt, TiersExhausted, next_step
from routing.reason import Reason, ReasonCode
from tasks.lanes.wave_wait import wave_wait_s
from tasks.stages.budget_guard import degrading, open_per_batch, remaining_per_batch, remaining_per_query
from tasks.stages.poison_isolation import isolate_poison_suspects
from tasks.worker_context import WorkerContext


async def fall_back(ids: Sequence[int], context: WorkerContext) -> Mapping[int, tuple[str, str]]:
    """Decide for those of ``ids`` that wait. Return the (stage, state) of each that moved."""
    waiting = await context.ledger.waiting(FALLBACK, ids)
    return await isolate_poison_suspects(waiting, context, lambda some: _fall_back(some, context))


async def _fall_back(waiting: Sequence[QueuedQuery], context: WorkerContext) -> Mapping[int, tuple[str, str]]:
    ledger = context.ledger
    claims = await ledger.claim_many([(FALLBACK, queued.id, None) for queued in waiting])
    claimed = [queued for queued in waiting if queued.id in claims]
    verdicts = await ledger.verdicts([queued.id for queued in claimed])
    lines_usd = await remaining_per_query(claimed, context)
    unspent_usd = await remaining_per_batch(
        {queued.batch_id for queued in claimed if queued.budget_policy is not BudgetPolicy.HOLD}, context
    )
    open_queries = await open_per_batch(degrading(claimed) & unspent_usd.keys(), context)
    steps = {
        queued.id: _step(
            queued,
            [_attempted(row) for row in verdicts.get(queued.id, ())],
            RemainingBudget(
                lines_usd.get(queued.id, math.inf),
                unspent_usd.get(queued.batch_id, math.inf),
                context.allowances.of(queued.batch_id).known_lengths,
                was_refused=queued.attempts > 0,
                others=0 if queued.is_pilot else open_queries.get(queued.batch_id, 1) - 1,
            ),
            context,
        )
        for queued in claimed
    }
    moved: dict[int, tuple[str, str]] = {}
    left = claimed
    while left:
        accepted = {queued.id: step.call_id for queued in left if isinstance(step := steps[queued.id], Accept)}
        stored = await ledger.stored_answers(accepted) if accepted else {}
        unread = {query_id for query_id, call in accepted.items() if call in stored and stored[call].response is None}
        moved |= await ledger.transition_many(
            [
                _conclusion(queued, steps[queued.id], stored, epoch=claims[queued.id].epoch, fleet=context.fleet)
                for queued in left
                if queued.id not in unread
            ]
        )
        left = [queued for queued in left if queued.id in unread]
    return moved


@dataclass(frozen=True, slots=True)
class Hold:
    """There is no answer yet, and the budget has no room for another call. Without this hold the query would go back
    and forth."""

    needs_usd: float
    reasons: tuple[str, ...]


def _step(
    queued: QueuedQuery, history: Sequence[TierAttempt], remaining: RemainingBudget, context: WorkerContext
) -> Step | Hold:
    query, fleet = queued.to_query(), context.fleet
    step = next_step(history, query=query, fleet=fleet, remaining=remaining)
    if queued.budget_policy is not BudgetPolicy.DEGRADE or not isinstance(step, Escalate):
        return step
    needs_usd = remaining.batch_reservation_usd(query, fitting(query, fleet=fleet, tier=step.tier))
    if needs_usd is None or needs_usd <= remaining.batch_usd:
        return step
    short = Reason(ReasonCode.OVER_BUDGET, "the budget does not cover the reservation of a call")
    return Hold(needs_usd, (*step.reasons, short))


def _attempted(verdict: Row[Any]) -> TierAttempt:
    return TierAttempt(
        tier=verdict.tier,
        confidence=verdict.confidence,
        call_id=verdict.call_id,
        reasons=tuple(map(Reason, verdict.codes, verdict.reasons)),
        usable=bool((verdict.detail or {}).get("usable")),
        next_tier=(verdict.detail or {}).get("next_tier"),
    )


@dataclass(frozen=True, slots=True)
class _End:
    move: MoveKind
    to_stage: str
    to_state: State
    reasons: Sequence[str]
    tier: str | None = None
    answer: AnswerRecord | None = None
    needs_usd: float | None = None


def _conclusion(
    queued: QueuedQuery, step: Step | Hold, stored: Mapping[int, Row[Any]], *, epoch: int, fleet: Fleet
) -> Transition:
    end = _end(step, stored)
    climbs = end.move is MoveKind.ADVANCE
    waits = climbs and queued.deadline_in_s < math.inf  # without a deadline its text need not be read again
    wait_s = wave_wait_s(queued, queued.to_query(), end.to_stage, fleet) if waits else 0.0
    return Transition(
        query_id=queued.id,
        epoch=epoch,
        stage=FALLBACK,
        move=end.move,
        to_stage=end.to_stage,
        to_state=end.to_state,
        tier=end.tier,
        answer=end.answer,
        escalated=climbs,
        publish=climbs and not wait_s,
        wait_s=wait_s,
        why=DecisionRecord(
            kind="fallback" if end.needs_usd is None else "budget",
            router="ladder" if end.needs_usd is None else "budget",
            reasons=end.reasons,
            detail=None if end.needs_usd is None else {"needs_usd": end.needs_usd},
        ),
    )


def _end(step: Step | Hold, stored: Mapping[int, Row[Any]]) -> _End:
    match step:
        case Escalate(tier=tier, reasons=reasons):
            return _End(MoveKind.ADVANCE, tier, State.READY, reasons, tier=tier)
        case Accept(call_id=call_id, tier=tier, reasons=reasons) if call_id in stored:
            best = AnswerRecord(
                call_id=call_id,
                tier=tier,
                model=stored[call_id].model,
                accepted=False,
                response=orjson.loads(stored[call_id].response),
            )
            return _End(MoveKind.FINISH, FALLBACK, State.DONE, reasons, tier=tier, answer=best)
        case Accept(reasons=reasons):
            return _End(MoveKind.FAIL, FALLBACK, State.FAILED, (*reasons, "the stored answer is gone"))
        case Hold(needs_usd=needs_usd, reasons=reasons):
            return _End(MoveKind.HOLD, FALLBACK, State.HELD, reasons, needs_usd=needs_usd)
        case TiersExhausted(reasons=reasons):
            return _End(MoveKind.FAIL, FALLBACK, State.FAILED, reasons)
        case _:
            assert_never(step)
