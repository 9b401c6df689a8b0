"""The health of every deployment as this process sees it: read and published four times a second.

The figures are in Redis, for all workers. While Redis is away this process continues alone, from what it last knew, and
retries once a second.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import structlog

from providers.health.circuit_breaker import (
    FAILED_IN_A_ROW,
    Breaker,
    BreakerTransition,
    CircuitState,
    Health,
    after_probe,
    counts_in_a_row,
    health_of,
    is_slow,
    trip,
)
from providers.health.local_health import HealthReport, HealthSnapshot, HealthStore, LocalHealth, OutcomeCounts
from providers.health.redis_health import SharedHealth
from redis_client import AWAY
from routing.fleet import Model
from routing.outcome import Completion, Outcome

FRESH_S: Final = 0.25
"""Maximum age of the deployments' state, in seconds."""

AWAY_S: Final = 1.0
"""After a failure, Redis is not asked for this many seconds."""

PROBE_WAIT_S: Final = 0.5
"""The wait while another process probes."""

_SAMPLES: Final = 40
"""Minimum calls for one p95."""

log = structlog.get_logger()

_T = TypeVar("_T")


@dataclass(slots=True)
class _Watched:
    reading: HealthSnapshot = field(default_factory=HealthSnapshot)
    tally: OutcomeCounts = field(default_factory=OutcomeCounts)
    latencies_ms: list[float] = field(default_factory=list)

    def count(self, health: Health, outcome: Outcome | None, *, slow: bool) -> None:
        """Add one outcome to those that are to be published."""
        if health is Health.SILENT:
            return
        self.tally.calls += 1
        self.tally.failed += health is Health.FAILED
        self.tally.failed_in_a_row = (
            0 if health is Health.WELL else self.tally.failed_in_a_row + counts_in_a_row(outcome)
        )
        self.tally.slow += slow
        if isinstance(outcome, Completion) and not slow:
            self.latencies_ms.append(outcome.latency_ms)
            if len(self.latencies_ms) >= _SAMPLES:
                self.tally.p95_ms = sorted(self.latencies_ms)[int(0.95 * _SAMPLES)]
                self.latencies_ms.clear()


class HealthMonitor:
    """The health of all deployments. ``shared`` None: there is no Redis. ``on_return`` is called when it is back."""

    def __init__(
        self,
        local: LocalHealth,
        shared: SharedHealth | None,
        *,
        on_return: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._local = local
        self._shared = shared
        self._on_return = on_return
        self._clock = clock
        self._all = {name: _Watched() for name in local.deployments}
        self._rest_until: dict[str, float] = {}
        """By deployment, while it rests because its provider asked for it."""
        self._broken: set[str] = set()
        """Deployments with a breaker that is not closed."""
        self._probing_until: dict[str, float] = {}
        """Deployments whose probe this process requests or has, with the time limit."""
        self._read_at = clock()
        self._due_at = float("-inf")
        self._away_until: float | None = None
        self.workers = 1
        """Live processes, by the last report."""

    @property
    def is_away(self) -> bool:
        """Whether Redis does not answer."""
        return self._away_until is not None

    @property
    def is_calm(self) -> bool:
        """Whether no deployment rests and every breaker is closed, as far as is known."""
        return not self._rest_until and not self._broken

    def circuit(self, name: str) -> CircuitState:
        """Return the breaker of a deployment, as last read."""
        return self._all[name].reading.breaker.circuit

    def baseline_ms(self, name: str) -> float | None:
        """Return the p95 of its calls in ms, if known."""
        return self._all[name].reading.baseline_ms

    def asked_rest_s(self, name: str) -> float:
        """Return the seconds that a deployment still rests because its provider asked for it, as far as is known."""
        return max(self._rest_until.get(name, 0.0) - self._clock(), 0.0)

    def rest_s(self, model: Model) -> float:
        """Return the seconds until ``model`` may be called, as far as is known. 0 if it may be called or probed now."""
        reading, elapsed_s = self._all[model.name].reading, self._clock() - self._read_at
        rest_s = self.asked_rest_s(model.name)
        if reading.breaker.probe_in_s is not None:
            rest_s = max(rest_s, reading.breaker.probe_in_s - elapsed_s)
            if reading.probing_s > elapsed_s:
                rest_s = max(rest_s, PROBE_WAIT_S)
        return rest_s

    def note(self, name: str, outcome: Outcome | None) -> bool:
        """Count an outcome. Return whether it was slow."""
        watched = self._all[name]
        slow = isinstance(outcome, Completion) and is_slow(outcome.latency_ms, watched.reading.baseline_ms)
        watched.count(health_of(outcome), outcome, slow=slow)
        if watched.tally.failed_in_a_row == FAILED_IN_A_ROW:
            self._due_at = float("-inf")  # enough to open the breaker: each further call may cost its maximum
        return slow

    async def refresh(self, *, now_due: bool = False) -> None:
        """Publish new outcomes and read the health of all, if the last time was more than `OPEN_COUNT_TTL_S` ago."""
        now = self._clock()
        if now < self._due_at and not now_due:
            return
        self._due_at = now + FRESH_S  # whoever comes meanwhile goes by what is known
        tallies = {name: watched.tally for name, watched in self._all.items() if watched.tally}
        for name in tallies:
            self._all[name].tally = OutcomeCounts()
        self._learn(await self._tell(tallies))
        for name, watched in self._all.items():
            if move := trip(watched.reading.breaker, watched.reading.recent):
                await self._make_move(name, move, version=watched.reading.breaker.version)

    async def acquire_probe(self, name: str, *, lease_s: float) -> int | None:
        """Return the version of the half-open breaker whose probe the caller now has, or None if another has it.

        One call per process asks at a time, because only one of hundreds that wait can be granted.
        """
        version, now = self._all[name].reading.breaker.version, self._clock()
        if self._probing_until.get(name, now) > now:
            return None
        self._probing_until[name] = now + lease_s
        taken = False
        try:
            taken = await self._ask(lambda book: book.probe(name, lease_s=lease_s))
        finally:
            if not taken:
                # A probe that outlived its lease may have ended meanwhile.
                self._probing_until.pop(name, None)
        return version if taken else None

    async def end_probe(self, name: str, version: int, outcome: Outcome | None, *, slow: bool = False) -> None:
        """Let the probe decide. ``outcome`` None: it was not sent, so another may try."""
        self._probing_until.pop(name, None)
        move = after_probe(self._all[name].reading.breaker, health_of(outcome), is_slow=slow)
        if move is None or not await self._make_move(name, move, version=version):
            await self._ask(lambda book: book.end_probe(name))

    async def start_cooldown(self, names: Sequence[str], rest_s: float) -> None:
        """Let deployments rest for so long, for all workers. A shorter rest does not shorten a longer one."""
        for name in names:
            if self.asked_rest_s(name) >= rest_s:
                continue
            self._rest_until[name] = self._clock() + rest_s
            log.info("deployment_rests", deployment=name, rest_s=round(rest_s, 3))
            await self._ask(lambda book, name=name: book.rest(name, rest_s=rest_s))  # type: ignore[misc]

    def lose(self, error: BaseException) -> None:
        """Redis is away: continue alone, from what is known."""
        now = self._clock()
        if self._away_until is None:
            log.warning("limiter_away", error=type(error).__name__)
            readings = {name: watched.reading for name, watched in self._all.items()}
            self._local.adopt(readings, age_s=now - self._read_at)
        self._away_until = now + AWAY_S

    async def _tell(self, tallies: Mapping[str, OutcomeCounts]) -> HealthReport:
        """Call Redis, and while it is away only once in `AWAY_S`."""
        if self._shared is None or (self._away_until is not None and self._clock() < self._away_until):
            return await self._local.tell(tallies)
        try:
            if self._away_until is not None:
                await self._free_probes(self._shared)
            report = await self._shared.tell(tallies)
        except AWAY as error:
            self.lose(error)
            return await self._local.tell(tallies)
        self.workers = report.workers
        if self._away_until is not None:
            self._away_until = None
            log.info("limiter_back")
            self._on_return()
        return report

    async def _free_probes(self, shared: SharedHealth) -> None:
        """Give back the probes that Redis counts as this process's but that ended, or were not received.

        No other process would probe before their lease ends.
        """
        for name in self._all:
            if name not in self._probing_until:
                await shared.end_probe(name)

    def _learn(self, report: HealthReport) -> None:
        self._read_at = self._clock()
        for name, reading in report.readings.items():
            self._note_reading(name, reading)
        for rested in [name for name, until in self._rest_until.items() if until <= self._read_at]:
            del self._rest_until[rested]
        for name, rest_s in report.rests.items():
            if rest_s > self.asked_rest_s(name):
                self._rest_until[name] = self._read_at + rest_s

    def _note_reading(self, name: str, reading: HealthSnapshot) -> None:
        self._all[name].reading = reading
        (self._broken.discard if reading.breaker.circuit is CircuitState.CLOSED else self._broken.add)(name)

    async def _make_move(self, name: str, move: BreakerTransition, *, version: int) -> bool:
        """Return False if another process was first. The next reading shows its result."""
        if not await self._ask(lambda book: book.move(name, move, version=version)):
            return False
        elapsed_s = self._clock() - self._read_at
        probe_in_s = None if move.probe_in_s is None else move.probe_in_s + elapsed_s
        breaker = Breaker(probe_in_s, move.streak, version + 1)
        self._note_reading(name, replace(self._all[name].reading, breaker=breaker, probing_s=0.0))
        log.warning(
            "breaker_moved", deployment=name, circuit=breaker.circuit, reason=move.reason, rest_s=move.probe_in_s
        )
        return True

    async def _ask(self, question: Callable[[HealthStore], Awaitable[_T]]) -> _T:
        """Call the shared store, or this process's own while Redis is away."""
        if self._shared is not None and self._away_until is None:
            try:
                return await question(self._shared)
            except AWAY as error:
                self.lose(error)
        return await question(self._local)
