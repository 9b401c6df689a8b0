"""Degradation of a batch when its budget is too small for all queries: the least hard queries go to cheaper tiers
first.

The open queries of the batch share what is left of the budget. If the expected cost of a chunk exceeds its share, its
queries are lowered one rung at a time: the least hard query first, then the next. A second rung comes only after each
query went down one. So if two queries were at the same tier, the harder one never ends at the cheaper tier. If even the
cheapest tiers cost too much, the claim holds the query.
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
    """A tier at which a query could be answered, with its costs in USD."""

    tier: str
    expected_usd: float
    reserved_usd: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """A query with its tier and then the cheaper tiers with room for it, in descending order."""

    hardness: float
    rungs: tuple[Rung, ...]


@dataclass(frozen=True, slots=True)
class DegradingBudget:
    """What is left of the budget of a batch that degrades, in USD."""

    batch_id: int
    unspent_usd: float
    open_queries: int
    spared_usd: float = 0.0
    """The amount that earlier chunks did not use of their shares."""
    lengths: AnswerLengths = field(default=UNKNOWN_LENGTHS, compare=False)
    """The answer lengths that the batch's forecast used."""

    def share_usd(self, count: int) -> float:
        """Return the share, in USD, of ``count`` of the open queries."""
        even = self.unspent_usd * count / max(self.open_queries, count)
        return min(self.unspent_usd, even + self.spared_usd)


class QueryBudget(NamedTuple):
    """The budgets that limit one query."""

    left_usd: float | None = None
    """What is left of its ``max_cost_usd``, in USD. None without a limit."""
    batch: DegradingBudget | None = None
    """None if the batch has no budget, or if its policy is to hold or fail queries over the budget."""


def fit_to_budgets(
    decisions: Sequence[Decision], budgets: Sequence[QueryBudget], context: RoutingContext
) -> list[Decision]:
    """Return ``decisions``, lowered until ``budgets`` pay for them: first the batches' shares, then each query's own
    limit.

    A decision that waits for a vote is not changed and takes no share yet.
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
    """Return for each candidate the index of its rung (0: unchanged), so that all are expected to cost ``share_usd``.

    A rung that reserves more than ``unspent_usd``, all that is left of the budget, cannot be paid and is skipped. If
    even the last rungs exceed the share, all candidates get their last rung.
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
    """Lower the least hard of ``decisions`` until all are expected to cost ``share_usd``; set each one's expected cost.

    Pinned queries, and those at a tier off the ladder, are not lowered. If any query is lowered, none counts as
    explored. Otherwise a query loses its exploration if another draw would have caused a lowering. Without this the log
    would hold the cheap draws of a nearly exhausted budget, but not the expensive ones.
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
    """Return the next tier below ``tier`` that has room for ``query`` and reserves less. None if there is none, or for
    a pin."""
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
    """Return ``tier`` and the tiers below it, each cheaper than the one before."""
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
    """Return ``decision``, explored only if no other draw would have caused it, or another one, to be lowered."""
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
