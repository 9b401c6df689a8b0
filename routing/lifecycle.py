"""The one table of legal transitions: the states that a query may pass through, and why.

A query is always at one *stage* (a Celery queue) in one *state*. This file lists the legal transitions. `db.ledger`
executes those of queries, `db.provider_batches` and `db.pilots` those of provider batches and pilots, each as one
conditional statement.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

ROUTE: Final = "route"
"""The stage at which a query waits to be routed to a tier."""

FALLBACK: Final = "fallback"
"""The stage at which a rejected answer waits for the decision on what follows."""

INGEST: Final = "ingest"
"""Not a stage of a query, but the queue of ``submit_queries`` for producers that only use Celery."""


class State(StrEnum):
    """What a query does at its stage."""

    READY = "ready"
    """Due, and not in the broker. The feeder, or the task that moved the query here, publishes it. A follower is not
    due: the feeder finishes it with its leader's answer, or makes it due."""
    QUEUED = "queued"
    """In the broker, as far as we know. A claim moves it on, and the feeder returns a lost one."""
    RUNNING = "running"
    """Claimed by a worker under a lease. The worker finishes it, and the feeder rescues it if the lease expires."""
    BATCHED = "batched"
    """In a provider batch, which has its own lease. The calls of the provider batch name the query, and its result
    moves it on."""
    HELD = "held"
    """Its budget has no room, or the provider refuses the account. A raised budget, a successful call at the provider,
    or a cancel moves it on."""
    DONE = "done"
    """Answered. Terminal."""
    FAILED = "failed"
    """No tier could answer it; the reason is in the decision. Terminal."""
    DEAD = "dead"
    """Its worker was lost three times while it ran. Terminal until a resume."""
    CANCELLED = "cancelled"
    """The user cancelled it. Terminal."""
    EXPIRED = "expired"
    """Its batch's completion window closed. Terminal."""


OPEN: Final = frozenset({State.READY, State.QUEUED, State.RUNNING, State.BATCHED, State.HELD})
TERMINAL: Final = frozenset(State) - OPEN


class MoveKind(StrEnum):
    """The name of a move; the verb that a statement of the ledger executes."""

    PUBLISH = "publish"
    CLAIM = "claim"
    BATCH = "batch"
    RELEASE = "release"
    ADVANCE = "advance"
    FINISH = "finish"
    FAIL = "fail"
    HOLD = "hold"
    UNHOLD = "unhold"
    RESCUE = "rescue"
    RETURN_LOST = "return_lost"
    PAUSE = "pause"
    BURY = "bury"
    CANCEL = "cancel"
    EXPIRE = "expire"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a transition requires and does.

    A claim, a place in a provider batch and a resume raise the query's epoch. A transition that ends a stay
    (``apply_transitions.sql``) also needs the epoch that its caller holds, or has read if it decides without a claim.
    So a write that began before the last of them has no effect. ``claim.sql`` compares no epoch, even if the budget
    refuses and it holds, fails or lowers the query: stage and state alone decide.
    """

    sources: frozenset[State]
    target: frozenset[State]
    changes_stage: bool = False
    raises_epoch: bool = False


_UNCLAIMED: Final = frozenset({State.READY, State.QUEUED})
_CLAIMED: Final = frozenset({State.RUNNING, State.BATCHED})
_CLAIMED_OR_RESCUED: Final = _CLAIMED | _UNCLAIMED

RULES: Final[dict[MoveKind, Rule]] = {
    MoveKind.PUBLISH: Rule(frozenset({State.READY}), frozenset({State.QUEUED})),
    MoveKind.CLAIM: Rule(_UNCLAIMED, frozenset({State.RUNNING}), raises_epoch=True),
    # Into a provider's batch that is being formed, from `ready`: only the step that forms it takes one that waits.
    MoveKind.BATCH: Rule(frozenset({State.READY}), frozenset({State.BATCHED}), raises_epoch=True),
    # Back to the feeder: before the claim (no slot, no rate) or after it (a warm shutdown, a provider's batch that
    # gave no answer).
    MoveKind.RELEASE: Rule(_CLAIMED_OR_RESCUED, frozenset({State.READY})),
    # To another stage: route → tier, tier → fallback, fallback → tier. Where the budget has no room and its policy is
    # ``degrade``, a refused claim also moves: tier → lower tier, or tier → fallback.
    # A late, paid outcome also counts from `ready` and `queued`, as long as no worker claimed it again.
    MoveKind.ADVANCE: Rule(_CLAIMED_OR_RESCUED, _UNCLAIMED, changes_stage=True),
    MoveKind.FINISH: Rule(_CLAIMED_OR_RESCUED, frozenset({State.DONE})),
    MoveKind.FAIL: Rule(_CLAIMED_OR_RESCUED, frozenset({State.FAILED})),
    MoveKind.HOLD: Rule(_CLAIMED_OR_RESCUED, frozenset({State.HELD})),
    MoveKind.UNHOLD: Rule(frozenset({State.HELD}), frozenset({State.READY})),
    MoveKind.RESCUE: Rule(frozenset({State.RUNNING}), frozenset({State.READY})),
    MoveKind.RETURN_LOST: Rule(frozenset({State.QUEUED}), frozenset({State.READY})),
    # While its batch is paused nothing of it is claimed or published; what runs goes on to its end at its stage.
    MoveKind.PAUSE: Rule(frozenset({State.QUEUED}), frozenset({State.READY})),
    MoveKind.BURY: Rule(frozenset({State.RUNNING}), frozenset({State.DEAD})),
    MoveKind.CANCEL: Rule(OPEN, frozenset({State.CANCELLED})),
    MoveKind.EXPIRE: Rule(OPEN, frozenset({State.EXPIRED})),
    MoveKind.RESUME: Rule(
        frozenset({State.FAILED, State.DEAD, State.EXPIRED}),
        frozenset({State.READY}),
        changes_stage=True,
        raises_epoch=True,
    ),
}

MAX_CRASHES: Final = 3
"""A query is buried (`dead`) after this many lost workers, because it may be what kills them."""


def sources(move: MoveKind) -> list[str]:
    """Return the sorted states from which ``move`` starts, as a statement parameter."""
    return sorted(RULES[move].sources)
