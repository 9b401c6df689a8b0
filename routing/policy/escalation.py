"""Escalation: what happens to a query after its answer was rejected."""

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
    """The result of one tier for the query."""

    tier: str
    confidence: float | None
    call_id: int | None
    """The stored answer, which was rejected. None if no answer came."""
    reasons: tuple[str, ...]
    """The judge's reasons, or one per kind of failure. Its value is the code."""
    usable: bool
    """As in `Verdict.usable`. False if no answer came."""
    next_tier: str | None = None
    """The tier that a certified policy chooses next. None is the next tier of the ladder."""


@dataclass(frozen=True, slots=True)
class Escalate:
    """Escalate the query to ``tier``."""

    tier: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Accept:
    """Accept the stored answer of ``call_id``, from ``tier``, as the best available one."""

    call_id: int
    tier: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TiersExhausted:
    """No tier can answer the query."""

    reasons: tuple[str, ...]


Step = Escalate | Accept | TiersExhausted

STAY: Final = frozenset(kind for kind, rule in FAILURE_RULES.items() if not rule.climbs)
"""Failures that a larger tier would only repeat at a higher price, or that the account causes."""

UNKNOWN_CONFIDENCE: Final = 0.5
"""The confidence assumed for an answer without one."""


@dataclass(frozen=True, slots=True)
class RemainingBudget:
    """The amounts, in USD, that may still be reserved for calls."""

    line_usd: float = math.inf
    """What is left of the query's own ``max_cost_usd``. A tier that reserves more is never asked."""
    batch_usd: float = math.inf
    """What is left of its batch's budget. A tier that reserves more is not asked if there is an answer to accept."""
    lengths: AnswerLengths = UNKNOWN_LENGTHS
    """The answer lengths of the batch's forecast. They limit what a call reserves if its budget is tight."""
    was_refused: bool = False
    """A claim of the next tier was refused because it reserved more: it expected a longer answer, or used another
    deployment."""
    others: int = 0
    """The number of other open queries of a degrading batch. Before this query climbs, the budget must have room for a
    call of each at the cheapest tier."""

    def for_others_usd(self, query: Query, fleet: Fleet) -> float:
        """Return what the ``others`` reserve there, if they are like ``query``."""
        rooms = (fitting(query, fleet=fleet, tier=tier) for tier in fleet.ladder) if self.others else ()
        cheapest = next((models for models in rooms if models), ())
        return self.others * (reservation_usd(query, cheapest, self.lengths) or 0.0)

    def batch_reservation_usd(self, query: Query, models: Sequence[Model]) -> float | None:
        """Return what a call of one of ``models`` reserves of ``batch_usd``. None without models.

        After a refusal this is the largest reservation, because with a smaller one the query would go back and forth.
        """
        if self.was_refused:
            return max((worst_usd(query, model) for model in models), default=None)
        return reservation_usd(query, models, self.lengths)


def next_step(
    history: Sequence[TierAttempt], *, query: Query, fleet: Fleet, remaining: RemainingBudget = RemainingBudget()
) -> Step:
    """Return what follows for ``query`` after the attempts in ``history`` (latest last).

    The query goes to the next tier by ``escalates_to`` that has room and was not tried. If there is none, the best
    usable answer is accepted. Otherwise the tiers are exhausted. Each tier is asked at most once, so there are never
    more steps than tiers. A pinned query keeps its tier. After a failure of the kinds in ``STAY``, a query climbs only
    to a provider whose ``failover_on`` asks for it.
    """
    if not history:
        return TiersExhausted(("no tier was tried",))
    last = history[-1]
    best = _best(history, fleet)
    above, stops = _above(
        history, query, fleet, remaining if best is not None else replace(remaining, batch_usd=math.inf)
    )
    if above is not None:
        is_sampled = any(code_of(reason) == ReasonCode.PILOT for reason in last.reasons)
        how = f"the pilot asks {above} too" if is_sampled else f"escalated to {above}"
        return Escalate(above, (*_why(last), *stops, how))
    if best is None or best.call_id is None:
        return TiersExhausted((*_why(last), *stops, "no answer is usable"))
    stated = "unknown" if best.confidence is None else f"{best.confidence:.2f}"
    return Accept(
        best.call_id, best.tier, (*_why(last), *stops, f"the best answer is from {best.tier}, with confidence {stated}")
    )


def _above(
    history: Sequence[TierAttempt], query: Query, fleet: Fleet, remaining: RemainingBudget
) -> tuple[str | None, tuple[str, ...]]:
    """Return the tier to escalate to, or None, with the reasons against other tiers."""
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
            stops.append(f"{tier} was tried already")
        elif not (models := fitting(query, fleet=fleet, tier=tier)):
            stops.append(f"the query does not fit the context of {tier}")
        elif query.effort is not None and _are_asked_alike(models, tried, fleet):
            stops.append(
                f"{tier} would repeat the call: the model was tried, and the query sets its own reasoning_effort"
            )
        elif (short := _short(query, models, tier, remaining, fleet)) is not None:
            stops.append(short)
        elif staying and not _takes_over(tier, staying, fleet):
            stops.append(
                f"{tier} is asked after {', '.join(sorted(staying))} only if failover_on of its provider includes it"
            )
        else:
            return tier, tuple(stops)
    return None, (*stops, "there is no higher tier")


def _are_asked_alike(models: Sequence[Model], tried: Iterable[str], fleet: Fleet) -> bool:
    """Whether ``models`` differ from those of the ``tried`` tiers only in their reasoning effort."""
    asked = {model.model for tier in tried if tier in fleet.tiers for model in fleet.deployments(tier)}
    return all(model.model in asked for model in models)


def _short(query: Query, models: Sequence[Model], tier: str, remaining: RemainingBudget, fleet: Fleet) -> str | None:
    """Return why the budget does not pay for ``tier``, or None."""
    price = reservation_usd(query, models)
    if price is not None and price > remaining.line_usd:
        return f"max_cost_usd has ${max(remaining.line_usd, 0.0):.6f} left, but {tier} reserves ${price:.6f}"
    price, kept_usd = remaining.batch_reservation_usd(query, models), remaining.for_others_usd(query, fleet)
    if price is not None and price > remaining.batch_usd - kept_usd:
        kept = f"(${kept_usd:.6f} of it for {remaining.others:,} other queries)" if kept_usd else ""
        text = f"the budget has ${max(remaining.batch_usd, 0.0):.6f} left{kept}, but {tier} reserves ${price:.6f}"
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
    """Return the kinds of failure that keep the query from climbing. None of them applies if an answer came."""
    if attempt.call_id is not None:
        return frozenset()
    codes = {code_of(reason) for reason in attempt.reasons}
    return frozenset(kind for kind in STAY if kind.value in codes)


def _takes_over(tier: str, kinds: frozenset[FailureKind], fleet: Fleet) -> bool:
    providers = (fleet.providers[model.provider] for model in fleet.deployments(tier))
    return any(all(takes_over(kind, provider) for kind in kinds) for provider in providers)


def _best(history: Sequence[TierAttempt], fleet: Fleet) -> TierAttempt | None:
    """Return the usable answer with the highest confidence. Ties go to the larger tier, then to the latest.

    A complete answer goes before one that was cut off.
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
