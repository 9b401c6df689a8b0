"""The fallback stage: up the ladder, or the best answer there was, or the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, assert_never

import orjson
from sqlalchemy import Row

from db.records import Answer, Conclusion, Explanation, Waiting
from routing.fallback import Accept, Attempted, Escalate, GiveUp, Step, next_step
from routing.lifecycle import FALLBACK, Move, State
from tasks.apart import suspects_apart
from tasks.route import read_query
from tasks.station import Station


async def fall_back(ids: Sequence[int], station: Station) -> Mapping[int, tuple[str, str]]:
    """Decides for those of ``ids`` that wait; returns the (stage, state) of each that moved."""
    waiting = await station.ledger.waiting(FALLBACK, ids)
    return await suspects_apart(waiting, station, lambda some: _fall_back(some, station))


async def _fall_back(waiting: Sequence[Waiting], station: Station) -> Mapping[int, tuple[str, str]]:
    ledger = station.ledger
    claims = await ledger.claim_many([(FALLBACK, one.id, None) for one in waiting])
    claimed = [one for one in waiting if one.id in claims]
    verdicts = await ledger.verdicts([one.id for one in claimed])
    steps = {
        one.id: next_step(
            [_attempted(row) for row in verdicts.get(one.id, ())], query=read_query(one), fleet=station.fleet
        )
        for one in claimed
    }
    stored = await ledger.stored_answers(
        {query_id: step.call_id for query_id, step in steps.items() if isinstance(step, Accept)}
    )
    return await ledger.conclude_many(
        [_conclusion(one, steps[one.id], stored, epoch=claims[one.id].epoch) for one in claimed]
    )


def _attempted(verdict: Row[Any]) -> Attempted:
    return Attempted(
        tier=verdict.tier,
        confidence=verdict.confidence,
        call_id=verdict.call_id,
        reasons=tuple(verdict.reasons),
        valid=bool((verdict.detail or {}).get("valid")),
    )


@dataclass(frozen=True, slots=True)
class _End:
    move: Move
    to_stage: str
    to_state: State
    reasons: Sequence[str]
    tier: str | None = None
    answer: Answer | None = None


def _conclusion(one: Waiting, step: Step, stored: Mapping[int, Row[Any]], *, epoch: int) -> Conclusion:
    end = _end(step, stored)
    return Conclusion(
        query_id=one.id,
        epoch=epoch,
        stage=FALLBACK,
        move=end.move,
        to_stage=end.to_stage,
        to_state=end.to_state,
        tier=end.tier,
        answer=end.answer,
        escalated=end.move is Move.ADVANCE,
        publish=end.move is Move.ADVANCE,
        why=Explanation(kind="fallback", router="ladder", reasons=end.reasons),
    )


def _end(step: Step, stored: Mapping[int, Row[Any]]) -> _End:
    match step:
        case Escalate(tier=tier, reasons=reasons):
            return _End(Move.ADVANCE, tier, State.READY, reasons, tier=tier)
        case Accept(call_id=call_id, tier=tier, reasons=reasons) if call_id in stored:
            best = Answer(
                call_id=call_id,
                tier=tier,
                model=stored[call_id].model,
                accepted=False,
                response=orjson.loads(stored[call_id].response),
            )
            return _End(Move.FINISH, FALLBACK, State.DONE, reasons, tier=tier, answer=best)
        case Accept(reasons=reasons):
            return _End(Move.FAIL, FALLBACK, State.FAILED, (*reasons, "the stored answer is gone"))
        case GiveUp(reasons=reasons):
            return _End(Move.FAIL, FALLBACK, State.FAILED, reasons)
        case _:
            assert_never(step)
