"""What is believed of each rung of the ladder: P(it answers well), never falling towards the top.

A belief is a tuple of probabilities, one for each tier of the ladder from the cheapest up.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

from routing.policy.llm_router_prompt import RouterVote

SuccessProbabilities = tuple[float, ...]

P_TOP: Final = 0.95
"""The top tier's chance of answering well, where no calibrated figure is given."""

DOUBTFUL_SCORE: Final = 0.5
"""Where no router has an opinion, a query counts as at least this difficult."""


def from_vote(opinion: RouterVote, ladder: Sequence[str]) -> SuccessProbabilities | None:
    """The belief that ``opinion`` calls for, or None where it abstains or names nothing of the ladder.

    Probabilities outweigh a named tier; those that are not between 0 and 1 are passed over.
    """
    stated = opinion.p_ok
    known = {rung: p for rung, tier in enumerate(ladder) if (p := stated.get(tier)) is not None and 0.0 <= p <= 1.0}
    if known:
        return filled(known, len(ladder))
    if opinion.tier is not None and opinion.tier in ladder:
        return from_named_tier(ladder.index(opinion.tier), opinion.confidence, len(ladder))
    return None


def filled(known: Mapping[int, float], rungs: int) -> SuccessProbabilities:
    """A belief from the probabilities of some rungs (at least one).

    Between two known rungs the line that joins them; below the lowest known the line to 0 one rung
    under the ladder; above the highest known the line to ``P_TOP`` at the top.
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
    """A belief from a named rung and the confidence (0 to 1) that it is the right one.

    The named rung does with probability ``confidence`` what the top would do, and the rung below it
    has half the top's chance less. So the less sure the word, the higher it leads (under a weight
    of quality that is worth routing for: from about 1 on). A named top is right by definition; its
    confidence is that of the rung below being wrong.
    """
    sure = min(max(confidence, 0.0), 1.0) if math.isfinite(confidence) else 0.0
    top = rung == rungs - 1
    known = {rung: P_TOP if top else P_TOP * sure, rungs - 1: P_TOP}
    if rung > 0:
        known[rung - 1] = P_TOP * min(1.0 - sure, 0.5) if top else max(known[rung] - P_TOP / 2, 0.0)
    return filled(known, rungs)


def prior(score: float, rungs: int) -> SuccessProbabilities:
    """A belief from the difficulty alone, where no router has an opinion: doubt counts as difficulty."""
    harder = max(score, DOUBTFUL_SCORE)
    return filled({0: P_TOP * (1.0 - harder), rungs - 1: P_TOP}, rungs) if rungs > 1 else (P_TOP,)


def mixed(one: SuccessProbabilities, other: SuccessProbabilities, *, weight: float) -> SuccessProbabilities:
    """``one``, moved towards ``other`` by ``weight`` (0 to 1)."""
    return tuple(a + weight * (b - a) for a, b in zip(one, other, strict=True))


def monotone(line: Sequence[float]) -> SuccessProbabilities:
    """``line`` with no rung above a more expensive one: a cheap tier is held to be no better than an expensive one."""
    bound = 1.0
    held: list[float] = []
    for p in reversed(line):
        if p < bound:
            bound = p
        held.append(bound)
    return tuple(reversed(held))
