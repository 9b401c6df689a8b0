"""The health of every deployment: the figures behind the breakers, in this process alone.

`redis_health` keeps the same in Redis, for all workers.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from providers.health.circuit_breaker import HALF_LIFE_S, Breaker, BreakerTransition, Recent

BASELINE_WEIGHT = 0.05
"""The weight of a new p95 in the baseline."""


@dataclass(slots=True)
class OutcomeCounts:
    """The outcomes of a deployment's calls since they were last published."""

    calls: int = 0
    failed: int = 0
    slow: int = 0
    failed_in_a_row: int = 0
    """Failures of the connection or the server after the last call that went well, of these calls."""
    p95_ms: float | None = None

    def __bool__(self) -> bool:
        return bool(self.calls or self.p95_ms)


@dataclass(frozen=True, slots=True)
class HealthSnapshot:
    """The health of one deployment. ``baseline_ms``: the p95 of its calls, if known."""

    recent: Recent = field(default_factory=Recent)
    breaker: Breaker = field(default_factory=Breaker)
    baseline_ms: float | None = None
    probing_s: float = 0.0
    """How long another process's probe may still be in flight."""


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The health of all deployments. ``rests``: seconds that a deployment still rests; ``workers``: live processes,
    including this one."""

    readings: Mapping[str, HealthSnapshot]
    rests: Mapping[str, float]
    workers: int = 1


class HealthStore(Protocol):
    """The store of the figures. The methods of a shared one raise `redis_script.AWAY`."""

    async def tell(self, tallies: Mapping[str, OutcomeCounts]) -> HealthReport:
        """Add new outcomes, and return the health of all."""

    async def move(self, deployment: str, move: BreakerTransition, *, version: int) -> bool:
        """Change a breaker's state, unless another process was first since ``version``."""

    async def probe(self, deployment: str, *, lease_s: float) -> bool:
        """Take the one probe of a half-open breaker. Return False if another process has it."""

    async def end_probe(self, deployment: str) -> None:
        """Give the probe back, if this process has it, because it decided nothing."""

    async def rest(self, deployment: str, *, rest_s: float) -> None:
        """Let a deployment rest for so long. A longer rest is not shortened."""


@dataclass(slots=True)
class _DeploymentHealth:
    recent: Recent = field(default_factory=Recent)
    at: float = 0.0
    baseline_ms: float | None = None
    probe_at: float | None = None
    streak: int = 0
    version: int = 0
    probing_until: float = 0.0


@dataclass(slots=True)
class LocalHealth:
    """A `HealthStore` in memory."""

    deployments: Sequence[str]
    clock: Callable[[], float] = time.monotonic
    _pages: dict[str, _DeploymentHealth] = field(default_factory=dict)
    _rests: dict[str, float] = field(default_factory=dict)

    def adopt(self, readings: Mapping[str, HealthSnapshot], *, age_s: float) -> None:
        """Continue from a snapshot of another store that is ``age_s`` seconds old."""
        now = self.clock()
        for deployment, reading in readings.items():
            breaker = reading.breaker
            self._pages[deployment] = _DeploymentHealth(
                baseline_ms=reading.baseline_ms,
                probe_at=None if breaker.probe_in_s is None else now + breaker.probe_in_s - age_s,
                streak=breaker.streak,
                version=breaker.version,
                probing_until=now + reading.probing_s - age_s,
            )

    async def tell(self, tallies: Mapping[str, OutcomeCounts]) -> HealthReport:
        now = self.clock()
        for deployment, tally in tallies.items():
            self._add(self._page(deployment), tally, now=now)
        return HealthReport(
            {deployment: self._reading(self._page(deployment), now=now) for deployment in self.deployments},
            {deployment: max(self._rests.get(deployment, now) - now, 0.0) for deployment in self.deployments},
        )

    async def move(self, deployment: str, move: BreakerTransition, *, version: int) -> bool:
        page = self._page(deployment)
        if page.version != version:
            return False
        now = self.clock()
        page.probe_at = None if move.probe_in_s is None else now + move.probe_in_s
        page.streak, page.version, page.probing_until = move.streak, version + 1, 0.0
        page.recent, page.at = Recent(), now
        page.baseline_ms = page.baseline_ms and page.baseline_ms * move.baseline_factor
        return True

    async def probe(self, deployment: str, *, lease_s: float) -> bool:
        page, now = self._page(deployment), self.clock()
        if page.probing_until > now:
            return False
        page.probing_until = now + lease_s
        return True

    async def end_probe(self, deployment: str) -> None:
        self._page(deployment).probing_until = 0.0

    async def rest(self, deployment: str, *, rest_s: float) -> None:
        until = self.clock() + rest_s
        self._rests[deployment] = max(self._rests.get(deployment, until), until)

    def _page(self, deployment: str) -> _DeploymentHealth:
        return self._pages.setdefault(deployment, _DeploymentHealth())

    def _add(self, page: _DeploymentHealth, tally: OutcomeCounts, *, now: float) -> None:
        had = _faded(page.recent, now - page.at)
        in_a_row = tally.failed_in_a_row + (had.failed_in_a_row if tally.calls == tally.failed else 0)
        page.recent = Recent(had.calls + tally.calls, had.failed + tally.failed, had.slow + tally.slow, in_a_row)
        page.at = now
        if tally.p95_ms is not None:
            had_ms = page.baseline_ms
            page.baseline_ms = tally.p95_ms if not had_ms else had_ms + BASELINE_WEIGHT * (tally.p95_ms - had_ms)

    def _reading(self, page: _DeploymentHealth, *, now: float) -> HealthSnapshot:
        probe_in_s = None if page.probe_at is None else max(page.probe_at - now, 0.0)
        return HealthSnapshot(
            recent=_faded(page.recent, now - page.at),
            breaker=Breaker(probe_in_s, page.streak, page.version),
            baseline_ms=page.baseline_ms,
            probing_s=max(page.probing_until - now, 0.0),
        )


def _faded(recent: Recent, elapsed_s: float) -> Recent:
    fade = 0.5 ** (elapsed_s / HALF_LIFE_S)
    return Recent(recent.calls * fade, recent.failed * fade, recent.slow * fade, recent.failed_in_a_row)
