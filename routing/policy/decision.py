"""The policy: from opinions to a tier.

A pin decides alone; then the fleet's rule for the query's workload; then the gate where it is sure that a query is
hard; then the classifier, where it was trained for that workload; what is still uncertain may go to the LLM router. A
vote leads to the tier of the least expected loss (see `routing.policy.expected_loss`), ties going up. Where there is no
vote that counts, the text says nothing of which tier is good enough (measured: docs/routing.md), so the answers decide:
the lowest tier whose confidence is calibrated for the workload answers first; where there is none, the top tier does.

Where the simulator makes up the answers, it makes up difficulties from the text as well: there the gate's guesses count
too, and a prior that takes the query for at least middling hard (see `routing.policy.success_probability`).

What holds of it (tests/unit/routing/policy/test_policy_properties.py):

* a larger λ never routes lower;
* nor does a more doubtful cheapest tier, nor a query that is harder in the way that hard queries
  are: for cheap tiers at least as much as for expensive ones;
* a tier is never believed to do better than a more expensive one;
* no query goes where it does not fit, as long as it fits anywhere;
* a text that addresses the router goes to the top tier, and a text in disguise is read without it.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from routing.budget.degradation import QueryBudget, fit_to_budgets
from routing.fleet import Fleet
from routing.heuristics.unicode_obfuscation import normalize_homoglyphs
from routing.pilot import PilotStart
from routing.policy.expected_loss import losses, lowest_loss
from routing.policy.llm_router_prompt import RouterVote, cut
from routing.policy.routing_case import Decision, RoutingCase, RoutingContext
from routing.policy.success_probability import SuccessProbabilities, from_named_tier, from_vote, mixed, prior
from routing.query import Query
from routing.reason import Reason, ReasonCode

__all__ = ["Decision", "Predictor", "RouterVote", "apply_llm_votes", "decide", "top_in_doubt"]

_TINY: Final = 1e-9

ENDPOINT: Final = "endpoint"
"""The router of embeddings: the endpoint that they are for decides. Nothing is learned from it."""


class Predictor(Protocol):
    """A trained classifier. It is built outside ``routing/`` and handed in."""

    @property
    def name(self) -> str:
        """What its opinions and the routing log call it."""
        ...

    @property
    def workload(self) -> str | None:
        """What it was trained for: a workload's name, the simulator, or None for whatever its user has it serve."""
        ...

    def __call__(self, queries: Sequence[Query]) -> Sequence[RouterVote]:
        """One opinion for each of ``queries``, in their order."""
        ...


def decide(
    queries: Sequence[Query],
    *,
    fleet: Fleet,
    predictor: Predictor | None,
    draws: Sequence[float] | None = None,
    starts: Sequence[PilotStart | None] | None = None,
    budgets: Sequence[QueryBudget] | None = None,
) -> list[Decision]:
    """A decision for each of ``queries``, in their order; each query is analyzed once.

    ``predictor`` is asked once, for all queries that are still open. The other sequences have an item for each query:
    ``draws`` are uniforms in [0, 1), without which nothing is explored; ``starts`` are the tiers that pilots and their
    policies ask first; ``budgets`` is what is left for them. A decision that wants the LLM router's vote is explored
    and fitted to its budget by `apply_llm_votes`.
    """
    context = RoutingContext(fleet)
    cases = [context.analyze(query) for query in queries]
    votes = _ask(predictor, cases, context)
    decisions = [_conclude(case, vote, context) for case, vote in zip(cases, votes, strict=True)]
    decisions = _explored(decisions, draws, context)
    if starts is not None:
        decisions = [_started(*pair, context) for pair in zip(decisions, starts, strict=True)]
    return decisions if budgets is None else fit_to_budgets(decisions, budgets, context)


def apply_llm_votes(
    decisions: Sequence[Decision],
    votes: Sequence[RouterVote | None],
    *,
    fleet: Fleet,
    draws: Sequence[float] | None = None,
    budgets: Sequence[QueryBudget] | None = None,
) -> list[Decision]:
    """``decisions`` with the LLM router's ``votes`` (None: it abstained) where they are wanted; then none is wanted.

    The probabilities move towards the LLM's by its share of the confidence. Its vote alone takes a query down by one
    rung at most. ``draws`` and ``budgets`` are as in `decide`.
    """
    context = RoutingContext(fleet)
    voted = [
        _blend_llm_vote(decision, vote, context) if decision.wants_vote else decision
        for decision, vote in zip(decisions, votes, strict=True)
    ]
    if draws is not None:
        pending = [place for place, decision in enumerate(decisions) if decision.wants_vote]
        explored = _explored([voted[place] for place in pending], [draws[place] for place in pending], context)
        for place, decision in zip(pending, explored, strict=True):
            voted[place] = decision
    return voted if budgets is None else fit_to_budgets(voted, budgets, context)


def top_in_doubt(query: Query, error: Exception, *, fleet: Fleet) -> Decision:
    """The top tier, for a query that the rules cannot read; its analysis is that of an empty text."""
    return Decision(
        RoutingContext(fleet).analyze(Query(""))._replace(query=query),
        tier=fleet.top,
        router="none",
        confidence=None,
        score=1.0,
        reasons=(f"the router failed ({type(error).__name__}): in doubt, up",),
    )


def _ask(predictor: Predictor | None, cases: Sequence[RoutingCase], context: RoutingContext) -> list[RouterVote | None]:
    """The classifier's opinions, None for the queries that it was not asked about."""
    opinions: list[RouterVote | None] = [None] * len(cases)
    if predictor is None or not context.asks_classifier:
        return opinions
    asked = [
        place for place, case in enumerate(cases) if case.is_open and context.counts(predictor.workload, case.query)
    ]
    if asked:
        answers = predictor([_undisguised(cases[place]) for place in asked])
        for place, answer in zip(asked, answers, strict=True):
            opinions[place] = answer
    return opinions


def _undisguised(case: RoutingCase) -> Query:
    query = case.query
    if not case.features.disguised:
        return query
    return query._replace(text=normalize_homoglyphs(cut(query.text, _MOST_UNDISGUISED_CHARS)))


_MOST_UNDISGUISED_CHARS: Final = 20_000
"""Four times what a classifier reads of a text."""


def _conclude(case: RoutingCase, opinion: RouterVote | None, context: RoutingContext) -> Decision:
    """The decision by pin, rule, gate and classifier, in this order."""
    if case.pin is not None:
        return _pinned(case, case.pin, context)
    if case.rule is not None:
        return _by_rule(case, case.rule, context)
    if case.sure and case.gate is not None:
        return _by_gate(case, case.gate, context)
    if opinion is not None and (decision := _follow_vote(case, opinion, context)) is not None:
        return decision
    if not context.fleet.makes_up_answers:
        return _without_evidence(case, context)
    if case.gate is not None and (decision := _follow_vote(case, case.gate, context)) is not None:
        return decision
    abstained = tuple(voice.reason for voice in (opinion, case.gate) if voice is not None)
    belief = prior(case.score, len(context.ladder))
    reasons = (*abstained, "no router was confident; chose a higher tier")
    return _weigh(case, belief, context, router="prior", confidence=0.0, reasons=reasons)


def _without_evidence(case: RoutingCase, context: RoutingContext) -> Decision:
    """Where no vote counts: the answers decide, from the lowest tier whose confidence means something; else the top."""
    tier = context.first_to_ask(case)
    if tier is not None:
        notes: tuple[str, ...] = ()
        reason = Reason(
            ReasonCode.CASCADE, f"no evidence by its text: {tier} answers first, and its calibrated confidence decides"
        )
    else:
        tier, notes = context.place(case, context.ladder[-1])
        reason = Reason(
            ReasonCode.NO_EVIDENCE, f"no evidence by its text, and no calibrated confidence below {tier}: to the top"
        )
    asks = context.asks_llm and sum(rung in case.room for rung in context.ladder) > 1
    return Decision(
        case,
        tier=tier,
        router="ladder",
        confidence=None,
        score=case.score,
        reasons=(*case.notes, reason, *notes),
        p_ok=dict(zip(context.ladder, prior(case.score, len(context.ladder)), strict=True)) if asks else {},
        model=context.preferred(case, tier),
        wants_vote=asks,
    )


def _pinned(case: RoutingCase, pinned: str, context: RoutingContext) -> Decision:
    """The tier that the user named; where the query does not fit it, the next one up, with the reason.

    A model that is named is kept: its tier is taken even where the query is estimated not to fit, as the estimate may
    be wrong and no other model may answer in its place. There the query is answered by that model, or fails.
    """
    name = case.query.pin or pinned
    if name in context.fleet.tiers:
        tier, notes = context.place(case, pinned)
        model = context.preferred(case, tier)
    else:
        models = context.fleet.pinned(name, pinned)
        tier, model = pinned, next((each.name for each in models), None)
        fits = any(each in case.room.get(pinned, ()) for each in models)
        notes = () if fits else (f"no room in {name} for about {case.needed} tokens",)
    if tier not in context.deployments:
        why = f"embeddings, which {name} of tier {tier} answers"
        return _decided(case, tier, router=ENDPOINT, confidence=1.0, reasons=(why,), model=model)
    return _decided(case, tier, router="pin", confidence=1.0, reasons=(f"pinned to {name}", *notes), model=model)


def _by_rule(case: RoutingCase, ruled: str, context: RoutingContext) -> Decision:
    """The tier that the fleet names for the query's workload, or the next up that it fits. Its answers may climb."""
    tier, notes = context.place(case, ruled)
    reason = Reason(
        ReasonCode.WORKLOAD_RULE, f"the fleet's rule for workload {case.query.workload or case.query.template}: {ruled}"
    )
    model = context.preferred(case, tier)
    return _decided(case, tier, router="rule", confidence=1.0, reasons=(reason, *notes), model=model)


def _by_gate(case: RoutingCase, gate: RouterVote, context: RoutingContext) -> Decision:
    """The tier that a sure gate names, without weighing: its confidence is not a calibrated figure."""
    tier, notes = context.place(case, gate.tier or context.ladder[-1])
    return _decided(
        case,
        tier,
        router=gate.router,
        confidence=gate.confidence,
        reasons=(gate.reason, *notes),
        model=context.preferred(case, tier),
    )


def _decided(
    case: RoutingCase, tier: str, *, router: str, confidence: float, reasons: tuple[str, ...], model: str | None
) -> Decision:
    """A decision that nothing had to be weighed for."""
    return Decision(
        case,
        tier=tier,
        router=router,
        confidence=confidence,
        score=case.score,
        reasons=(*case.notes, *reasons),
        model=model,
    )


def _follow_vote(case: RoutingCase, opinion: RouterVote, context: RoutingContext) -> Decision | None:
    """What follows from one opinion, or None where it abstains."""
    if context.is_off_ladder(opinion.tier):
        if (aside := _aside(case, opinion, context)) is not None:
            return aside
        belief: SuccessProbabilities | None = from_named_tier(
            len(context.ladder) - 1, opinion.confidence, len(context.ladder)
        )
    else:
        belief = from_vote(opinion, context.ladder)
    if belief is None:
        return None
    return _weigh(
        case,
        belief,
        context,
        router=opinion.router,
        confidence=opinion.confidence,
        reasons=(opinion.reason,),
        score=opinion.score,
    )


def _aside(case: RoutingCase, opinion: RouterVote, context: RoutingContext) -> Decision | None:
    """The decision for a tier off the ladder, if the opinion is sure of it and the query fits there."""
    tier = opinion.tier
    if tier is None or tier not in case.room or opinion.confidence < context.policy.classifier_sure:
        return None
    return _decided(
        case,
        tier,
        router=opinion.router,
        confidence=opinion.confidence,
        reasons=(opinion.reason,),
        model=context.preferred(case, tier),
    )


def _weigh(
    case: RoutingCase,
    belief: SuccessProbabilities,
    context: RoutingContext,
    *,
    router: str,
    confidence: float | None,
    reasons: tuple[str, ...],
    floor: str | None = None,
    score: float | None = None,
) -> Decision:
    """The decision for the tier of the least expected loss, or for ``floor`` where that is higher."""
    weighed = losses(case, belief, context)
    if weighed:
        tier, notes = lowest_loss(weighed), _explain(weighed, case, context)
    else:
        tier, notes = context.place(case, context.ladder[-1])
    if floor is not None and context.is_below(tier, floor):
        tier, held = context.place(case, floor)
        notes = (*notes, f"not below {floor}", *held)
    return Decision(
        case,
        tier=tier,
        router=router,
        confidence=confidence,
        score=case.score if score is None else score,
        reasons=(*case.notes, *reasons, *notes),
        p_ok=dict(zip(context.ladder, belief, strict=True)),
        model=context.preferred(case, tier),
        wants_vote=context.asks_llm and (confidence or 0.0) < context.policy.classifier_sure and len(weighed) > 1,
    )


def _explain(weighed: Mapping[str, float], case: RoutingCase, context: RoutingContext) -> tuple[str, ...]:
    if len(weighed) == len(context.ladder):
        return (Reason(ReasonCode.EXPECTED_LOSS, context.loss_words % tuple(weighed.values())),)
    description = "expected loss: " + ", ".join([f"{tier} {loss:.3f}" for tier, loss in weighed.items()])
    left_out = ", ".join(tier for tier in context.ladder if tier not in weighed)
    return Reason(ReasonCode.EXPECTED_LOSS, description), f"no room in {left_out} for about {case.needed} tokens"


def _blend_llm_vote(decision: Decision, opinion: RouterVote | None, context: RoutingContext) -> Decision:
    """``decision`` after the LLM router's vote."""
    case, settled = decision.case, decision._replace(wants_vote=False)
    if opinion is None:
        return settled._replace(reasons=(*decision.reasons, "the LLM router was silent"))
    if context.is_off_ladder(opinion.tier):
        aside = _aside(case, opinion, context)
        doubted = settled._replace(reasons=(*decision.reasons, opinion.reason, "in doubt or without room: not there"))
        return doubted if aside is None else aside._replace(reasons=(*decision.reasons, *aside.reasons))
    theirs = from_vote(opinion, context.ladder)
    if theirs is None:
        return settled._replace(reasons=(*decision.reasons, opinion.reason))
    ours = tuple(decision.p_ok[tier] for tier in context.ladder)
    own = decision.confidence or 0.0
    weight = opinion.confidence / max(opinion.confidence + own, _TINY)
    folded = _weigh(
        case._replace(notes=()),
        mixed(ours, theirs, weight=min(max(weight, 0.0), 1.0)),
        context,
        router=opinion.router,
        confidence=max(opinion.confidence, own),
        reasons=(*decision.reasons, opinion.reason),
        floor=_lowest(decision.tier, context),
    )
    return folded._replace(case=case, wants_vote=False, score=opinion.score)


def _lowest(tier: str, context: RoutingContext) -> str | None:
    """The lowest tier to which an LLM's word may bring a query that stood at ``tier``."""
    if tier not in context.ladder:
        return None
    return context.ladder[max(context.ladder.index(tier) - 1, 0)]


def _explored(decisions: list[Decision], draws: Sequence[float] | None, context: RoutingContext) -> list[Decision]:
    """``decisions``, those that wait for no vote explored by ``draws``."""
    if draws is None or context.policy.exploration <= 0:
        return decisions
    return [
        decision if decision.wants_vote else _explore(decision, draw, context)
        for decision, draw in zip(decisions, draws, strict=True)
    ]


def _explore(decision: Decision, draw: float, context: RoutingContext) -> Decision:
    """``decision``, or with probability ε a tier at random among those that fit; with its propensity."""
    case = decision.case
    arms = [tier for tier in context.ladder if tier in case.room]
    if case.pin is not None or case.rule is not None or decision.tier not in arms or len(arms) < 2:
        return decision
    share = min(context.policy.exploration, 1.0)
    drawn = arms[min(int(draw / share * len(arms)), len(arms) - 1)] if draw < share else decision.tier
    if drawn == decision.tier:
        return decision._replace(propensity=1.0 - share + share / len(arms))
    return decision._replace(
        tier=drawn,
        router="exploration",
        propensity=share / len(arms),
        model=context.preferred(case, drawn),
        reasons=(*decision.reasons, f"explored instead of {decision.tier}"),
    )


def _started(decision: Decision, start: PilotStart | None, context: RoutingContext) -> Decision:
    """``decision``, or where a pilot has the query start: at its tier or the next one up that the query fits.

    A pilot moves no query off the tier that its pin, its attachments or its tools demand.
    """
    case, ladder = decision.case, context.ladder
    if start is None or decision.tier not in ladder or case.query.is_pinned:
        return decision
    tier = next((name for name in ladder[ladder.index(start.tier) :] if name in case.room), context.fleet.top)
    return decision._replace(
        tier=tier,
        router=start.router,
        confidence=None,
        model=None,
        reasons=(start.reason,),
        propensity=1.0,
        wants_vote=False,
    )
