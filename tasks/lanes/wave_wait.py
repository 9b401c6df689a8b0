"""How long a query waits at a tier for a wave, before standard takes it."""

import math
from typing import Final

from db.ledger_types import QueuedQuery
from db.provider_batches import WAVE_MARGIN_S
from routing.fleet import Fleet, Model
from routing.lanes.lane import Lane
from routing.query import Query

RESERVE_SHARE: Final = 0.25
LONGEST_RESERVE_S: Final = 3600.0
"""The part of the time to the deadline that is kept for standard without a plan: a quarter, an hour at most."""


def batch_deployments(query: Query, tier: str, fleet: Fleet) -> tuple[Model, ...]:
    """The deployments of ``tier`` that may answer ``query`` in a provider batch."""
    return tuple(model for model in fleet.pinned(query.pin, tier) if Lane.BATCH in model.lanes)


def wave_wait_s(queued: QueuedQuery, query: Query, tier: str, fleet: Fleet) -> float:
    """Seconds for which ``queued`` may wait at ``tier``; 0.0 where it is bought at standard at once.

    When they are over it is due there by itself, whatever became of the planner. A query of a pilot never waits, for
    the rest of its batch waits for it; nor does one that may be what kills workers.
    """
    if queued.deadline_in_s == math.inf or queued.is_pilot or queued.crashes:
        return 0.0
    if all(len(model.lanes) == 1 for model in fleet.pinned(query.pin, tier)):
        return 0.0
    return wait_before(queued.deadline_in_s)


def wait_before(deadline_in_s: float) -> float:
    """Seconds of ``deadline_in_s`` for which a query may wait for a wave; 0.0 where that is not a time."""
    wait_s = deadline_in_s - min(RESERVE_SHARE * deadline_in_s, LONGEST_RESERVE_S)
    return wait_s if wait_s > 2 * WAVE_MARGIN_S else 0.0
