"""Counters over a span of time, of one tenant or of several together."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Row

from routing.lifecycle import TERMINAL

BOUNDS_MS: Final = (25.0, 50.0, 100.0, 200.0, 400.0, 800.0, 1500.0, 3000.0, 6000.0, 12000.0, 30000.0, 60000.0, 120000.0)
"""Bounds of the latency histogram, in milliseconds."""

_TERMINAL: Final = frozenset(state.value for state in TERMINAL)


@dataclass(frozen=True, slots=True)
class CallKey:
    purpose: str
    tier: str
    deployment: str
    provider: str
    model: str
    outcome: str


@dataclass(slots=True)
class DashboardCounters:
    """Counts by kind. A call is counted when it ends."""

    routed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Routed queries, by tier and router."""
    judged: Counter[tuple[str, bool, int | None]] = field(default_factory=Counter)
    """Judged answers, by tier, acceptance, and tenth of the confidence (None: unknown)."""
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Rejected answers, by tier and class of reason."""
    escalated: Counter[str] = field(default_factory=Counter)
    """Escalations, by the tier that they led to."""
    ended: Counter[str] = field(default_factory=Counter)
    """Finished queries, by state."""
    answered: Counter[str] = field(default_factory=Counter)
    """Answers, by tier."""
    baseline_usd: float = 0.0
    """The cost of these answers at the top tier, plus the cost there of queries that ended without an answer."""
    calls: Counter[CallKey] = field(default_factory=Counter)
    cost_usd: Counter[CallKey] = field(default_factory=Counter)
    cost_differs: Counter[CallKey] = field(default_factory=Counter)
    """Calls for which the provider reports another cost than the price table."""
    latency_ms: Counter[CallKey] = field(default_factory=Counter)
    prompt_tokens: Counter[CallKey] = field(default_factory=Counter)
    completion_tokens: Counter[CallKey] = field(default_factory=Counter)
    latencies: Counter[tuple[str, int]] = field(default_factory=Counter)
    """Complete calls, by deployment and interval of `BOUNDS_MS`."""

    def add(self, other: "DashboardCounters") -> None:
        for name in self.__slots__:
            if name != "baseline_usd":
                getattr(self, name).update(getattr(other, name))
        self.baseline_usd += other.baseline_usd

    def count_decision(self, row: Row[Any]) -> None:
        """Count a row of ``dashboard_decisions.sql``."""
        is_routed = row.kind == "route" and row.router != "endpoint"  # embeddings are no part of the mix
        if is_routed and row.to_stage != "route" and row.to_state not in _TERMINAL:
            self.routed[row.to_stage, row.router or "none"] += row.n
        if row.kind == "judge":
            self.judged[row.tier or "none", not row.rejected, row.confidence] += row.n
        if row.rejected:
            self.rejected[row.tier or "none", row.reason or "none"] += row.n
        if row.kind == "fallback" and row.to_state not in _TERMINAL:
            self.escalated[row.to_stage] += row.n
        if row.to_state in _TERMINAL:
            self.ended[row.to_state] += row.n

    def count_answer(self, row: Row[Any]) -> None:
        """Count a row of ``dashboard_answers.sql``."""
        if row.tier is not None:
            self.answered[row.tier] += row.n
        self.baseline_usd += float(row.baseline_usd or 0)

    def count_call(self, row: Row[Any]) -> None:
        """Count a row of ``dashboard_calls.sql``."""
        key = CallKey(row.purpose, row.tier, row.deployment, row.provider, row.model, row.outcome)
        self.calls[key] += row.n
        # Counters of floats: typeshed has them as ints, which they need not be.
        self.cost_usd[key] += float(row.cost_usd)  # type: ignore[assignment]
        self.cost_differs[key] += row.differs
        self.latency_ms[key] += row.latency_ms
        self.prompt_tokens[key] += row.prompt_tokens
        self.completion_tokens[key] += row.completion_tokens
        if row.outcome == "ok" and row.latency is not None:
            self.latencies[row.deployment, row.latency] += row.n

    def percentile_ms(self, deployment: str, share: float) -> float | None:
        """Return the latency, in ms, below which a share of ``share`` of a deployment's calls lies, interpolated
        between bounds."""
        counts = [self.latencies[deployment, place] for place in range(len(BOUNDS_MS) + 1)]
        wanted, below = share * sum(counts), 0
        if not wanted:
            return None
        edges = (0.0, *BOUNDS_MS, BOUNDS_MS[-1])
        for place, count in enumerate(counts):
            if count and below + count >= wanted:
                return edges[place] + (edges[place + 1] - edges[place]) * (wanted - below) / count
            below += count
        return edges[-1]

    def routed_by_tier(self) -> dict[str, int]:
        """Return the routing decisions by tier, over all routers."""
        by_tier: Counter[str] = Counter()
        for (tier, _), n in self.routed.items():
            by_tier[tier] += n
        return dict(by_tier)

    @property
    def finished(self) -> int:
        """Return the number of finished queries."""
        return self.ended.total()


def sum_of(parts: Iterable[DashboardCounters]) -> DashboardCounters:
    total = DashboardCounters()
    for part in parts:
        total.add(part)
    return total
