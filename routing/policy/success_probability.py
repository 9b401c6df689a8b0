"""The estimated P(success) of each rung of the ladder. It never falls towards the top.

An estimate (a belief) is a tuple of probabilities, one for each tier of the ladder from the cheapest up.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from routing.policy.llm_router_prompt import RouterVote

SuccessProbabilities = tuple[float, ...]

P_TOP: Final = 0.95
"""The top tier's assumed probability of success without a calibrated figure."""

DOUBTFUL_SCORE: Final = 0.5
"""The minimum difficulty that is assumed for a query without a vote."""


def from_vote(opinion: RouterVote, ladder: Sequence[str]) -> SuccessProbabilities | None:
    """Return the belief from ``opinion``, or None if it abstains or names no tier of the ladder.

    Probabilities outweigh a named tier. Probabilities outside 0 to 1 are ignored.
    """
    stated = opinion.p_ok
    known = {rung: p for rung, tier in enumerate(ladder) if (p := stated.get(tier)) is not None and 0.0 <= p <= 1.0}
    if known:
        return filled(known, len(ladder))
    if opinion.tier is not None and opinion.tier in ladder:
        return from_named_tier(ladder.index(opinion.tier), opinion.confidence, len(ladder))
    return None


def filled(known: Mapping[int, float], rungs: int) -> SuccessProbabilities:
    """Return a belief from the probabilities of some rungs (at least one).

    Values between two known rungs are interpolated linearly. Below the lowest known rung the line goes to 0 at one rung
    under the ladder. Above the highest known rung it goes to ``P_TOP`` at the top.
    """
    if len(known) == rungs:
        return monotone([known[rung] for rung in range(rungs)])
    marks = sorted(known.items())
    if marks[0][0] > 0:
        marks.insert(0, (-1, 0.0))
    last_rung, last = marks[-1]
    if last_rung < rungs - 1:
        marks.append((rungs - 1, max(last, P_TOP)))
    line: list[float] = []
    for (left, low), (right, high) in pairwise(marks):
        line.extend(low + (high - low) * (rung - left) / (right - left) for rung in range(max(left, len(line)), right))
    line.append(marks[-1][1])
    return monotone(line)


def from_named_tier(rung: int, confidence: float, rungs: int) -> SuccessProbabilities:
    """Return a belief from a named rung and the confidence (0 to 1) that it is the right one.

    With probability ``confidence`` the named rung does as well as the top, and the rung below it has half the top's
    chance less. So a less confident vote leads to a higher tier (for a quality weight of about 1 or more). If the top
    is named it is right by definition, and its confidence is that of the rung below being wrong.
    """
    sure = min(max(confidence, 0.0), 1.0) if math.isfinite(confidence) else 0.0
    top = rung == rungs - 1
    known = {rung: P_TOP if top else P_TOP * sure, rungs - 1: P_TOP}
    if rung > 0:
        known[rung - 1] = P_TOP * min(1.0 - sure, 0.5) if top else max(known[rung] - P_TOP / 2, 0.0)
    return filled(known, rungs)


def prior(score: float, rungs: int) -> SuccessProbabilities:
    """Return a belief from the difficulty alone, if no router votes. Doubt counts as difficulty."""
    harder = max(score, DOUBTFUL_SCORE)
    return filled({0: P_TOP * (1.0 - harder), rungs - 1: P_TOP}, rungs) if rungs > 1 else (P_TOP,)


def mixed(one: SuccessProbabilities, other: SuccessProbabilities, *, weight: float) -> SuccessProbabilities:
    """Return ``one``, moved towards ``other`` by ``weight`` (0 to 1)."""
    return tuple(a + weight * (b - a) for a, b in zip(one, other, strict=True))


def monotone(line: Sequence[float]) -> SuccessProbabilities:
    """Return ``line`` with each rung at most as high as the more expensive ones."""
    bound = 1.0
    held: list[float] = []
    for p in reversed(line):
        if p < bound:
            bound = p
        held.append(bound)
    return tuple(reversed(held))
