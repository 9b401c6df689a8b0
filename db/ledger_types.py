"""The records that go into the ledger and come out of it.

Several of these are made for each query, and a frozen dataclass takes two to three times as long to make as a named
tuple. The text of one that holds a user's words leaves these out.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from db.call_result import CallResult
from routing.fleet import BudgetPolicy, Model
from routing.lifecycle import MAX_CRASHES, MoveKind, State
from routing.query import Query, read_line

ID_BLOCK: Final = 1000
"""Ids are handed out in blocks: ``nextval`` gives the number of a block, so that a client knows the ids of the rows
that it is about to write, and a repeated write is recognized."""


class QueuedQuery(NamedTuple):
    """A query that waits at a stage, with its text."""

    id: int
    batch_id: int
    epoch: int
    crashes: int
    tier: str | None
    prefers: str | None
    attempts: int
    escalations: int
    custom_id: str
    body: Mapping[str, Any]
    options: Mapping[str, Any]
    budget_policy: BudgetPolicy = BudgetPolicy.HOLD
    expires_in_s: float = math.inf
    """Seconds left until the batch expires, as of when this row was read. Infinite if the batch does not expire."""
    was_lost: bool = False
    """Whether the query's message was lost before, by the broker or with the worker that had taken it."""
    is_pilot: bool = False
    """Whether the query belongs to its batch's pilot sample, which every tier answers."""
    has_policy: bool = False
    """Whether the batch has a decided pilot, whose policy routes and accepts."""
    deadline_in_s: float = math.inf
    """Seconds left until the batch's deadline, as of when this row was read. Infinite if the batch has no deadline."""
    flex_tier: str | None = None
    """The tier that is called in the flex lane, as long as the deadline allows it."""

    def __repr__(self) -> str:
        """Without the user's words."""
        return f"QueuedQuery(id={self.id}, batch_id={self.batch_id}, epoch={self.epoch})"

    def to_query(self) -> Query:
        """The query as the rules see it, read anew from its texts."""
        return read_line(self.body, self.options)

    @property
    def is_poison_suspect(self) -> bool:
        """Whether one more lost worker dead-letters it: then no other suspect shares a process with it.

        A query that kills its workers takes all their other queries with it; only isolated it dies alone.
        """
        return self.crashes >= MAX_CRASHES - 1


class CallIntent(NamedTuple):
    """A call that is about to be sent. ``query_id`` is None where it serves several queries.

    ``epoch`` is that of its query's claim, or, for a grader, of the pilot's decision (0: of an audit).
    """

    call_id: int
    purpose: str
    tier: str
    model: Model
    reserved_usd: float
    query_id: int | None = None
    batch_id: int | None = None
    epoch: int = 0
    lower: str | None = None
    """The stage that a claim moves the query to if a budget with the policy ``degrade`` does not cover the call."""
    lane: str | None = None
    """The lane of the call. None is standard."""

    def row(self) -> dict[str, Any]:
        return {
            "call_id": self.call_id,
            "query_id": self.query_id,
            "batch_id": self.batch_id,
            "epoch": self.epoch,
            "purpose": self.purpose,
            "tier": self.tier,
            "deployment": self.model.name,
            "provider": self.model.provider,
            "model": self.model.model,
            "reserved_usd": self.reserved_usd,
            "price_version": self.model.price.version,
            "lower": self.lower,
            "lane": self.lane,
        }


class Claim(NamedTuple):
    """A valid claim: the fencing ``epoch``, and the time of the intent by Postgres' clock."""

    query_id: int
    epoch: int
    at: datetime


class DecisionRecord(NamedTuple):
    """The decision row of a move: who decided, how sure, and why."""

    kind: str
    router: str
    reasons: Sequence[str]
    """The reasons. Each has its own code (`Reason`), or ``kind`` as its code."""
    score: float | None = None
    confidence: float | None = None
    propensity: float | None = None
    call_id: int | None = None
    detail: Mapping[str, Any] | None = None


class AnswerRecord(NamedTuple):
    """The final answer of a query. ``accepted`` is false for a rejected answer that was the best available."""

    call_id: int
    tier: str
    model: str
    accepted: bool
    response: Mapping[str, Any]

    def __repr__(self) -> str:
        """Without the model's words."""
        return f"AnswerRecord(call_id={self.call_id}, model={self.model!r}, accepted={self.accepted})"


class Transition(NamedTuple):
    """One query's move, with its reason and the results of the calls that led to it.

    ``publish`` lets the ledger put it straight into the broker's share of ``to_stage`` where that has
    room; the caller must then send the ids that came back as ``queued``.
    """

    query_id: int
    epoch: int
    stage: str
    move: MoveKind
    to_stage: str
    to_state: State
    why: DecisionRecord
    results: Sequence[CallResult] = ()
    answer: AnswerRecord | None = None
    tier: str | None = None
    prefers: str | None = None
    wait_s: float = 0.0
    attempts: int = 0
    escalated: bool = False
    publish: bool = False
