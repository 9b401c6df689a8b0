"""How long a query waits at a tier for a wave, before the standard lane takes it."""

import math
from typing import Final

from db.ledger_types import QueuedQuery
from db.provider_batches import WAVE_MARGIN_S
from routing.fleet import Fleet, Model
from routing.lanes.lane import Lane
from routing.query import Query

RESERVE_SHARE: Final = 0.25
LONGEST_RESERVE_S: Final = 3600.0
"""The time before the deadline that is reserved for the standard lane if there is no plan: a quarter, at most an
hour."""


def batch_deployments(query: Query, tier: str, fleet: Fleet) -> tuple[Model, ...]:
    """Return the deployments of ``tier`` that may answer ``query`` in a provider batch."""
    return tuple(model for model in fleet.pinned(query.pin, tier) if Lane.BATCH in model.lanes)


def wave_wait_s(queued: QueuedQuery, query: Query, tier: str, fleet: Fleet) -> float:
    """Return the seconds that ``queued`` may wait at ``tier``, or 0.0 if it uses the standard lane at once.

    After that it is due there, whatever happened to the planner. A query of a pilot never waits, because the rest of
    its batch waits for it. Neither does one that may be what kills workers.
    """
    if queued.deadline_in_s == math.inf or queued.is_pilot or queued.crashes:
        return 0.0
    if all(len(model.lanes) == 1 for model in fleet.pinned(query.pin, tier)):
        return 0.0
    return wait_before(queued.deadline_in_s)


def wait_before(deadline_in_s: float) -> float:
    """Return the seconds, of ``deadline_in_s``, that a query may wait for a wave. 0.0 if that is not positive."""
    wait_s = deadline_in_s - min(RESERVE_SHARE * deadline_in_s, LONGEST_RESERVE_S)
    return wait_s if wait_s > 2 * WAVE_MARGIN_S else 0.0
