"""The policy: from opinions to a tier, by expected loss.

For each tier of the ladder that the query fits::

    loss(tier) = price(tier) + λ · P(failure at tier)

``price`` is the query's expected cost at the tier over its expected cost at the top tier (so the
top's is 1), and λ is ``fleet.router.quality_weight``: a lost answer weighs λ times the money that
asking the top tier costs. Under λ = 3 the top is worth its whole price where it is 1/3 more likely
to answer well than a free tier. The least loss wins, ties go up.

What holds of it (tests/unit/routing/test_policy_properties.py):

* a larger λ never routes lower;
* a more doubtful cheapest tier never routes lower, nor does a query that is harder for the tiers
  in the way that hard queries are: for cheap ones at least as much as for dear ones;
* a tier is never believed to do better than a dearer one;
* no query goes where it does not fit, as long as it fits anywhere.

Where a tier comes without a probability, it is interpolated between its neighbours; where there
are only a tier's name and a confidence, `routing.belief` makes probabilities of them; where there
is nothing, a prior does, which takes the query for at least middling hard. So doubt goes up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from routing.belief import Belief, believe, mixed, named, prior
from routing.context import answer_room, needed_tokens
from routing.features import Features, category_of, features_of
from routing.fleet import Fleet, Model
from routing.gate import Rungs, difficulty, expected_completion_tokens, review
from routing.opinion import Opinion
from routing.query import Query

__all__ = ["Decision", "Opinion", "Predictor", "decide", "settle"]

TIE: Final = 1e-9
"""Losses that differ by no more are a tie, which goes up."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The tier of one query, and why."""

    tier: str
    router: str
    """Whose word decided."""
    confidence: float
    score: float
    category: str
    reasons: tuple[str, ...]
    p_ok: Mapping[str, float] = field(default_factory=dict)
    propensity: float = 1.0
    """The probability with which this tier was chosen, for off-policy evaluation; 1 without exploration."""
    model: str | None = None
    """The deployment to prefer within the tier, or None for the tier's own order."""
    wants_opinion: bool = False
    """An LLM router takes part and the verdict is still uncertain: ask it, then `settle`."""


class Predictor(Protocol):
    """A trained classifier. It is built outside ``routing/`` and handed in."""

    @property
    def name(self) -> str:
        """What its opinions and the routing log call it."""
        ...

    def __call__(self, queries: Sequence[Query]) -> Sequence[Opinion]:
        """One opinion for each of ``queries``, in their order."""
        ...


def decide(
    queries: Sequence[Query],
    *,
    fleet: Fleet,
    predictor: Predictor | None,
    draws: Sequence[float] | None = None,
) -> list[Decision]:
    """A decision for each of ``queries``: a pin decides alone, then the gate where it is sure, then the classifier.

    ``predictor`` is asked once, for all queries that are still open. ``draws`` are uniforms in
    [0, 1), one for each query; without them nothing is explored.
    """
    ground = _Ground(fleet)
    cases = [ground.survey(query) for query in queries]
    opinions = _ask(predictor, cases, ground)
    decisions = [
        ground.pinned(case) if case.pin else ground.conclude(case, opinion)
        for case, opinion in zip(cases, opinions, strict=True)
    ]
    if draws is None or fleet.router.exploration <= 0:
        return decisions
    return [
        decision if decision.wants_opinion else ground.explore(case, decision, draw)
        for case, decision, draw in zip(cases, decisions, draws, strict=True)
    ]


def settle(
    query: Query, decision: Decision, opinion: Opinion | None, *, fleet: Fleet, draw: float | None = None
) -> Decision:
    """``decision`` with the LLM router's ``opinion`` folded in (None: it abstained); it wants no more opinions.

    The belief moves towards the LLM's by its share of the confidence. Its word alone takes a query
    down by one rung at most, and not at all where the text speaks to the router. ``draw`` is as in
    `decide`: a decision that waited for an opinion was not explored there.
    """
    if not decision.wants_opinion:
        return decision
    ground = _Ground(fleet)
    case = ground.survey(query)
    final = ground.fold(case, decision, opinion)
    return final if draw is None or fleet.router.exploration <= 0 else ground.explore(case, final, draw)


@dataclass(frozen=True, slots=True)
class _Case:
    """One query, as far as it can be seen without asking anyone but the gate."""

    query: Query
    features: Features
    category: str
    score: float
    needed: int
    room: Mapping[str, Sequence[Model]]
    """Tier → its deployments that the query fits; tiers without any are left out."""
    pin: str | None
    gate: Opinion | None
    sure: bool
    """The gate decides alone."""


def _ask(predictor: Predictor | None, cases: Sequence[_Case], ground: "_Ground") -> list[Opinion | None]:
    """The classifier's opinions, None for the queries that it was not asked about."""
    opinions: list[Opinion | None] = [None] * len(cases)
    if predictor is None or "classifier" not in ground.fleet.router.stages:
        return opinions
    asked = [place for place, case in enumerate(cases) if not case.pin and not case.sure]
    if asked:
        answers = predictor([cases[place].query for place in asked])
        for place, answer in zip(asked, answers, strict=True):
            opinions[place] = answer
    return opinions


class _Ground:
    """What is the same for all queries of one call: the fleet's ladder, models and prices."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.ladder = fleet.ladder
        self.rungs = Rungs.of(fleet)
        self.deployments = {tier: fleet.deployments(tier) for tier in fleet.tiers}
        self.top_price = self.deployments[fleet.top][0].price
        self.asks_llm = "llm" in fleet.router.stages and fleet.router.llm is not None

    def survey(self, query: Query) -> _Case:
        """Features, room and the gate's opinion. An unknown pin counts as none."""
        features = features_of(query)
        needed = needed_tokens(query)
        pin = self._known_pin(query.pin)
        gate = None
        if pin is None and "gate" in self.fleet.router.stages:
            gate = review(query, rungs=self.rungs, features=features)
        return _Case(
            query=query,
            features=features,
            category=gate.category if gate else category_of(features, query),
            score=gate.score if gate else difficulty(features, query),
            needed=needed,
            room=self._room(query, needed),
            pin=pin,
            gate=gate,
            sure=gate is not None and gate.tier is not None and gate.confidence >= self.fleet.router.gate_sure,
        )

    def pinned(self, case: _Case) -> Decision:
        """The tier that the user named; where the query does not fit it, up, with the reason."""
        pin = case.query.pin or ""
        pinned = case.pin or self.ladder[-1]
        tier, notes = self._fit(case, pinned)
        model = self._preferred(case, tier)
        if tier == pinned and pin not in self.fleet.tiers:
            named_models = [each.name for each in case.room.get(tier, ()) if pin in (each.name, each.model)]
            model = named_models[0] if named_models else model
            notes += () if named_models else (f"{pin} has no room for it: another model of the tier",)
        return Decision(
            tier=tier,
            router="pin",
            confidence=1.0,
            score=case.score,
            category=case.category,
            reasons=(f"pinned to {pin}", *notes),
            model=model,
        )

    def conclude(self, case: _Case, opinion: Opinion | None) -> Decision:
        """The decision from the gate's and the classifier's opinions."""
        if case.sure and case.gate is not None:
            return self._as_told(case, case.gate)
        for voice in (opinion, case.gate):
            if voice is not None and (decision := self._heed(case, voice)) is not None:
                return decision
        belief = prior(case.score, len(self.ladder))
        reasons = tuple(voice.reason for voice in (opinion, case.gate) if voice is not None)
        return self._decide(case, belief, router="prior", confidence=0.0, reasons=(*reasons, "nobody is sure: up"))

    def fold(self, case: _Case, decision: Decision, opinion: Opinion | None) -> Decision:
        """``decision`` after the LLM router's word."""
        settled = replace(decision, wants_opinion=False)
        theirs = None if opinion is None else believe(opinion, self.ladder)
        if opinion is None or (theirs is None and not self._is_aside(opinion)):
            return replace(settled, reasons=(*decision.reasons, "the LLM router abstained"))
        if theirs is None:
            return self._aside(case, opinion) or replace(
                settled, reasons=(*decision.reasons, f"{opinion.tier} was named in doubt")
            )
        ours = tuple(decision.p_ok.get(tier, 0.0) for tier in self.ladder) if decision.p_ok else theirs
        weight = opinion.confidence / max(opinion.confidence + decision.confidence, TIE)
        folded = self._decide(
            case,
            mixed(ours, theirs, weight=min(max(weight, 0.0), 1.0)),
            router=opinion.router,
            confidence=max(opinion.confidence, decision.confidence),
            reasons=(*decision.reasons, opinion.reason),
            floor=self._floor(case, decision.tier),
        )
        return replace(folded, wants_opinion=False)

    def explore(self, case: _Case, decision: Decision, draw: float) -> Decision:
        """``decision``, or with probability ε a tier at random among those that fit; with its propensity."""
        arms = [tier for tier in self.ladder if tier in case.room]
        if decision.router == "pin" or decision.tier not in arms or len(arms) < 2:
            return decision
        share = min(self.fleet.router.exploration, 1.0)
        drawn = arms[min(int(draw / share * len(arms)), len(arms) - 1)] if draw < share else decision.tier
        if drawn == decision.tier:
            return replace(decision, propensity=1.0 - share + share / len(arms))
        return replace(
            decision,
            tier=drawn,
            router="exploration",
            propensity=share / len(arms),
            model=self._preferred(case, drawn),
            reasons=(*decision.reasons, f"explored instead of {decision.tier}"),
        )

    def _as_told(self, case: _Case, gate: Opinion) -> Decision:
        """The tier that a sure gate names, without weighing: its confidence is no calibrated figure."""
        tier, notes = self._fit(case, gate.tier or self.fleet.top)
        return Decision(
            tier=tier,
            router=gate.router,
            confidence=gate.confidence,
            score=case.score,
            category=case.category,
            reasons=(gate.reason, *notes),
            model=self._preferred(case, tier),
        )

    def _heed(self, case: _Case, opinion: Opinion) -> Decision | None:
        """What follows from one opinion, or None where it abstains."""
        if self._is_aside(opinion):
            aside = self._aside(case, opinion)
            if aside is not None:
                return aside
            belief: Belief | None = named(len(self.ladder) - 1, opinion.confidence, len(self.ladder))
        else:
            belief = believe(opinion, self.ladder)
        if belief is None:
            return None
        return self._decide(
            case,
            belief,
            router=opinion.router,
            confidence=opinion.confidence,
            reasons=(opinion.reason,),
            score=opinion.score,
        )

    def _decide(
        self,
        case: _Case,
        belief: Belief,
        *,
        router: str,
        confidence: float,
        reasons: tuple[str, ...],
        score: float | None = None,
        floor: str | None = None,
    ) -> Decision:
        """The tier of the least expected loss, and the decision that says so."""
        losses = self._losses(case, belief)
        if not losses:
            tier, notes = self._fit(case, self.ladder[-1])
        else:
            tier = _least(losses)
            notes = ("expected loss: " + ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items()),)
        if case.features.wary and floor is None:
            floor = _least(self._losses(case, prior(case.score, len(self.ladder))) or {tier: 0.0})
        if floor is not None and self._is_below(tier, floor):
            tier, held = self._fit(case, floor)
            notes = (*notes, f"not below {floor}", *held)
        doubtful = confidence < self.fleet.router.classifier_sure
        return Decision(
            tier=tier,
            router=router,
            confidence=confidence,
            score=case.score if score is None else score,
            category=case.category,
            reasons=(*reasons, *notes),
            p_ok=dict(zip(self.ladder, belief, strict=True)),
            model=self._preferred(case, tier),
            wants_opinion=self.asks_llm and doubtful and len(losses) > 1,
        )

    def _losses(self, case: _Case, belief: Belief) -> dict[str, float]:
        """Expected loss of each tier of the ladder that the query fits, from the cheapest up."""
        weight = self.fleet.router.quality_weight
        prompt = case.query.prompt_tokens
        completion = expected_completion_tokens(case.features, case.query)
        top = _cost(self.top_price.input_usd_per_mtok, self.top_price.output_usd_per_mtok, prompt, completion)
        top *= self.top_price.multiplier
        losses: dict[str, float] = {}
        for rung, tier in enumerate(self.ladder):
            models = case.room.get(tier)
            if not models:
                continue
            if top > 0:
                price = models[0].price
                cost = _cost(price.input_usd_per_mtok, price.output_usd_per_mtok, prompt, completion)
                share = cost * price.multiplier / top
            else:
                # Nothing costs money (local models): every rung counts as one step of effort.
                share = (rung + 1) / len(self.ladder)
            losses[tier] = share + weight * (1.0 - belief[rung])
        return losses

    def _aside(self, case: _Case, opinion: Opinion) -> Decision | None:
        """The decision for a tier off the ladder, if the opinion is sure of it and the query fits there."""
        tier = opinion.tier
        if tier is None or tier not in case.room or opinion.confidence < self.fleet.router.classifier_sure:
            return None
        return Decision(
            tier=tier,
            router=opinion.router,
            confidence=opinion.confidence,
            score=opinion.score,
            category=case.category,
            reasons=(opinion.reason,),
            model=self._preferred(case, tier),
        )

    def _is_aside(self, opinion: Opinion) -> bool:
        return opinion.tier is not None and opinion.tier in self.fleet.tiers and opinion.tier not in self.ladder

    def _is_below(self, tier: str, floor: str) -> bool:
        ladder = self.ladder
        return tier in ladder and floor in ladder and ladder.index(tier) < ladder.index(floor)

    def _floor(self, case: _Case, tier: str) -> str | None:
        """The lowest tier to which an LLM's word may bring a query that stood at ``tier``."""
        if tier not in self.ladder:
            return None
        return tier if case.features.wary else self.ladder[max(self.ladder.index(tier) - 1, 0)]

    def _room(self, query: Query, needed: int) -> dict[str, Sequence[Model]]:
        room: dict[str, Sequence[Model]] = {}
        for tier, models in self.deployments.items():
            fit = [model for model in models if needed + answer_room(query, model) <= model.context_tokens]
            if fit:
                room[tier] = fit
        return room

    def _fit(self, case: _Case, wanted: str) -> tuple[str, tuple[str, ...]]:
        """``wanted``, or the next tier up that the query fits, or any that it fits, or the roomiest; and why."""
        if wanted in case.room:
            return wanted, ()
        why = f"no room in {wanted}: about {case.needed} tokens"
        seen = {wanted}
        rung = self.fleet.tiers[wanted].escalates_to
        while rung is not None and rung not in seen:
            if rung in case.room:
                return rung, (why,)
            seen.add(rung)
            rung = self.fleet.tiers[rung].escalates_to
        if case.room:
            return list(case.room)[-1], (why,)
        roomiest = max(self.deployments, key=lambda tier: max(model.context_tokens for model in self.deployments[tier]))
        return roomiest, (why, "no tier has room for it: to the roomiest")

    def _preferred(self, case: _Case, tier: str) -> str | None:
        """The deployment for the query's category; or the first that it fits, where the tier's first has no room."""
        models = case.room.get(tier)
        if not models:
            return None
        for model in models:
            if case.category in model.categories:
                return model.name
        return None if models[0] is self.deployments[tier][0] else models[0].name

    def _known_pin(self, pin: str | None) -> str | None:
        if pin is None:
            return None
        try:
            tier = self.fleet.resolve_pin(pin)
        except KeyError:
            return None
        return tier if tier in self.fleet.tiers else None


def _cost(input_usd: float, output_usd: float, prompt: int, completion: int) -> float:
    return input_usd * prompt + output_usd * completion


def _least(losses: Mapping[str, float]) -> str:
    """The dearest of the tiers whose loss is the least."""
    bound = min(losses.values()) + TIE
    return [tier for tier, loss in losses.items() if loss <= bound][-1]
