"""The policy that turns votes into a tier.

A pin decides alone. Next comes the fleet's rule for the query's workload, then the gate if it is sure that a query is
hard, then the classifier if it was trained for that workload. The LLM router may vote on queries that are still
uncertain. A vote leads to the tier with the least expected loss (see `routing.policy.expected_loss`); ties go up.
Without a vote that counts, the text does not show which tier is good enough (measured: docs/routing.md), so the answers
decide: the lowest tier with a confidence that is calibrated for the workload answers first. If there is none, the top
tier answers.

If the simulator makes up the answers, it also derives difficulties from the text. The gate's guesses count then, and so
does a prior that assumes at least medium difficulty (see `routing.policy.success_probability`).

Its properties (tests/unit/routing/policy/test_policy_properties.py):

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
"""The router of embeddings: their endpoint decides. Nothing is learned from it."""


class Predictor(Protocol):
    """A trained classifier. It is built outside ``routing/`` and passed in."""

    @property
    def name(self) -> str:
        """The classifier's name in its votes and in the routing log."""
        ...

    @property
    def workload(self) -> str | None:
        """What the classifier was trained for: the name of a workload, the simulator, or None for anything that its
        user serves."""
        ...

    def __call__(self, queries: Sequence[Query]) -> Sequence[RouterVote]:
        """Return one vote for each of ``queries``, in the same order."""
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
    """Return a decision for each of ``queries``, in the same order. Each query is analyzed once.

    ``predictor`` is called once, for all queries that are still open. The other sequences have an item for each query:
    ``draws`` are uniform numbers in [0, 1) for exploration (without them nothing is explored); ``starts`` are the tiers
    that pilots and their policies ask first; ``budgets`` is what is left for the queries. For a decision that needs the
    LLM router's vote, `apply_llm_votes` does the exploration and the fit to the budget.
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
    """Return ``decisions`` with the LLM router's ``votes`` applied where they are needed. A vote of None abstains.

    The probabilities move towards the LLM's in proportion to its confidence. Its vote alone lowers a query by at most
    one rung. ``draws`` and ``budgets`` are as in `decide`.
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
    """Return the top tier, for a query that the rules cannot read. Its analysis is that of an empty text."""
    return Decision(
        RoutingContext(fleet).analyze(Query(""))._replace(query=query),
        tier=fleet.top,
        router="none",
        confidence=None,
        score=1.0,
        reasons=(f"the router failed ({type(error).__name__}), so the top tier answers",),
    )


def _ask(predictor: Predictor | None, cases: Sequence[RoutingCase], context: RoutingContext) -> list[RouterVote | None]:
    """Return the classifier's votes, with None for the queries that it was not asked about."""
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
"""Four times the characters that a classifier reads."""


def _conclude(case: RoutingCase, opinion: RouterVote | None, context: RoutingContext) -> Decision:
    """Return the decision by pin, rule, gate and classifier, in this order."""
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
    reasons = (*abstained, "no router was confident, so a higher tier was chosen")
    return _weigh(case, belief, context, router="prior", confidence=0.0, reasons=reasons)


def _without_evidence(case: RoutingCase, context: RoutingContext) -> Decision:
    """Return the decision if no vote counts: the lowest tier with a calibrated confidence, else the top tier."""
    tier = context.first_to_ask(case)
    if tier is not None:
        notes: tuple[str, ...] = ()
        reason = Reason(
            ReasonCode.CASCADE,
            f"the text does not show which tier suffices: {tier} answers first, and its calibrated confidence decides",
        )
    else:
        tier, notes = context.place(case, context.ladder[-1])
        reason = Reason(
            ReasonCode.NO_EVIDENCE,
            f"the text does not show which tier suffices, and no tier below {tier} has a calibrated confidence: "
            f"{tier} answers",
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
    """Return the tier that the user named. If it has no room for the query, return the next one up, with the reason.

    A named model is kept: its tier is chosen even if the query is estimated not to fit, because the estimate may be
    wrong and no other model may answer in its place. The query is answered by that model, or fails.
    """
    name = case.query.pin or pinned
    if name in context.fleet.tiers:
        tier, notes = context.place(case, pinned)
        model = context.preferred(case, tier)
    else:
        models = context.fleet.pinned(name, pinned)
        tier, model = pinned, next((each.name for each in models), None)
        fits = any(each in case.room.get(pinned, ()) for each in models)
        notes = () if fits else (f"the query (about {case.needed} tokens) does not fit the context of {name}",)
    if tier not in context.deployments:
        why = f"embeddings are answered by {name} of tier {tier}"
        return _decided(case, tier, router=ENDPOINT, confidence=1.0, reasons=(why,), model=model)
    return _decided(case, tier, router="pin", confidence=1.0, reasons=(f"pinned to {name}", *notes), model=model)


def _by_rule(case: RoutingCase, ruled: str, context: RoutingContext) -> Decision:
    """Return the tier that the fleet names for the query's workload, or the next one up with room. Its answers may
    climb."""
    tier, notes = context.place(case, ruled)
    reason = Reason(
        ReasonCode.WORKLOAD_RULE, f"the fleet's rule for workload {case.query.workload_or_template}: {ruled}"
    )
    model = context.preferred(case, tier)
    return _decided(case, tier, router="rule", confidence=1.0, reasons=(reason, *notes), model=model)


def _by_gate(case: RoutingCase, gate: RouterVote, context: RoutingContext) -> Decision:
    """Return the tier that a sure gate names, without weighing losses, because its confidence is not calibrated."""
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
    """Return a decision that needed no weighing."""
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
    """Return the decision that follows from one vote, or None if the vote abstains."""
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
    """Return the decision for a tier off the ladder, if the vote is sure of it and the tier has room."""
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
    """Return the decision for the tier with the least expected loss, or for ``floor`` if that is higher."""
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
    return Reason(
        ReasonCode.EXPECTED_LOSS, description
    ), f"the query (about {case.needed} tokens) does not fit the context of {left_out}"


def _blend_llm_vote(decision: Decision, opinion: RouterVote | None, context: RoutingContext) -> Decision:
    """Return ``decision`` after the LLM router's vote."""
    case, settled = decision.case, decision._replace(wants_vote=False)
    if opinion is None:
        return settled._replace(reasons=(*decision.reasons, "the LLM router did not answer"))
    if context.is_off_ladder(opinion.tier):
        aside = _aside(case, opinion, context)
        fits = opinion.tier in case.room
        doubt = "its confidence is too low" if fits else f"the query does not fit the context of {opinion.tier}"
        doubted = settled._replace(
            reasons=(
                *decision.reasons,
                opinion.reason,
                f"the LLM router's choice was not taken: {doubt}",
            )
        )
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
    """Return the lowest tier to which an LLM's vote may lower a query at ``tier``."""
    if tier not in context.ladder:
        return None
    return context.ladder[max(context.ladder.index(tier) - 1, 0)]


def _explored(decisions: list[Decision], draws: Sequence[float] | None, context: RoutingContext) -> list[Decision]:
    """Return ``decisions``. Those that need no vote are explored by ``draws``."""
    if draws is None or context.policy.exploration <= 0:
        return decisions
    return [
        decision if decision.wants_vote else _explore(decision, draw, context)
        for decision, draw in zip(decisions, draws, strict=True)
    ]


def _explore(decision: Decision, draw: float, context: RoutingContext) -> Decision:
    """Return ``decision``, or with probability ε a random tier with room, with its propensity."""
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
    """Return ``decision``, changed if a pilot has the query start at another tier: that tier, or the next one up with
    room.

    A pilot does not move a query whose pin, attachments or tools require a tier.
    """
    case, ladder = decision.case, context.ladder
    if start is None or decision.tier not in ladder or case.query.is_pinned:
        return decision
    tier, notes = context.place(case, start.tier)
    return decision._replace(
        tier=tier,
        router=start.router,
        confidence=None,
        model=None,
        reasons=(*start.reasons, *notes),
        propensity=1.0,
        wants_vote=False,
    )
