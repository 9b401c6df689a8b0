"""A budget that is too small for all: the least hard queries go to cheaper tiers first.

What is left of the budget is shared among the queries of the batch that are still open. A chunk whose expected cost
exceeds its share is brought down to it, a rung at a time: its least hard query first, then the next, and only when
each went down one rung does the least hard one go down a second. So of two queries that stood at the same tier, the
harder never ends at the cheaper one. What not even the cheapest tiers can pay for, the claim holds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from routing.answer_lengths import UNKNOWN_LENGTHS, AnswerLengths
from routing.budget.cost_estimate import expected_usd, serving
from routing.budget.query_budget import fit_to_query_budget, reservation_usd
from routing.context_window import fitting
from routing.fleet import Fleet
from routing.policy.routing_case import Decision, RoutingCase, RoutingContext
from routing.query import Query
from routing.reason import Reason, ReasonCode


@dataclass(frozen=True, slots=True)
class Rung:
    """A tier at which a query could be answered; dollars."""

    tier: str
    expected_usd: float
    reserved_usd: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A query, with its tier first and then the cheaper ones that it fits, each below the one before."""

    hardness: float
    rungs: tuple[Rung, ...]


@dataclass(frozen=True, slots=True)
class DegradingBudget:
    """What is left of the budget of a batch that degrades; dollars."""

    batch_id: int
    unspent_usd: float
    open_queries: int
    spared_usd: float = 0.0
    """What earlier chunks left of their shares."""
    lengths: AnswerLengths = field(default=UNKNOWN_LENGTHS, compare=False)
    """What its forecast knew of the answers."""

    def share_usd(self, count: int) -> float:
        """What ``count`` of the open queries may cost together."""
        even = self.unspent_usd * count / max(self.open_queries, count)
        return min(self.unspent_usd, even + self.spared_usd)


class QueryBudget(NamedTuple):
    """What is left for one query."""

    left_usd: float | None = None
    """Of its ``max_cost_usd``, in dollars; None without one."""
    batch: DegradingBudget | None = None
    """None where the batch has no budget, or holds or fails what it cannot pay for."""


def fit_to_budgets(
    decisions: Sequence[Decision], budgets: Sequence[QueryBudget], context: RoutingContext
) -> list[Decision]:
    """``decisions`` as far as ``budgets`` pay for them: by the batches' shares, then by each query's own limit.

    A decision that waits for a vote stays as it is, and has no part of a share yet.
    """
    fitted = list(decisions)
    places: dict[DegradingBudget, list[int]] = {}
    for place, (decision, budget) in enumerate(zip(decisions, budgets, strict=True)):
        if budget.batch is not None and not decision.wants_vote:
            places.setdefault(budget.batch, []).append(place)
    for batch, some in places.items():
        chunk = [decisions[place] for place in some]
        lowered = fit_to_share(
            chunk, batch.share_usd(len(some)), context, unspent_usd=batch.unspent_usd, lengths=batch.lengths
        )
        for place, decision in zip(some, lowered, strict=True):
            fitted[place] = decision
    return [
        decision
        if budget.left_usd is None or decision.wants_vote
        else fit_to_query_budget(decision, budget.left_usd, context)
        for decision, budget in zip(fitted, budgets, strict=True)
    ]


def degrade(candidates: Sequence[Candidate], *, share_usd: float, unspent_usd: float = math.inf) -> list[int]:
    """For each candidate the place of its rung (0 stays) so that together they are expected to cost ``share_usd``.

    A rung whose reservation is more than ``unspent_usd``, all that is left of the budget, can never be paid and is
    passed over. Where not even the last rungs fit the share, all are at their last.
    """
    places = [_first_payable(candidate, unspent_usd) for candidate in candidates]
    total = sum(one.rungs[place].expected_usd for one, place in zip(candidates, places, strict=True))
    order = sorted(range(len(candidates)), key=lambda index: (candidates[index].hardness, index))
    moving = True
    while moving and total > share_usd:
        moving = False
        for index in order:
            if total <= share_usd:
                break
            rungs, place = candidates[index].rungs, places[index]
            if place + 1 < len(rungs):
                total += rungs[place + 1].expected_usd - rungs[place].expected_usd
                places[index] = place + 1
                moving = True
    return places


def fit_to_share(
    decisions: Sequence[Decision],
    share_usd: float,
    context: RoutingContext,
    *,
    unspent_usd: float = math.inf,
    lengths: AnswerLengths = UNKNOWN_LENGTHS,
) -> list[Decision]:
    """``decisions``, the least hard lowered until they are expected to cost ``share_usd`` together, each with its cost.

    Pinned queries, and those at a tier beside the ladder, stay where they are. Once one is lowered, all of them count
    as not explored; else those of which another draw would have had one lowered. Otherwise the log would hold the
    cheap draws of a budget that is nearly too small without the expensive ones.
    """
    candidates = [_candidate(decision, context, lengths) for decision in decisions]
    places = degrade(candidates, share_usd=share_usd, unspent_usd=unspent_usd)
    rungs = [candidate.rungs[place] for candidate, place in zip(candidates, places, strict=True)]
    spare_usd = -math.inf if any(places) else share_usd - sum(rung.expected_usd for rung in rungs)
    return [
        _lowered(_fairly_drawn(decision, context, lengths, spare_usd, unspent_usd), rung, context)
        for decision, rung in zip(decisions, rungs, strict=True)
    ]


def next_rung_down(query: Query, tier: str, *, fleet: Fleet) -> str | None:
    """The next tier below ``tier`` that ``query`` fits and that reserves less; None where there is none, or a pin."""
    ladder = fleet.ladder
    here = reservation_usd(query, fleet.deployments(tier))
    if tier not in ladder or here is None or query.is_pinned:
        return None
    for name in reversed(ladder[: ladder.index(tier)]):
        there = reservation_usd(query, fitting(query, fleet=fleet, tier=name))
        if there is not None and there < here:
            return name
    return None


def _candidate(decision: Decision, context: RoutingContext, lengths: AnswerLengths) -> Candidate:
    rungs = _rungs(decision.case, decision.tier, context, lengths)
    return Candidate(decision.score, rungs[:1] if decision.case.pin is not None else rungs)


def _rungs(case: RoutingCase, tier: str, context: RoutingContext, lengths: AnswerLengths) -> tuple[Rung, ...]:
    """``tier`` and what is below it, each cheaper than the one before."""
    ladder = context.ladder
    names = reversed(ladder[: ladder.index(tier) + 1]) if tier in ladder else (tier,)
    found: list[Rung] = []
    for name in names:
        rung = _rung(case, name, lengths)
        if rung is None:
            if name == tier:  # it fits nowhere: there is nothing to reckon with
                found.append(Rung(name, 0.0, 0.0))
            continue
        if not found or rung.expected_usd < found[-1].expected_usd:
            found.append(rung)
    return tuple(found)


def _rung(case: RoutingCase, tier: str, lengths: AnswerLengths) -> Rung | None:
    if (model := serving(case, tier)) is None:
        return None
    return Rung(tier, expected_usd(case, model, lengths), reservation_usd(case.query, (model,), lengths) or 0.0)


def _fairly_drawn(
    decision: Decision, context: RoutingContext, lengths: AnswerLengths, spare_usd: float, unspent_usd: float
) -> Decision:
    """``decision``, which counts as explored only if no other draw would have had it, or another, lowered."""
    if decision.propensity == 1.0:
        return decision
    rungs = (_rung(decision.case, tier, lengths) for tier in context.ladder)
    draws = {rung.tier: rung for rung in rungs if rung is not None}
    bound_usd = draws[decision.tier].expected_usd + spare_usd
    fair = all(one.expected_usd <= bound_usd and one.reserved_usd <= unspent_usd for one in draws.values())
    return decision if fair else decision._replace(propensity=1.0)


def _first_payable(candidate: Candidate, unspent_usd: float) -> int:
    for place, rung in enumerate(candidate.rungs):
        if rung.reserved_usd <= unspent_usd:
            return place
    return len(candidate.rungs) - 1


def _lowered(decision: Decision, rung: Rung, context: RoutingContext) -> Decision:
    if rung.tier == decision.tier:
        return decision._replace(expected_usd=rung.expected_usd)
    return decision._replace(
        tier=rung.tier,
        router="budget",
        model=context.preferred(decision.case, rung.tier),
        reasons=(
            *decision.reasons,
            Reason(ReasonCode.LOWERED, f"the budget: lowered from {decision.tier} to {rung.tier}"),
        ),
        expected_usd=rung.expected_usd,
    )
