"""How many queries a pilot takes, and when it stops early.

The bound's margin shrinks with the square root of the pilot, and the pilot's cost grows with it, so the best size grows
with the batch to the power of 2/3. The factor is one of those that save most on each workload of docs/quality.md by
the measure of the others; from 2 to 3 the saving hardly changes.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from evaluation.quality_floor.certification import (
    LARGEST_SHARE,
    LEAST_PILOT,
    ChosenPolicy,
    PilotQuery,
    QualityTarget,
    choose,
    fit_pilot,
)

SIZE_FACTOR: Final = 2.0
"""Pilot queries per batch size to the power of 2/3, at a floor of 0.9."""

LARGEST_SAMPLE: Final = 2_000
"""Maximum queries of a pilot. Fitting takes time by the cube of this number, and memory by its square."""

FIRST_PART: Final = 0.5
"""The share of the pilot after which it ends early if the rest is not worth its cost."""

LUCK: Final = 0.3
"""The share of the margin that counts in the decision to end early."""


@dataclass(frozen=True, slots=True)
class PilotPlan:
    """How many queries a pilot takes; 0 where the batch is too small to gain."""

    size: int
    first: int = 0
    """The number of graded queries after which a pilot that can gain nothing ends. ``size`` if it never ends early."""
    reason: str = ""
    """Why there is no pilot."""


def least_pilot(target: QualityTarget, *, missed: float = 0.0) -> int:
    """The smallest pilot that could certify anything, were there no loss at all in it."""
    allowed = target.most_loss * (1.0 - missed)
    return max(LEAST_PILOT, math.ceil(1.2 * math.log(1.0 - target.confidence) / math.log1p(-allowed)))


def plan_pilot(target: QualityTarget, batch_size: int, *, missed: float = 0.0, most: int | None = None) -> PilotPlan:
    """The size of a pilot of a batch of ``batch_size``; ``most`` caps it, as a budget or ``--pilot`` does."""
    least = least_pilot(target, missed=missed)
    size = round(SIZE_FACTOR * batch_size ** (2 / 3) * math.sqrt(0.1 / target.most_loss))
    size = max(min(size, math.floor(LARGEST_SHARE * batch_size), batch_size if most is None else most), 0)
    if size < least:
        reason = f"a floor of {target.floor:g} needs at least {least} graded queries, but this batch allows only {size}"
        return PilotPlan(0, reason=reason)
    first = round(FIRST_PART * size)
    return PilotPlan(size, first if first >= least else size)


def least_batch(target: QualityTarget, share: float) -> int | None:
    """The smallest batch whose pilot is less than ``share`` of it. None if no batch is: ``share`` is 0 or less."""
    if share <= 0.0:
        return None

    def is_enough(batch_size: int) -> bool:
        size = plan_pilot(target, batch_size, most=min(batch_size, LARGEST_SAMPLE)).size
        return 0 < size < share * batch_size

    # The pilot's share falls with the size of the batch, and no pilot is larger than the largest.
    return bisect_left(range(math.floor(LARGEST_SAMPLE / share) + 2), True, key=is_enough)


def may_gain(
    pilot: Sequence[PilotQuery],
    target: QualityTarget,
    *,
    planned: int,
    batch_size: int,
    missed: float = 0.0,
    grading_usd: float = 0.0,
    seed: int = 0,
) -> bool:
    """Whether a pilot of ``planned`` queries can pay for the rest of itself, by its first part ``pilot``.

    ``grading_usd`` is what grading that part cost. Nothing is certified by it, so that it takes nothing of the risk.
    Raises ValueError as `fit_pilot`.
    """
    fitted, n = fit_pilot(pilot, seed=seed), len(pilot)
    top_usd = sum(query.answers[-1].cost_usd for query in pilot)
    most_loss = target.most_rest_loss(pilot=planned, batch_size=batch_size) * (1.0 - missed)
    rest = max(batch_size - n, 1)
    chosen = choose(fitted.path, fitted.losses, risk=1.0 - target.confidence, most_loss=most_loss, rest=rest)
    return gains(
        chosen,
        size=n,
        planned=planned,
        batch_size=batch_size,
        query_cost=float(fitted.costs.sum()) + grading_usd / top_usd,
        most_loss=most_loss,
    )


def gains(
    chosen: ChosenPolicy, *, size: int, planned: int, batch_size: int, query_cost: float, most_loss: float
) -> bool:
    """`may_gain` by what the bounds of a first part of ``size`` are.

    With luck the whole pilot certifies the cheapest policy whose estimated loss and margin (a part of it, shrunk by the
    larger pilot) keep to ``most_loss``. ``query_cost`` is what a pilot query costs, in calls to the top tier.
    """
    margins = (chosen.bounds - chosen.losses) * math.sqrt(size / planned)
    keeps = chosen.losses + LUCK * margins <= most_loss
    hoped = float(chosen.costs[keeps].min()) if keeps.any() else 1.0
    return (1.0 - hoped) * (batch_size - planned) > (planned - size) * (query_cost - 1.0)
