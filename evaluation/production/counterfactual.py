"""Logged queries decided anew by another router or fleet: where they would go now, and what that would cost.

The rules are production's own (`routing.policy.decision`), exploration included: a query is drawn as it was, so
what chance moved then it moves now. Nothing is asked of any provider, so where the LLM router would be
asked it counts as silent.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from routing.fleet import Fleet
from routing.heuristics.heuristic_router import expected_completion_tokens
from routing.policy.decision import Decision, Predictor, apply_llm_votes, decide
from routing.policy.exploration import exploration_draw
from routing.policy.routing_case import RoutingCase
from routing.query import Query

EXAMPLES: Final = 10
SHOWN_CHARS: Final = 90


@dataclass(frozen=True, slots=True)
class LoggedQuery:
    """A logged query, and what was decided then."""

    id: int
    where: str
    """The query's batch and custom id."""
    query: Query = field(repr=False)
    tier: str
    router: str
    confidence: float | None
    prompt_tokens: int | None
    completion_tokens: int | None
    """Completion tokens of the query's answer. None without an answer."""


@dataclass(order=True, frozen=True, slots=True)
class RoutingChange:
    """A query that would now go to another tier. Ordered by the number of tiers, then by the difference in cost."""

    rungs: int
    usd: float
    """The absolute difference in the cost of the first call."""
    number: int
    description: Mapping[str, Any] = field(compare=False, repr=False)


@dataclass(slots=True)
class CounterfactualReport:
    """The decisions that were made again so far, with ``fleet`` and ``predictor`` (None: the gate alone)."""

    fleet: Fleet
    predictor: Predictor | None
    n: int = 0
    unread: int = 0
    """How many queries were left out because their text was purged."""
    unanswered: int = 0
    """How many queries have estimated tokens because they have no answer."""
    would_ask: int = 0
    usd_then: float = 0.0
    usd_now: float = 0.0
    usd_top: float = 0.0
    confusion: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    routers: Counter[str] = field(default_factory=Counter)
    _largest: list[RoutingChange] = field(default_factory=list, repr=False)

    def take(self, chunk: Sequence[LoggedQuery]) -> None:
        """Decide ``chunk`` in one call, and add it to the counts."""
        draws = [exploration_draw(past.id) for past in chunk]
        drafts = decide([past.query for past in chunk], fleet=self.fleet, predictor=self.predictor, draws=draws)
        self.would_ask += sum(draft.wants_vote for draft in drafts)
        decisions = apply_llm_votes(drafts, [None] * len(drafts), fleet=self.fleet, draws=draws)
        for past, decision in zip(chunk, decisions, strict=True):
            self._count(past, decision)

    def report(self, *, router: str) -> dict[str, Any]:
        """All figures, for JSON. ``words`` has them in sentences."""
        moved = sum(count for then, row in self.confusion.items() for now, count in row.items() if then != now)
        down = sum(c for then, row in self.confusion.items() for now, c in row.items() if self._step(then, now) < 0)
        return {
            "kind": "replay",
            "router": router,
            "fleet": self.fleet.name,
            "n": self.n,
            "unread": self.unread,
            "moved": {"all": moved, "down": down, "up": moved - down},
            "confusion": {then: dict(row) for then, row in sorted(self.confusion.items())},
            "decided_by": dict(self.routers),
            "would_ask_llm_router": self.would_ask,
            "cost": {
                "then_usd": round(self.usd_then, 9),
                "now_usd": round(self.usd_now, 9),
                "all_large_usd": round(self.usd_top, 9),
                "estimated_tokens": self.unanswered,
            },
            "largest_moves": [move.description for move in sorted(self._largest, reverse=True)],
            "words": self._words(moved, down),
        }

    def _count(self, past: LoggedQuery, now: Decision) -> None:
        self.n += 1
        self.routers[now.router] += 1
        self.confusion[past.tier][now.tier] += 1
        then_usd, now_usd = (self._usd(past, tier, now.case) for tier in (past.tier, now.tier))
        self.usd_then += then_usd
        self.usd_now += now_usd
        self.usd_top += self._usd(past, self.fleet.top, now.case)
        self.unanswered += past.completion_tokens is None
        if past.tier != now.tier:
            confidence = None if now.confidence is None else round(now.confidence, 4)
            description = {
                "query": past.where,
                "text": " ".join(past.query.text[: 4 * SHOWN_CHARS].split())[:SHOWN_CHARS],
                "then": {"tier": past.tier, "router": past.router, "confidence": past.confidence},
                "now": {"tier": now.tier, "router": now.router, "confidence": confidence},
                "usd": round(now_usd - then_usd, 9),
            }
            move = RoutingChange(abs(self._step(past.tier, now.tier)), abs(now_usd - then_usd), -self.n, description)
            (heapq.heappush if len(self._largest) < EXAMPLES else heapq.heappushpop)(self._largest, move)

    def _usd(self, past: LoggedQuery, tier: str, case: RoutingCase) -> float:
        """The first call's price at ``tier``, where the category has its model; 0 where the fleet knows no such tier.

        The tokens are those of the answer that the query got, or else those to be expected.
        """
        if tier not in self.fleet.tiers:
            return 0.0
        models = self.fleet.deployments(tier)
        price = next((model for model in models if case.category in model.categories), models[0]).price
        prompt = past.query.prompt_tokens if past.prompt_tokens is None else past.prompt_tokens
        completion = past.completion_tokens
        if completion is None:
            completion = expected_completion_tokens(case.features, case.query)
        return (price.input_usd_per_mtok * prompt + price.output_usd_per_mtok * completion) * price.multiplier / 1e6

    def _step(self, then: str, now: str) -> int:
        """Return the rungs from one tier to the other. A tier off the ladder counts as above it."""
        return self._rung(now) - self._rung(then)

    def _rung(self, tier: str) -> int:
        ladder = self.fleet.ladder
        return ladder.index(tier) if tier in ladder else len(ladder)

    def _words(self, moved: int, down: int) -> list[str]:
        if self.n == 0:
            return ["Nothing was routed again, because the log has no routed query whose text is still stored."]
        words = [
            f"{moved:,} of {self.n:,} queries ({100 * moved / self.n:.1f} %) would go to another tier: {down:,} to a "
            f"cheaper one, {moved - down:,} to a more expensive one.",
        ]
        if self.usd_then > 0:
            words.append(
                f"The first calls of all {self.n:,} queries would cost ${self.usd_now:.6f} instead of "
                f"${self.usd_then:.6f} ({100 * (self.usd_now / self.usd_then - 1):+.1f} %), or ${self.usd_top:.6f} if "
                f"all went to {self.fleet.top}."
            )
        words.append(
            "All these costs are estimated by the same rule: the tokens of the final answer, at the price of the "
            "tier's model. How many queries would then be escalated is NOT known, because no calls were made."
        )
        if self.would_ask:
            words.append(f"Queries that the LLM router would vote on: {self.would_ask:,}. Here it abstains.")
        if self.unread:
            words.append(f"Queries left out, because their texts were purged: {self.unread:,}.")
        gone = sorted(set(self.confusion) - set(self.fleet.tiers))
        if gone:
            words.append(f"The fleet no longer has {', '.join(gone)}. The calls that went there count as free.")
        return words
