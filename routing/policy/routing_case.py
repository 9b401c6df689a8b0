"""One query in the policy: the analysis that all rules share (features, room, pin, the gate's vote); the decision."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from routing.answer_checks.threshold_action import decides_for
from routing.context_window import fits, needed_tokens
from routing.fleet import Fleet, Model
from routing.heuristics.heuristic_features import Features, category_of, extract_features
from routing.heuristics.heuristic_router import LadderRoles, difficulty, heuristic_vote
from routing.policy.llm_router_prompt import NOTHING, RouterVote
from routing.price import Price
from routing.query import Query

_SHOWN_PIN_CHARS: Final = 60

SIMULATOR: Final = "simulator"
"""The workload of whatever the simulator makes up answers to."""


class RoutingCase(NamedTuple):
    """One query and what was seen of it."""

    query: Query
    features: Features
    category: str
    score: float
    """0 to 1: the gate's difficulty."""
    needed: int
    """Estimated tokens of the prompt, on the careful side."""
    room: Mapping[str, Sequence[Model]]
    """Tier → its deployments that the query fits; tiers without any are left out."""
    pin: str | None
    """The tier that the query's pin names; None without a pin, or with one that the fleet does not know."""
    gate: RouterVote | None
    """None where the gate takes no part."""
    sure: bool
    """The gate decides alone."""
    notes: tuple[str, ...] = ()
    rule: str | None = None
    """The tier that the fleet's rule for its workload names; None where there is no such rule, or a pin."""

    @property
    def is_open(self) -> bool:
        """Nothing is decided by a pin, a rule or a sure gate."""
        return self.pin is None and self.rule is None and not self.sure


class Decision(NamedTuple):
    """The tier of one query, and why."""

    case: RoutingCase
    """The analysis of the query: budgets, the LLM router and the forecast use it again."""
    tier: str
    router: str
    """The router that decided."""
    confidence: float | None
    """The router's; None where no vote counted, and where a pilot or its policy decided."""
    score: float
    reasons: tuple[str, ...]
    p_ok: Mapping[str, float] = NOTHING
    propensity: float = 1.0
    """The probability with which this tier was chosen, for off-policy evaluation; 1 without exploration, and where a
    budget decided."""
    model: str | None = None
    """The deployment to prefer within the tier, or None for the tier's own order."""
    wants_vote: bool = False
    """An LLM router takes part and the decision is still uncertain: ask it, then `apply_llm_votes`."""
    expected_usd: float = 0.0
    """The expected cost of the call, where the budget of a batch was shared; else 0."""
    over_budget: bool = False
    """No call is within the query's ``max_cost_usd``: it fails."""


TierPrice = tuple[int, str, Price, int]
"""A rung of the ladder, its tier, its price, and the reasoning tokens that an answer is expected to take there."""


class RoutingContext:
    """What is the same for all queries of one call: the fleet's ladder, models and policy."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.policy = fleet.router
        self.ladder = fleet.ladder
        self.roles = LadderRoles.of(fleet)
        self.deployments: Mapping[str, Sequence[Model]] = {tier: fleet.deployments(tier) for tier in fleet.chat_tiers}
        self.roomy_tokens = min(
            model.context_tokens - model.max_output_tokens for models in self.deployments.values() for model in models
        )
        self._usual_tariffs: dict[str, Sequence[TierPrice]] = {}
        self._deciding: dict[tuple[str, str], bool] = {}
        top = self.deployments[self.ladder[-1]][0]
        self.top_price, self.top_reasoning_tokens = top.price, top.usual_reasoning_tokens
        self.loss_words = "expected loss: " + ", ".join(f"{tier.replace('%', '%%')} %.3f" for tier in self.ladder)
        self.asks_gate = "gate" in fleet.router.stages
        self.asks_classifier = "classifier" in fleet.router.stages
        self.asks_llm = "llm" in fleet.router.stages and fleet.router.llm is not None

    def analyze(self, query: Query) -> RoutingCase:
        """The case of ``query``. A pin that the fleet does not know counts as none, with a note."""
        features = extract_features(query)
        needed = needed_tokens(query)
        pin, notes = (None, ()) if query.pin is None else self._pin(query.pin)
        room = self._room(query, needed)
        if pin is not None and pin not in self.deployments:
            room = {pin: self.fleet.deployments(pin)}  # embeddings: nothing else answers them
        category = category_of(features, query)
        rule = None
        if pin is None and (rules := self.fleet.workloads):
            rule = rules.get(query.workload or query.template)
        if pin is not None or rule is not None or not self.asks_gate:
            score = difficulty(features, query)
            return RoutingCase(query, features, category, score, needed, room, pin, None, False, notes, rule)
        gate = heuristic_vote(query, features, roles=self.roles)
        sure = gate.tier is not None and gate.confidence >= self.policy.gate_sure and not self._doubts(gate.tier)
        return RoutingCase(query, features, category, gate.score, needed, room, None, gate, sure, notes)

    def counts(self, evidence_for: str | None, query: Query) -> bool:
        """Whether a classifier may speak of ``query`` that was trained for the workload ``evidence_for``.

        None: its user trained it on data of their own, for whatever they have it serve.
        """
        if evidence_for == SIMULATOR:
            return self.fleet.makes_up_answers
        return evidence_for is None or evidence_for == query.workload

    def first_to_ask(self, case: RoutingCase) -> str | None:
        """The lowest tier below the top that the query fits and whose confidence is calibrated for its workload."""
        for tier in self.ladder[:-1]:
            models = case.room.get(tier, ())
            if models and all(self._decides(model, case.query.workload) for model in models):
                return tier
        return None

    def _doubts(self, tier: str) -> bool:
        """Words in a text are not evidence that a tier below the top answers it well; see docs/routing.md, Measured."""
        return tier in self.ladder[:-1] and not self.fleet.makes_up_answers

    def _decides(self, model: Model, workload: str) -> bool:
        key = (model.name, workload)
        if key not in self._deciding:
            self._deciding[key] = decides_for(model, self.fleet, workload=workload)
        return self._deciding[key]

    def place(self, case: RoutingCase, wanted: str) -> tuple[str, tuple[str, ...]]:
        """``wanted``, or the next tier up that the query fits, or any that it fits, or the roomiest; and why."""
        if wanted in case.room:
            return wanted, ()
        why = f"no room in {wanted} for about {case.needed} tokens"
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

    def preferred(self, case: RoutingCase, tier: str) -> str | None:
        """The deployment for the query's category; or the first that it fits, where the tier's first has no room."""
        models = case.room.get(tier)
        if not models:
            return None
        for model in models:
            if case.category in model.categories:
                return model.name
        return None if models[0] is self.deployments[tier][0] else models[0].name

    def tariffs(self, case: RoutingCase) -> Sequence[TierPrice]:
        """What each tier of the ladder that the query fits would cost, by the deployment that would serve it."""
        if case.room is not self.deployments:
            return self._tariffs(case)
        if case.category not in self._usual_tariffs:
            self._usual_tariffs[case.category] = self._tariffs(case)
        return self._usual_tariffs[case.category]

    def is_below(self, tier: str, floor: str) -> bool:
        """Whether both are on the ladder, ``tier`` under ``floor``."""
        ladder = self.ladder
        return tier in ladder and floor in ladder and ladder.index(tier) < ladder.index(floor)

    def is_off_ladder(self, tier: str | None) -> bool:
        """Whether ``tier`` is one of the fleet's, but not on the ladder."""
        return tier is not None and tier in self.deployments and tier not in self.ladder

    def _tariffs(self, case: RoutingCase) -> Sequence[TierPrice]:
        tariffs = []
        for rung, tier in enumerate(self.ladder):
            if models := case.room.get(tier):
                serving = next((model for model in models if case.category in model.categories), models[0])
                tariffs.append((rung, tier, serving.price, serving.usual_reasoning_tokens))
        return tariffs

    def _room(self, query: Query, needed: int) -> Mapping[str, Sequence[Model]]:
        # Nearly always: it fits everywhere, however long the answer.
        if needed <= self.roomy_tokens and not query.has_attachments:
            return self.deployments
        room: dict[str, Sequence[Model]] = {}
        for tier, models in self.deployments.items():
            fit = [model for model in models if fits(query, model)]
            if fit:
                room[tier] = fit
        return room

    def _pin(self, pin: str) -> tuple[str | None, tuple[str, ...]]:
        try:
            return self.fleet.resolve_pin(pin), ()
        except KeyError:
            return None, (f"the fleet does not know {pin[:_SHOWN_PIN_CHARS]!r}: no pin",)
