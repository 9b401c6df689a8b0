"""The ladder: what becomes of a query whose answer was rejected."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from routing.answer_lengths import UNKNOWN_LENGTHS, AnswerLengths
from routing.budget.query_budget import reservation_usd, worst_usd
from routing.context_window import fitting
from routing.fleet import Fleet, Model
from routing.outcome import FAILURE_RULES, FailureKind
from routing.policy.failover import takes_over
from routing.query import Query
from routing.reason import Reason, ReasonCode, code_of


@dataclass(frozen=True, slots=True)
class TierAttempt:
    """What one tier gave for the query."""

    tier: str
    confidence: float | None
    call_id: int | None
    """The stored answer, rejected but there; None where no answer came."""
    reasons: tuple[str, ...]
    """The judge's, or one per kind of failure, whose value is the code."""
    usable: bool
    """As in `Verdict.usable`; False where no answer came."""
    next_tier: str | None = None
    """Where a certified policy sends it; None is the next tier of the ladder."""


@dataclass(frozen=True, slots=True)
class Escalate:
    """Send it to ``tier``."""

    tier: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Accept:
    """The stored answer of ``call_id``, from ``tier``, is the best that is to be had."""

    call_id: int
    tier: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TiersExhausted:
    """No tier can answer it."""

    reasons: tuple[str, ...]


Step = Escalate | Accept | TiersExhausted

STAY: Final = frozenset(kind for kind, rule in FAILURE_RULES.items() if not rule.climbs)
"""Failures that a larger tier would only repeat at a higher price, or that are the account's."""

UNKNOWN_CONFIDENCE: Final = 0.5
"""The confidence that an answer without one counts for."""


@dataclass(frozen=True, slots=True)
class RemainingBudget:
    """What may still be spent, in dollars, against a call's reservation."""

    line_usd: float = math.inf
    """Of the query's own ``max_cost_usd``: a tier that reserves more is never asked."""
    batch_usd: float = math.inf
    """Of its batch's budget: a tier that reserves more is not asked where there is an answer to accept."""
    lengths: AnswerLengths = UNKNOWN_LENGTHS
    """What the batch's forecast knew of the answers: what a call reserves where its budget is tight."""
    was_refused: bool = False
    """A claim of the next tier was refused, which reserved more than that: a longer answer, or another deployment."""
    others: int = 0
    """How many other queries of a degrading batch have not ended: before this one climbs, there is room for a call of
    each at the cheapest tier."""

    def for_others_usd(self, query: Query, fleet: Fleet) -> float:
        """What the ``others`` reserve there, if they are like ``query``."""
        rooms = (fitting(query, fleet=fleet, tier=tier) for tier in fleet.ladder) if self.others else ()
        cheapest = next((models for models in rooms if models), ())
        return self.others * (reservation_usd(query, cheapest, self.lengths) or 0.0)

    def batch_reservation_usd(self, query: Query, models: Sequence[Model]) -> float | None:
        """What a call of one of ``models`` reserves of ``batch_usd``; None where there is no model.

        After a refusal it is the most that one reserves: with less the query would go to and fro.
        """
        if self.was_refused:
            return max((worst_usd(query, model) for model in models), default=None)
        return reservation_usd(query, models, self.lengths)


def next_step(
    history: Sequence[TierAttempt], *, query: Query, fleet: Fleet, remaining: RemainingBudget = RemainingBudget()
) -> Step:
    """What becomes of ``query`` after the attempts in ``history``, the latest last.

    Up to the next tier by ``escalates_to`` that the query fits and that had no attempt; where
    there is none, the best usable answer; else the end. Each tier is asked at most once, so there
    are never more steps than tiers. A pinned query stays where its user put it, and a failure of
    the kinds in ``STAY`` leads up only to a provider whose ``failover_on`` asks for that.
    """
    if not history:
        return TiersExhausted(("nothing was tried",))
    last = history[-1]
    best = _best(history, fleet)
    above, stops = _above(
        history, query, fleet, remaining if best is not None else replace(remaining, batch_usd=math.inf)
    )
    if above is not None:
        return Escalate(above, (*_why(last), *stops, f"up to {above}"))
    if best is None or best.call_id is None:
        return TiersExhausted((*_why(last), *stops, "no usable answer"))
    stated = "unknown" if best.confidence is None else f"{best.confidence:.2f}"
    return Accept(best.call_id, best.tier, (*_why(last), *stops, f"the best answer: {best.tier}, confidence {stated}"))


def _above(
    history: Sequence[TierAttempt], query: Query, fleet: Fleet, remaining: RemainingBudget
) -> tuple[str | None, tuple[str, ...]]:
    """The tier to go to, or None; and why not elsewhere."""
    last = history[-1]
    if query.is_pinned:
        return None, (f"pinned to {query.pin}",)
    tried = {attempt.tier for attempt in history}
    staying = _staying(last)
    stops: list[str] = []
    rungs = list(_rungs_above(last.tier, fleet))
    if last.next_tier in rungs:
        rungs = rungs[rungs.index(last.next_tier) :]
    for tier in rungs:
        if tier in tried:
            stops.append(f"{tier} was tried")
        elif not (models := fitting(query, fleet=fleet, tier=tier)):
            stops.append(f"no room in {tier}")
        elif query.effort is not None and _are_asked_alike(models, tried, fleet):
            stops.append(f"{tier} has the same model, and the query sets its reasoning_effort itself")
        elif (short := _short(query, models, tier, remaining, fleet)) is not None:
            stops.append(short)
        elif staying and not _takes_over(tier, staying, fleet):
            stops.append(f"{tier} would do no better after {', '.join(sorted(staying))}")
        else:
            return tier, tuple(stops)
    return None, (*stops, "no tier is above")


def _are_asked_alike(models: Sequence[Model], tried: Iterable[str], fleet: Fleet) -> bool:
    """Whether ``models`` differ from those of the ``tried`` tiers by their reasoning effort alone."""
    asked = {model.model for tier in tried if tier in fleet.tiers for model in fleet.deployments(tier)}
    return all(model.model in asked for model in models)


def _short(query: Query, models: Sequence[Model], tier: str, remaining: RemainingBudget, fleet: Fleet) -> str | None:
    """Why ``tier`` cannot be paid for, if so."""
    price = reservation_usd(query, models)
    if price is not None and price > remaining.line_usd:
        return f"max_cost_usd leaves ${max(remaining.line_usd, 0.0):.6f}, {tier} reserves ${price:.6f}"
    price, kept_usd = remaining.batch_reservation_usd(query, models), remaining.for_others_usd(query, fleet)
    if price is not None and price > remaining.batch_usd - kept_usd:
        kept = f", ${kept_usd:.6f} of it for {remaining.others:,} other queries" if kept_usd else ""
        text = f"the budget has ${max(remaining.batch_usd, 0.0):.6f} left{kept}; {tier} reserves ${price:.6f}"
        return Reason(ReasonCode.OVER_BUDGET, text)
    return None


def _rungs_above(tier: str, fleet: Fleet) -> Iterator[str]:
    seen = {tier}
    here = fleet.tiers.get(tier)
    rung = fleet.top if here is None else here.escalates_to
    while rung is not None and rung not in seen:
        yield rung
        seen.add(rung)
        rung = fleet.tiers[rung].escalates_to


def _staying(attempt: TierAttempt) -> frozenset[FailureKind]:
    """The kinds of failure that keep the query from climbing; none where an answer came."""
    if attempt.call_id is not None:
        return frozenset()
    codes = {code_of(reason) for reason in attempt.reasons}
    return frozenset(kind for kind in STAY if kind.value in codes)


def _takes_over(tier: str, kinds: frozenset[FailureKind], fleet: Fleet) -> bool:
    providers = (fleet.providers[model.provider] for model in fleet.deployments(tier))
    return any(all(takes_over(kind, provider) for kind in kinds) for provider in providers)


def _best(history: Sequence[TierAttempt], fleet: Fleet) -> TierAttempt | None:
    """The usable answer of the highest confidence; among equals the larger tier's, then the latest.

    A whole answer goes before one that was cut off.
    """
    order = {tier: rung for rung, tier in enumerate(fleet.tiers)}

    def rank(place: int) -> tuple[bool, float, int, int]:
        attempt = history[place]
        confidence = UNKNOWN_CONFIDENCE if attempt.confidence is None else attempt.confidence
        is_whole = ReasonCode.TRUNCATED not in map(code_of, attempt.reasons)
        return is_whole, confidence, order.get(attempt.tier, -1), place

    usable = [place for place, attempt in enumerate(history) if attempt.usable and attempt.call_id is not None]
    return history[max(usable, key=rank)] if usable else None


def _why(attempt: TierAttempt) -> tuple[str, ...]:
    return tuple(Reason(code_of(reason, "fallback"), f"{attempt.tier}: {reason}") for reason in attempt.reasons[:3])
