"""The ledger's records as rows: the one JSON text that a statement reads, however many records there are, and its
results."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from db.call_result import CallResult
from db.ledger_types import QueuedQuery, Transition
from routing.fleet import BudgetPolicy
from routing.large_response import LargeResponse, large_bytes
from routing.lifecycle import RULES, TERMINAL, MoveKind, sources
from routing.outcome import Completion
from routing.reason import code_of

_NUL: Final = re.compile(rb"(?<!\\)((?:\\\\)*+)\\u0000")
"""Behind an even number of backslashes: else it is a backslash and five letters."""

_BUDGET_POLICIES: Final = {policy.value: policy for policy in BudgetPolicy}

SOURCES: Final = {move: sources(move) for move in MoveKind}
"""The states that each move leads out of."""

_SOURCE_ARRAYS: Final = {move: f"{{{','.join(states)}}}" for move, states in SOURCES.items()}
"""`SOURCES` as Postgres arrays, which Postgres reads faster than JSON arrays."""


def read_queued(row: Any) -> QueuedQuery:
    """Return the query of a row with its text, as `read_waiting` returns it."""
    return QueuedQuery(
        id=row.id,
        batch_id=row.batch_id,
        epoch=row.epoch,
        crashes=row.crashes,
        tier=row.tier,
        prefers=row.prefers,
        attempts=row.attempts,
        escalations=row.escalations,
        custom_id=row.custom_id,
        body=orjson.loads(row.body),
        options=orjson.loads(row.options) if row.options else {},
        budget_policy=_BUDGET_POLICIES[row.budget_policy],
        was_lost=row.was_lost,
        expires_in_s=row.expires_in_s,
        is_pilot=row.pilot,
        has_policy=row.has_policy,
        flex_tier=row.flex_tier,
        deadline_in_s=row.deadline_in_s,
    )


def encode_transitions(transitions: Sequence[Transition]) -> list[dict[str, Any]]:
    """Encode the moves in order of id. Those that may go into the broker's share of their stage are numbered."""
    places: Counter[str] = Counter()
    moves = []
    for transition in sorted(transitions, key=lambda move: move.query_id):
        place = None
        if transition.publish:
            places[transition.to_stage] += 1
            place = places[transition.to_stage]
        moves.append(_drop_nulls(_move_row(transition, place=place)))
    return moves


def result_params(results: Sequence[CallResult]) -> dict[str, Any]:
    """Encode the results, and when the first and the last of their calls began: the statement reads only these
    months."""
    began = [result.sent.at for result in results]
    rows = [_drop_nulls(result.row()) for result in results]
    return {"results": to_json(rows), "since": min(began, default=None), "until": max(began, default=None)}


def _drop_nulls(row: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is null, as is what is not there: Postgres reads each name of a row twice."""
    return {name: value for name, value in row.items() if value is not None}


def _move_row(transition: Transition, *, place: int | None = None) -> dict[str, Any]:
    move, why, answer = transition.move, transition.why, transition.answer
    rule = RULES[move]
    if transition.to_state not in rule.target:
        raise ValueError(f"{move} never leads to {transition.to_state}")
    if not rule.changes_stage and transition.to_stage != transition.stage:
        raise ValueError(f"{move} does not change the stage")
    return {
        "query_id": transition.query_id,
        "epoch": transition.epoch,
        "stage": transition.stage,
        "sources": _SOURCE_ARRAYS[move],
        "to_stage": transition.to_stage,
        "to_state": transition.to_state.value,
        "place": place,
        "tier": answer.tier if answer else transition.tier,
        "prefers": transition.prefers,
        "wait_s": transition.wait_s or None,
        "attempts": transition.attempts or None,
        "escalated": int(transition.escalated) or None,
        "final": transition.to_state in TERMINAL or None,
        "kind": why.kind,
        "move": move.value,
        "router": why.router,
        "score": why.score,
        "confidence": why.confidence,
        "propensity": why.propensity,
        "call_id": answer.call_id if answer else why.call_id,
        "codes": [code_of(reason, why.kind) for reason in why.reasons],
        "reasons": [str(reason) for reason in why.reasons],
        "detail": why.detail,
        "model": answer.model if answer else None,
        "accepted": answer.accepted if answer else None,
        "response": answer.response if answer else None,
    }


def to_json(rows: Sequence[Mapping[str, Any]] | Mapping[str, Any]) -> str:
    """JSON for a statement's row set, or for a column. Postgres' text holds no NUL, so a NUL becomes U+FFFD."""
    raw = orjson.dumps(rows, default=_as_json)
    if b"\\u0000" in raw:
        raw = _NUL.sub(rb"\1\\ufffd", raw)
    return raw.decode()


def _as_json(value: Any) -> orjson.Fragment:
    if isinstance(value, LargeResponse):
        return orjson.Fragment(value.json)
    raise TypeError


def stored_bytes(transition: Transition) -> int:
    """The bytes of large responses in the rows of a move."""
    found = large_bytes(transition.answer.response) if transition.answer is not None else 0
    return found + sum(map(kept_bytes, transition.results))


def kept_bytes(result: CallResult) -> int:
    """The bytes of a large response in the row of a call."""
    outcome = result.outcome
    return large_bytes(outcome.response) if result.keep_response and isinstance(outcome, Completion) else 0
