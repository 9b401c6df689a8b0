"""The policy: from opinions to a tier.

A pin decides alone; then the gate where it is sure; then the classifier; what is still uncertain
may go to the LLM router. Where nobody is sure, the tier of the least expected loss is taken (see
`routing.policy.expected_loss`), ties going up. What is believed of each tier comes from the classifier's
calibrated probabilities, or from a named tier and its confidence, or from a prior that takes the
query for at least middling hard (see `routing.policy.success_probability`): so doubt goes up.

What holds of it (tests/unit/routing/policy/test_policy_properties.py):

* a larger λ never routes lower;
* nor does a more doubtful cheapest tier, nor a query that is harder in the way that hard queries
  are: for cheap tiers at least as much as for dear ones;
* a tier is never believed to do better than a dearer one;
* no query goes where it does not fit, as long as it fits anywhere;
* a text that speaks to the router goes no lower than it would without classifier and LLM router.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from routing.fleet import Fleet
from routing.policy.case import RoutingCase, RoutingContext
from routing.policy.expected_loss import losses, lowest_loss
from routing.policy.llm_router_prompt import NOTHING, RouterVote
from routing.policy.success_probability import SuccessProbabilities, from_named_tier, from_vote, mixed, prior
from routing.query import Query
from routing.reason import Reason, ReasonCode

__all__ = ["Decision", "Predictor", "RouterVote", "apply_llm_vote", "decide"]

_TINY: Final = 1e-9


class Decision(NamedTuple):
    """The tier of one query, and why."""

    tier: str
    router: str
    """Whose word decided."""
    confidence: float
    score: float
    category: str
    reasons: tuple[str, ...]
    p_ok: Mapping[str, float] = NOTHING
    propensity: float = 1.0
    """The probability with which this tier was chosen, for off-policy evaluation; 1 without exploration, and where a
    budget had a word."""
    model: str | None = None
    """The deployment to prefer within the tier, or None for the tier's own order."""
    wants_opinion: bool = False
    """An LLM router takes part and the verdict is still uncertain: ask it, then `apply_llm_vote`."""


class Predictor(Protocol):
    """A trained classifier. It is built outside ``routing/`` and handed in."""

    @property
    def name(self) -> str:
        """What its opinions and the routing log call it."""
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
) -> list[Decision]:
    """A decision for each of ``queries``, in their order.

    ``predictor`` is asked once, for all queries that are still open. ``draws`` are uniforms in
    [0, 1), one for each query; without them nothing is explored.
    """
    ground = RoutingContext(fleet)
    cases = [ground.survey(query) for query in queries]
    opinions = _ask(predictor, cases, ground)
    decisions = [_conclude(case, opinion, ground) for case, opinion in zip(cases, opinions, strict=True)]
    if draws is None or fleet.router.exploration <= 0:
        return decisions
    return [
        decision if decision.wants_opinion else _explore(case, decision, draw, ground)
        for case, decision, draw in zip(cases, decisions, draws, strict=True)
    ]


def apply_llm_vote(
    query: Query, decision: Decision, opinion: RouterVote | None, *, fleet: Fleet, draw: float | None = None
) -> Decision:
    """``decision`` with the LLM router's ``opinion`` folded in (None: it abstained); it wants no more opinions.

    The belief moves towards the LLM's by its share of the confidence. Its word alone takes a query
    down by one rung at most, and not at all where the text speaks to the router. ``draw`` is as in
    `decide`: a decision that waited for an opinion was not explored there.
    """
    if not decision.wants_opinion:
        return decision
    ground = RoutingContext(fleet)
    case = ground.survey(query)
    final = _blend_llm_vote(case, decision, opinion, ground)
    return final if draw is None or fleet.router.exploration <= 0 else _explore(case, final, draw, ground)


def _ask(predictor: Predictor | None, cases: Sequence[RoutingCase], ground: RoutingContext) -> list[RouterVote | None]:
    """The classifier's opinions, None for the queries that it was not asked about."""
    opinions: list[RouterVote | None] = [None] * len(cases)
    if predictor is None or not ground.asks_classifier:
        return opinions
    asked = [place for place, case in enumerate(cases) if case.pin is None and not case.sure]
    if asked:
        answers = predictor([cases[place].query for place in asked])
        for place, answer in zip(asked, answers, strict=True):
            opinions[place] = answer
    return opinions


def _conclude(case: RoutingCase, opinion: RouterVote | None, ground: RoutingContext) -> Decision:
    """The decision by pin, gate and classifier, in this order."""
    if case.pin is not None:
        return _pinned(case, case.pin, ground)
    if case.sure and case.gate is not None:
        return _as_told(case, case.gate, ground)
    if opinion is not None:
        # A text that speaks to the router may have spoken to the classifier too.
        floor = _conclude(case, None, ground).tier if case.features.wary else None
        if (decision := _follow_vote(case, opinion, ground, floor=floor)) is not None:
            return decision
    if case.gate is not None and (decision := _follow_vote(case, case.gate, ground)) is not None:
        return decision
    abstained = tuple(voice.reason for voice in (opinion, case.gate) if voice is not None)
    belief = prior(case.score, len(ground.ladder))
    reasons = (*abstained, "no router was confident; chose a higher tier")
    return _weigh(case, belief, ground, router="prior", confidence=0.0, reasons=reasons)


def _pinned(case: RoutingCase, pinned: str, ground: RoutingContext) -> Decision:
    """The tier that the user named; where the query does not fit it, the next one up, with the reason.

    A model that is named is kept: its tier is taken even where the query is estimated not to fit, as the estimate may
    be wrong and no other model may answer in its place. There the query is answered by that model, or fails.
    """
    name = case.query.pin or pinned
    if name in ground.fleet.tiers:
        tier, notes = ground.place(case, pinned)
        model = ground.preferred(case, tier)
    else:
        models = ground.fleet.pinned(name, pinned)
        tier, model = pinned, next((each.name for each in models), None)
        fits = any(each in case.room.get(pinned, ()) for each in models)
        notes = () if fits else (f"no room in {name} for about {case.needed} tokens",)
    return _decided(case, tier, router="pin", confidence=1.0, reasons=(f"pinned to {name}", *notes), model=model)


def _as_told(case: RoutingCase, gate: RouterVote, ground: RoutingContext) -> Decision:
    """The tier that a sure gate names, without weighing: its confidence is no calibrated figure."""
    tier, notes = ground.place(case, gate.tier or ground.ladder[-1])
    return _decided(
        case,
        tier,
        router=gate.router,
        confidence=gate.confidence,
        reasons=(gate.reason, *notes),
        model=ground.preferred(case, tier),
    )


def _decided(
    case: RoutingCase, tier: str, *, router: str, confidence: float, reasons: tuple[str, ...], model: str | None
) -> Decision:
    """A decision that nothing had to be weighed for."""
    return Decision(
        tier=tier,
        router=router,
        confidence=confidence,
        score=case.score,
        category=case.category,
        reasons=(*case.notes, *reasons),
        model=model,
    )


def _follow_vote(
    case: RoutingCase, opinion: RouterVote, ground: RoutingContext, *, floor: str | None = None
) -> Decision | None:
    """What follows from one opinion, or None where it abstains; nothing below ``floor``."""
    if ground.is_off_ladder(opinion.tier):
        if (aside := _aside(case, opinion, ground)) is not None:
            return aside
        belief: SuccessProbabilities | None = from_named_tier(
            len(ground.ladder) - 1, opinion.confidence, len(ground.ladder)
        )
    else:
        belief = from_vote(opinion, ground.ladder)
    if belief is None:
        return None
    return _weigh(
        case,
        belief,
        ground,
        router=opinion.router,
        confidence=opinion.confidence,
        reasons=(opinion.reason,),
        floor=floor,
        score=opinion.score,
    )


def _aside(case: RoutingCase, opinion: RouterVote, ground: RoutingContext) -> Decision | None:
    """The decision for a tier off the ladder, if the opinion is sure of it and the query fits there."""
    tier = opinion.tier
    if tier is None or tier not in case.room or opinion.confidence < ground.policy.classifier_sure:
        return None
    return _decided(
        case,
        tier,
        router=opinion.router,
        confidence=opinion.confidence,
        reasons=(opinion.reason,),
        model=ground.preferred(case, tier),
    )


def _weigh(
    case: RoutingCase,
    belief: SuccessProbabilities,
    ground: RoutingContext,
    *,
    router: str,
    confidence: float,
    reasons: tuple[str, ...],
    floor: str | None = None,
    score: float | None = None,
) -> Decision:
    """The decision for the tier of the least expected loss, or for ``floor`` where that is higher."""
    weighed = losses(case, belief, ground)
    if weighed:
        tier, notes = lowest_loss(weighed), _explain(weighed, case, ground)
    else:
        tier, notes = ground.place(case, ground.ladder[-1])
    if floor is not None and ground.is_below(tier, floor):
        tier, held = ground.place(case, floor)
        notes = (*notes, f"not below {floor}", *held)
    return Decision(
        tier=tier,
        router=router,
        confidence=confidence,
        score=case.score if score is None else score,
        category=case.category,
        reasons=(*case.notes, *reasons, *notes),
        p_ok=dict(zip(ground.ladder, belief, strict=True)),
        model=ground.preferred(case, tier),
        wants_opinion=ground.asks_llm and confidence < ground.policy.classifier_sure and len(weighed) > 1,
    )


def _explain(weighed: Mapping[str, float], case: RoutingCase, ground: RoutingContext) -> tuple[str, ...]:
    if len(weighed) == len(ground.ladder):
        return (Reason(ReasonCode.EXPECTED_LOSS, ground.loss_words % tuple(weighed.values())),)
    description = "expected loss: " + ", ".join([f"{tier} {loss:.3f}" for tier, loss in weighed.items()])
    left_out = ", ".join(tier for tier in ground.ladder if tier not in weighed)
    return Reason(ReasonCode.EXPECTED_LOSS, description), f"no room in {left_out} for about {case.needed} tokens"


def _blend_llm_vote(
    case: RoutingCase, decision: Decision, opinion: RouterVote | None, ground: RoutingContext
) -> Decision:
    """``decision`` after the LLM router's word."""
    settled = decision._replace(wants_opinion=False)
    if opinion is None:
        return settled._replace(reasons=(*decision.reasons, "the LLM router was silent"))
    if ground.is_off_ladder(opinion.tier):
        aside = _aside(case, opinion, ground)
        doubted = settled._replace(reasons=(*decision.reasons, opinion.reason, "in doubt or without room: not there"))
        return doubted if aside is None else aside._replace(reasons=(*decision.reasons, *aside.reasons))
    theirs = from_vote(opinion, ground.ladder)
    if theirs is None:
        return settled._replace(reasons=(*decision.reasons, opinion.reason))
    ours = tuple(decision.p_ok[tier] for tier in ground.ladder)
    weight = opinion.confidence / max(opinion.confidence + decision.confidence, _TINY)
    folded = _weigh(
        case._replace(notes=()),
        mixed(ours, theirs, weight=min(max(weight, 0.0), 1.0)),
        ground,
        router=opinion.router,
        confidence=max(opinion.confidence, decision.confidence),
        reasons=(*decision.reasons, opinion.reason),
        floor=_lowest(case, decision.tier, ground),
    )
    return folded._replace(wants_opinion=False, score=opinion.score)


def _lowest(case: RoutingCase, tier: str, ground: RoutingContext) -> str | None:
    """The lowest tier to which an LLM's word may bring a query that stood at ``tier``."""
    if tier not in ground.ladder:
        return None
    return tier if case.features.wary else ground.ladder[max(ground.ladder.index(tier) - 1, 0)]


def _explore(case: RoutingCase, decision: Decision, draw: float, ground: RoutingContext) -> Decision:
    """``decision``, or with probability ε a tier at random among those that fit; with its propensity."""
    arms = [tier for tier in ground.ladder if tier in case.room]
    if decision.router == "pin" or decision.tier not in arms or len(arms) < 2:
        return decision
    share = min(ground.policy.exploration, 1.0)
    drawn = arms[min(int(draw / share * len(arms)), len(arms) - 1)] if draw < share else decision.tier
    if drawn == decision.tier:
        return decision._replace(propensity=1.0 - share + share / len(arms))
    return decision._replace(
        tier=drawn,
        router="exploration",
        propensity=share / len(arms),
        model=ground.preferred(case, drawn),
        reasons=(*decision.reasons, f"explored instead of {decision.tier}"),
    )
