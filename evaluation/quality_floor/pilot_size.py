"""How many queries a pilot takes, and when it stops early.

The bound's margin shrinks with the square root of the pilot, and the pilot's cost grows with it, so the best size grows
with the batch to the power of 2/3. The factor is the one that saved most over the workloads of docs/quality.md.
"""

import math
from dataclasses import dataclass
from typing import Final

from evaluation.quality_floor.certification import LEAST_PILOT, ChosenPolicy, QualityTarget

SIZE_FACTOR: Final = 1.3
"""Pilot queries per batch size to the power of 2/3, at a floor of 0.9."""

FIRST_LOOK: Final = 0.5
"""The share of the pilot after which it may stop."""

FIRST_RISK: Final = 0.05
"""The share of the risk that the first look spends (Bonferroni over the two looks)."""

LUCK: Final = 0.3
"""The share of the margin that is counted where it is asked whether more of a pilot is worth its cost."""

LARGEST_SHARE: Final = 0.4
"""A pilot of more than this share of the batch gains nothing."""


@dataclass(frozen=True, slots=True)
class PilotLook:
    """A point at which the pilot is tested."""

    size: int
    """Graded queries so far."""
    risk: float
    """The probability of a broken floor that this test may spend."""


@dataclass(frozen=True, slots=True)
class PilotPlan:
    """The looks at a pilot, in order; none where the batch is too small to gain."""

    looks: tuple[PilotLook, ...]
    reason: str = ""
    """Why there is no pilot."""

    @property
    def size(self) -> int:
        """The most queries that the pilot takes."""
        return self.looks[-1].size if self.looks else 0


def least_pilot(target: QualityTarget, *, missed: float = 0.0) -> int:
    """The smallest pilot that could certify anything, were there no loss at all in it."""
    allowed = target.most_loss * (1.0 - missed)
    return max(LEAST_PILOT, math.ceil(1.2 * math.log(1.0 - target.confidence) / math.log1p(-allowed)))


def plan_pilot(target: QualityTarget, batch_size: int, *, missed: float = 0.0, most: int | None = None) -> PilotPlan:
    """The looks at a pilot of a batch of ``batch_size``; ``most`` caps it, as a budget or ``--pilot`` does."""
    least = least_pilot(target, missed=missed)
    size = round(SIZE_FACTOR * batch_size ** (2 / 3) * math.sqrt(0.1 / target.most_loss))
    size = max(min(size, round(LARGEST_SHARE * batch_size), batch_size if most is None else most), 0)
    if size < least:
        reason = f"a floor of {target.floor:g} takes at least {least} graded queries; this batch allows {size}"
        return PilotPlan((), reason)
    risk = 1.0 - target.confidence
    first = round(FIRST_LOOK * size)
    if first < least:
        return PilotPlan((PilotLook(size, risk),))
    return PilotPlan((PilotLook(first, FIRST_RISK * risk), PilotLook(size, (1.0 - FIRST_RISK) * risk)))


def worth_continuing(
    chosen: ChosenPolicy, target: QualityTarget, *, here: PilotLook, last: PilotLook, batch_size: int, query_cost: float
) -> bool:
    """Whether the rest of the pilot can pay for itself, by what was seen ``here``.

    With luck the last look certifies the cheapest policy whose estimated loss and margin (a part of it, shrunk by the
    larger pilot) keep the floor. ``query_cost`` is what a pilot query costs, in calls to the top tier. Stopping for
    lack of hope spends no risk.
    """
    margins = (chosen.bounds - chosen.losses) * math.sqrt(here.size / last.size)
    keeps = chosen.losses + LUCK * margins <= target.most_loss
    hoped = float(chosen.costs[keeps].min()) if keeps.any() else 1.0
    now = float(chosen.costs[chosen.place]) if chosen.place is not None else 1.0
    extra = (last.size - here.size) * (query_cost - hoped)
    return (now - min(hoped, 1.0)) * (batch_size - here.size) > extra
