"""The analysis of one query that all routing rules share (features, room, pin, the gate's vote), and the decision."""

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
"""The workload name of everything that the simulator answers with made-up text."""


class RoutingCase(NamedTuple):
    """One query and its analysis."""

    query: Query
    features: Features
    category: str
    score: float
    """The gate's difficulty, from 0 to 1."""
    needed: int
    """Estimated tokens of the prompt, on the high side."""
    room: Mapping[str, Sequence[Model]]
    """Tier → its deployments with room for the query. Tiers without any are left out."""
    pin: str | None
    """The tier that the query's pin names. None without a pin, or if the fleet does not know it."""
    gate: RouterVote | None
    """The gate's vote. None if the fleet does not use the gate."""
    sure: bool
    """Whether the gate decides alone."""
    notes: tuple[str, ...] = ()
    rule: str | None = None
    """The tier that the fleet's rule for its workload names. None without a rule, or with a pin."""

    @property
    def is_open(self) -> bool:
        """Whether no pin, rule or sure gate has decided."""
        return self.pin is None and self.rule is None and not self.sure


class Decision(NamedTuple):
    """The tier of one query, and the reasons."""

    case: RoutingCase
    """The analysis of the query, which budgets, the LLM router and the forecast use again."""
    tier: str
    router: str
    """The router that decided."""
    confidence: float | None
    """The router's confidence. None if no vote counted, or if a pilot or its policy decided."""
    score: float
    reasons: tuple[str, ...]
    p_ok: Mapping[str, float] = NOTHING
    propensity: float = 1.0
    """The probability with which this tier was chosen, for off-policy evaluation. 1 without exploration, and if a
    budget decided."""
    model: str | None = None
    """The deployment to prefer within the tier, or None for the tier's own order."""
    wants_vote: bool = False
    """Whether an LLM router takes part and the decision is still uncertain. If so, get its vote and call
    `apply_llm_votes`."""
    expected_usd: float = 0.0
    """The expected cost of the call in USD if the budget of a batch was shared, else 0."""
    over_budget: bool = False
    """Whether every call exceeds the query's ``max_cost_usd``, so that it fails."""


TierPrice = tuple[int, str, Price, int]
"""A rung of the ladder, its tier, its price, and the expected reasoning tokens of an answer there."""


class RoutingContext:
    """The fleet's ladder, models and policy, which are the same for all queries of one call."""

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
        """Return the case of ``query``. A pin that the fleet does not know is ignored, with a note."""
        features = extract_features(query)
        needed = needed_tokens(query)
        pin, notes = (None, ()) if query.pin is None else self._pin(query.pin)
        room = self._room(query, needed)
        if pin is not None and pin not in self.deployments:
            room = {pin: self.fleet.deployments(pin)}  # embeddings: nothing else answers them
        category = category_of(features, query)
        rule = None
        if pin is None and (rules := self.fleet.workloads):
            rule = rules.get(query.workload_or_template)
        if pin is not None or rule is not None or not self.asks_gate:
            score = difficulty(features, query)
            return RoutingCase(query, features, category, score, needed, room, pin, None, False, notes, rule)
        gate = heuristic_vote(query, features, roles=self.roles)
        sure = gate.tier is not None and gate.confidence >= self.policy.gate_sure and not self._doubts(gate.tier)
        return RoutingCase(query, features, category, gate.score, needed, room, None, gate, sure, notes)

    def counts(self, evidence_for: str | None, query: Query) -> bool:
        """Whether a classifier that was trained for the workload ``evidence_for`` may vote on ``query``.

        None: the user trained the classifier on their own data, for all queries.
        """
        if evidence_for == SIMULATOR:
            return self.fleet.makes_up_answers
        return evidence_for is None or evidence_for == query.workload

    def first_to_ask(self, case: RoutingCase) -> str | None:
        """Return the lowest tier below the top with room for the query and a confidence calibrated for its workload."""
        for tier in self.ladder[:-1]:
            models = case.room.get(tier, ())
            if models and all(self._decides(model, case.query.workload) for model in models):
                return tier
        return None

    def _doubts(self, tier: str) -> bool:
        """Whether to distrust the vote, because words in a text are no evidence for a lower tier (docs/routing.md,
        Measured)."""
        return tier in self.ladder[:-1] and not self.fleet.makes_up_answers

    def _decides(self, model: Model, workload: str) -> bool:
        key = (model.name, workload)
        if key not in self._deciding:
            self._deciding[key] = decides_for(model, self.fleet, workload=workload)
        return self._deciding[key]

    def place(self, case: RoutingCase, wanted: str) -> tuple[str, tuple[str, ...]]:
        """Return ``wanted`` if it has room, else the next tier up with room, else any with room, else the largest; and
        the reasons."""
        if wanted in case.room:
            return wanted, ()
        why = f"the query (about {case.needed} tokens) does not fit the context of {wanted}"
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
        return roomiest, (why, "the query does not fit any tier, so the tier with the largest context is asked")

    def preferred(self, case: RoutingCase, tier: str) -> str | None:
        """Return the deployment for the query's category, or the first with room if the tier's first deployment has
        none."""
        models = case.room.get(tier)
        if not models:
            return None
        for model in models:
            if case.category in model.categories:
                return model.name
        return None if models[0] is self.deployments[tier][0] else models[0].name

    def tariffs(self, case: RoutingCase) -> Sequence[TierPrice]:
        """Return the cost at each tier of the ladder with room for the query, by the deployment that would serve it."""
        if case.room is not self.deployments:
            return self._tariffs(case)
        if case.category not in self._usual_tariffs:
            self._usual_tariffs[case.category] = self._tariffs(case)
        return self._usual_tariffs[case.category]

    def is_below(self, tier: str, floor: str) -> bool:
        """Whether both are on the ladder, with ``tier`` below ``floor``."""
        ladder = self.ladder
        return tier in ladder and floor in ladder and ladder.index(tier) < ladder.index(floor)

    def is_off_ladder(self, tier: str | None) -> bool:
        """Whether ``tier`` belongs to the fleet but not to the ladder."""
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
            return None, (f"the fleet does not know {pin[:_SHOWN_PIN_CHARS]!r}, so this pin is ignored",)
