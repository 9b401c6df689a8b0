"""Recorded outcomes taken through the production rules: route, judge, climb; with every call paid.

Nothing is called: a tier's recorded answer is its answer. The rules are those of ``routing/``, so
this is what a batch run would do with these recordings, as far as tokens can be estimated.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from evaluation.data.call_costs import CallCosts
from evaluation.data.dataset import Dataset, Example
from routing.answer_checks.judge import Scorer, judge
from routing.fleet import Fleet
from routing.outcome import Completion, Usage
from routing.policy.decision import Predictor, decide
from routing.policy.escalation import Accept, Escalate, TierAttempt, next_step
from routing.query import Query


@dataclass(frozen=True, slots=True)
class PipelineOutcome:
    """The result of one query."""

    tier: str
    """The tier of the accepted answer."""
    ok: float
    calls: tuple[str, ...]
    """The tiers that were asked, in order."""


@dataclass(frozen=True, slots=True)
class ReplayFigures:
    """The results of all queries. Costs are in US dollars at mean prices per call."""

    n: int
    right: float
    """The sum of the grades of the accepted answers."""
    cost_usd: float
    right_small: float
    cost_small_usd: float
    right_large: float
    cost_large_usd: float
    escalated: int
    routed: dict[str, int]
    """Queries by the tier that routing chose."""
    answered: dict[str, int]
    """Queries by the tier of the accepted answer."""

    @property
    def quality_share(self) -> float:
        """Return the right answers, relative to always asking the large tier."""
        return self.right / self.right_large if self.right_large else 0.0

    @property
    def cost_share(self) -> float:
        """Return the cost, relative to always asking the large tier."""
        return self.cost_usd / self.cost_large_usd if self.cost_large_usd else 0.0


def routed_tiers(data: Dataset, queries: Sequence[Query], *, fleet: Fleet, predictor: Predictor | None) -> list[str]:
    """The tier that routing chooses for each query of ``data``; one beside the ladder counts as the top."""
    decisions = decide(queries, fleet=fleet, predictor=predictor)
    return [decision.tier if decision.tier in data.tiers else data.most_expensive for decision in decisions]


def replay(
    data: Dataset, *, fleet: Fleet, predictor: Predictor | None, scorer: Scorer | None, tariff: CallCosts
) -> ReplayFigures:
    """``data`` through the rules of ``fleet``, cut to the tiers that are recorded. Raises KeyError if it lacks one."""
    known = fleet.only(frozenset(data.tiers))
    queries = [Query(text=text) for text in data.queries]
    routed = routed_tiers(data, queries, fleet=known, predictor=predictor)
    p_right = _scores(data, scorer)
    came = [
        _run_ladder(example, query, tier, known, own)
        for example, query, tier, own in zip(data.examples, queries, routed, p_right, strict=True)
    ]
    return ReplayFigures(
        n=len(data),
        right=sum(one.ok for one in came),
        cost_usd=sum(tariff.usd[tier] for one in came for tier in one.calls),
        right_small=float(data.ok(data.cheapest).sum()),
        cost_small_usd=len(data) * tariff.usd[data.cheapest],
        right_large=float(data.ok(data.most_expensive).sum()),
        cost_large_usd=len(data) * tariff.usd[data.most_expensive],
        escalated=sum(len(one.calls) > 1 for one in came),
        routed={tier: routed.count(tier) for tier in data.tiers},
        answered={tier: sum(one.tier == tier for one in came) for tier in data.tiers},
    )


def _scores(data: Dataset, scorer: Scorer | None) -> list[dict[str, float]]:
    """Return P(right) of each recorded answer by tier."""
    predicted: list[dict[str, float]] = [{} for _ in data.examples]
    if scorer is None:
        return predicted
    asked = [(place, tier) for place, example in enumerate(data.examples) for tier in example.answers]
    pairs = [(Query(text=data.examples[place].query), data.examples[place].answers[tier]) for place, tier in asked]
    for (place, tier), p in zip(asked, scorer(pairs) if pairs else [], strict=True):
        predicted[place][tier] = p
    return predicted


def _run_ladder(example: Example, query: Query, tier: str, fleet: Fleet, p_right: dict[str, float]) -> PipelineOutcome:
    history: list[TierAttempt] = []
    calls: list[str] = []
    while True:
        calls.append(tier)
        text = example.answers.get(tier)
        if text is None:
            # Not recorded, only graded: there is nothing to judge it by.
            return PipelineOutcome(tier, example.ok[tier], tuple(calls))
        verdict = judge(
            _completion(text), query, tier=fleet.tiers[tier], p_right=p_right.get(tier), is_top=tier == fleet.top
        )
        if verdict.accepted:
            return PipelineOutcome(tier, example.ok[tier], tuple(calls))
        history.append(TierAttempt(tier, verdict.confidence, len(calls), verdict.reasons, verdict.usable))
        match next_step(history, query=query, fleet=fleet):
            case Escalate(tier=above):
                tier = above
            case Accept(tier=best):
                return PipelineOutcome(best, example.ok[best], tuple(calls))
            case _:
                return PipelineOutcome(tier, 0.0, tuple(calls))


def _completion(text: str) -> Completion:
    return Completion(text=text, finish_reason="stop", usage=Usage(), response={}, latency_ms=0.0, model="recorded")


def tiers_known(data: Dataset, fleet: Fleet) -> bool:
    """Whether every tier of ``data`` is on the ladder of ``fleet``."""
    ladder: Sequence[str] = fleet.ladder
    return all(tier in ladder for tier in data.tiers)
