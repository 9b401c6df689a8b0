"""Who may call when: limits, rests and breakers of every deployment, held over all workers.

A call reserves before it is sent and settles after it. Without limits, and with a closed breaker,
that costs no question to Redis: the state of all deployments is read four times a second. While
Redis is away, each process goes on within its own share.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

import structlog
from redis.asyncio import Redis

from providers.adaptive import OVERLOAD_CUT, SLOWNESS_CUT, Adaptive
from providers.breaker import Breaker, Circuit, Health, Move, after_probe, health_of, is_slow, trip
from providers.health import HealthBook, LocalHealth, Reading, Report, Tally
from providers.leave import Taken, Wait
from providers.local_limit import LocalLimit
from providers.redis_script import AWAY
from providers.shared_health import SharedHealth
from providers.shared_limit import SharedLimit
from routing.fleet import Fleet, Model
from routing.outcome import Completion, Failure, FailureKind, Outcome

__all__ = ["Admission", "Grant", "Wait"]

FRESH_S: Final = 0.25
"""How old the state of the deployments may be."""

AWAY_S: Final = 1.0
"""After a failure Redis is left alone for so long."""

GOOD_S: Final = 0.75
"""A grant that is older than this may no longer be sent: admission.lua counts on less than a second."""

RENEW_S: Final = 2.0

_LEASE_MARGIN_S: Final = 30.0
_ADAPTING_WAIT_S: Final = 0.1
_PROBE_WAIT_S: Final = 0.5
_SAMPLES: Final = 40
"""Calls behind one p95."""

log = structlog.get_logger()

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to send one call now. Settle it, whatever comes."""

    deployment: str
    tokens: int
    call: int
    at: float
    slot: int | None = None
    """Where the shared window counted it."""
    probe_version: int | None = None
    """It is the probe of a half-open breaker of this version."""


@dataclass(slots=True)
class _Desk:
    """What this process knows of one deployment."""

    model: Model
    adaptive: Adaptive
    local: LocalLimit
    shared: SharedLimit | None
    lease_s: float
    in_flight: dict[int, float] = field(default_factory=dict)
    """Calls, and when each is over at the latest."""
    reading: Reading = field(default_factory=Reading)
    tally: Tally = field(default_factory=Tally)
    latencies_ms: list[float] = field(default_factory=list)

    @property
    def is_limited(self) -> bool:
        model = self.model
        return bool(model.requests_per_min or model.tokens_per_min or model.max_concurrency)


class Admission:
    """The gate before every call, for one event loop.

    ``redis`` None: this process is the only one. ``live_workers`` says how many processes share the
    limits while Redis is away; without it, as many as Redis last knew of. ``clock`` gives seconds
    that only go forward.
    """

    def __init__(
        self,
        redis: Redis | None,
        *,
        fleet: Fleet,
        worker: str,
        prefix: str = "pointsman:",
        live_workers: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        names, providers = tuple(fleet.models), tuple(fleet.providers)
        self._clock = clock
        self._live_workers = live_workers
        self._known_workers = 1
        self._calls = itertools.count(1)
        self._local = LocalHealth(names, providers, clock=clock)
        self._shared = None if redis is None else SharedHealth(redis, prefix, worker, names, providers)
        self._desks = {
            name: _open_desk(model, fleet, redis=redis, prefix=prefix, worker=worker, clock=clock)
            for name, model in fleet.models.items()
        }
        self._rest_until: dict[str, float] = {}
        self._read_at = clock()
        self._due_at = float("-inf")
        self._away_until: float | None = None

    async def reserve(self, model: Model, *, tokens: int) -> Grant | Wait:
        """Leave to send one call to ``model`` within `GOOD_S`, for about ``tokens`` tokens in and out."""
        await self._refresh()
        desk = self._desks[model.name]
        rest_s = self._rest_s(desk)
        if rest_s > 0:
            return Wait(rest_s, "rest")
        if not self._has_room(desk):
            return Wait(_ADAPTING_WAIT_S, "adapting")
        call = next(self._calls)
        desk.in_flight[call] = self._clock() + desk.lease_s
        granted = False
        try:
            leave = await self._admit(desk, call, tokens)
            granted = isinstance(leave, Grant)
            return leave
        finally:
            if not granted:
                del desk.in_flight[call]

    async def settle(self, grant: Grant, *, used_tokens: int, outcome: Outcome | None) -> None:
        """Give back what ``grant`` holds beyond what was used, and say how it went.

        ``outcome`` None: nothing was sent. ``used_tokens`` is the real usage, in and out; 0 where it is not known.
        """
        desk = self._desks[grant.deployment]
        if desk.in_flight.pop(grant.call, None) is None:
            return
        self._give_back(desk, grant, used_tokens=used_tokens, outcome=outcome)
        health = health_of(outcome)
        slow = isinstance(outcome, Completion) and is_slow(outcome.latency_ms, desk.reading.baseline_ms)
        self._count(desk, health, outcome, slow=slow)
        self._adapt(desk, outcome, slow=slow)
        if isinstance(outcome, Failure) and outcome.retry_after_s:
            await self._let_rest(desk.model.provider, outcome.retry_after_s)
        if grant.probe_version is not None:
            await self._end_probe(desk, grant.probe_version, health, slow=slow)
        await self._refresh()

    async def resting(self, models: Sequence[Model]) -> Mapping[str, float]:
        """For each deployment that rests, the seconds that it still does: Retry-After, or an open breaker."""
        await self._refresh()
        rests = {model.name: self._rest_s(self._desks[model.name]) for model in models}
        return {name: rest_s for name, rest_s in rests.items() if rest_s > 0}

    def is_good(self, grant: Grant) -> bool:
        """Whether ``grant`` may be sent now: no limit counted on it earlier, and its provider has not come to rest."""
        desk, now = self._desks[grant.deployment], self._clock()
        if self._rest_until.get(desk.model.provider, 0.0) > now:
            return False
        return not desk.is_limited or now - grant.at < GOOD_S

    async def renew(self, grant: Grant) -> Grant | Wait:
        """``grant`` itself if it is good, else another one for it, which is given back either way.

        For right before sending, when something that may take long (a commit) stood in between. Waits
        for up to `RENEW_S`. A `Wait` means that there is nothing to settle any more.
        """
        if self.is_good(grant):
            return grant
        await self.settle(grant, used_tokens=0, outcome=None)
        model, until = self._desks[grant.deployment].model, self._clock() + RENEW_S
        while True:
            leave = await self.reserve(model, tokens=grant.tokens)
            if isinstance(leave, Grant) or self._clock() + leave.wait_s > until:
                return leave
            await asyncio.sleep(leave.wait_s)

    def usual_s(self, model: Model) -> float | None:
        """Within how many seconds 19 of 20 calls of ``model`` are through; None while that is not known."""
        baseline_ms = self._desks[model.name].reading.baseline_ms
        return None if not baseline_ms else baseline_ms / 1000

    def circuits(self) -> Mapping[str, Circuit]:
        """Each deployment's breaker, as last read."""
        return {name: desk.reading.breaker.circuit for name, desk in self._desks.items()}

    async def aclose(self) -> None:
        """Tell the others what they do not know yet."""
        for desk in self._desks.values():
            if desk.shared is not None:
                await desk.shared.flush()
        self._due_at = float("-inf")
        await self._refresh()

    # ── leave ────────────────────────────────────────────────────────────────────────────────────

    async def _admit(self, desk: _Desk, call: int, tokens: int) -> Grant | Wait:
        version = None
        if desk.reading.breaker.circuit is not Circuit.CLOSED:  # and it does not rest: half open
            version = desk.reading.breaker.version
            if not await self._take_probe(desk):
                return Wait(_PROBE_WAIT_S, "probe")
        leave = await self._take(desk, call, tokens) if desk.is_limited else Taken()
        if isinstance(leave, Wait):
            if version is not None:
                await self._end_probe(desk, version, Health.SILENT, slow=False)
            return leave
        return Grant(desk.model.name, tokens, call, self._clock(), leave.slot, version)

    async def _take(self, desk: _Desk, call: int, tokens: int) -> Taken | Wait:
        if desk.shared is not None and self._away_until is None:
            try:
                return await desk.shared.take(call, tokens)
            except AWAY as error:
                self._lose(error)
        workers = self._live_workers() if self._live_workers else self._known_workers
        return desk.local.take(tokens, workers=max(workers, 1), in_flight=len(desk.in_flight) - 1)

    def _has_room(self, desk: _Desk) -> bool:
        if desk.adaptive.has_room(len(desk.in_flight)):
            return True
        # A call that was cancelled was never settled.
        now = self._clock()
        desk.in_flight = {call: until for call, until in desk.in_flight.items() if until > now}
        return desk.adaptive.has_room(len(desk.in_flight))

    def _give_back(self, desk: _Desk, grant: Grant, *, used_tokens: int, outcome: Outcome | None) -> None:
        if grant.slot is None or desk.shared is None or self._away_until is not None:
            return
        was_sent = _was_sent(outcome)
        # What nobody knows counts as it was reserved.
        is_known = bool(used_tokens) or not was_sent
        is_known = is_known or (isinstance(outcome, Failure) and outcome.kind is not FailureKind.UNKNOWN)
        desk.shared.settle(
            grant.call,
            grant.slot,
            requests=0 if was_sent else -1,
            tokens=used_tokens - grant.tokens if is_known else 0,
        )

    # ── health ───────────────────────────────────────────────────────────────────────────────────

    def _count(self, desk: _Desk, health: Health, outcome: Outcome | None, *, slow: bool) -> None:
        if health is Health.SILENT:
            return
        desk.tally.calls += 1
        desk.tally.failed += health is Health.FAILED
        desk.tally.slow += slow
        if isinstance(outcome, Completion) and not slow:
            desk.latencies_ms.append(outcome.latency_ms)
            if len(desk.latencies_ms) >= _SAMPLES:
                desk.tally.p95_ms = sorted(desk.latencies_ms)[int(0.95 * _SAMPLES)]
                desk.latencies_ms.clear()

    def _adapt(self, desk: _Desk, outcome: Outcome | None, *, slow: bool) -> None:
        match outcome:
            case Completion():
                desk.adaptive.rise()
                if slow:
                    desk.adaptive.cut(SLOWNESS_CUT, in_flight=len(desk.in_flight))
            case Failure(kind=FailureKind.RATE_LIMITED | FailureKind.OVERLOADED):
                desk.adaptive.cut(OVERLOAD_CUT, in_flight=len(desk.in_flight))
            case _:
                pass

    def _rest_s(self, desk: _Desk) -> float:
        """Seconds until ``desk`` may be called, as far as is known; 0 where it may be, or be probed."""
        now = self._clock()
        rest_s = self._rest_until.get(desk.model.provider, now) - now
        breaker, elapsed_s = desk.reading.breaker, now - self._read_at
        if breaker.probe_in_s is not None:
            rest_s = max(rest_s, breaker.probe_in_s - elapsed_s)
            if desk.reading.probing_s - elapsed_s > 0:
                rest_s = max(rest_s, _PROBE_WAIT_S)
        return max(rest_s, 0.0)

    async def _take_probe(self, desk: _Desk) -> bool:
        return await self._ask(lambda book: book.probe(desk.model.name, lease_s=desk.lease_s))

    async def _end_probe(self, desk: _Desk, version: int, health: Health, *, slow: bool) -> None:
        move = after_probe(desk.reading.breaker, health, is_slow=slow)
        if move is None or not await self._make_move(desk, move, version=version):
            await self._ask(lambda book: book.end_probe(desk.model.name))

    async def _make_move(self, desk: _Desk, move: Move, *, version: int) -> bool:
        """False where another process was first: the next reading shows what it did."""
        name = desk.model.name
        if not await self._ask(lambda book: book.move(name, move, version=version)):
            return False
        elapsed_s = self._clock() - self._read_at
        probe_in_s = None if move.probe_in_s is None else move.probe_in_s + elapsed_s
        desk.reading = replace(desk.reading, breaker=Breaker(probe_in_s, move.streak, version + 1), probing_s=0.0)
        circuit = desk.reading.breaker.circuit
        log.warning("breaker_moved", deployment=name, circuit=circuit, reason=move.reason, rest_s=move.probe_in_s)
        return True

    async def _let_rest(self, provider: str, rest_s: float) -> None:
        until = self._clock() + rest_s
        if self._rest_until.get(provider, 0.0) >= until:
            return
        self._rest_until[provider] = until
        log.info("provider_rests", provider=provider, rest_s=round(rest_s, 3))
        await self._ask(lambda book: book.rest(provider, rest_s=rest_s))

    # ── the book ─────────────────────────────────────────────────────────────────────────────────

    async def _refresh(self) -> None:
        """Tell what is new and learn how all are, if the last time was more than `FRESH_S` ago."""
        now = self._clock()
        if now < self._due_at:
            return
        self._due_at = now + FRESH_S  # whoever comes meanwhile goes by what is known
        tallies = {name: desk.tally for name, desk in self._desks.items() if desk.tally}
        for name in tallies:
            self._desks[name].tally = Tally()
        self._learn(await self._tell(tallies))
        for desk in self._desks.values():
            if move := trip(desk.reading.breaker, desk.reading.recent):
                await self._make_move(desk, move, version=desk.reading.breaker.version)

    async def _tell(self, tallies: Mapping[str, Tally]) -> Report:
        """Redis is asked, and while it is away only once in `AWAY_S`."""
        if self._shared is None or (self._away_until is not None and self._clock() < self._away_until):
            return await self._local.tell(tallies)
        try:
            report = await self._shared.tell(tallies)
        except AWAY as error:
            self._lose(error)
            return await self._local.tell(tallies)
        self._known_workers = report.workers
        if self._away_until is not None:
            self._away_until = None
            log.info("limiter_back")
        return report

    def _learn(self, report: Report) -> None:
        self._read_at = self._clock()
        for name, reading in report.readings.items():
            self._desks[name].reading = reading
        for provider, rest_s in report.rests.items():
            if rest_s > 0:
                until = self._read_at + rest_s
                self._rest_until[provider] = max(self._rest_until.get(provider, 0.0), until)

    async def _ask(self, question: Callable[[HealthBook], Awaitable[_T]]) -> _T:
        """Ask the shared book, or this process's own while Redis is away."""
        if self._shared is not None and self._away_until is None:
            try:
                return await question(self._shared)
            except AWAY as error:
                self._lose(error)
        return await question(self._local)

    def _lose(self, error: BaseException) -> None:
        """Redis is away: go on by oneself, from what is known."""
        now = self._clock()
        if self._away_until is None:
            log.warning("limiter_away", error=type(error).__name__)
            readings = {name: desk.reading for name, desk in self._desks.items()}
            self._local.adopt(readings, age_s=now - self._read_at)
        self._away_until = now + AWAY_S


def _open_desk(
    model: Model, fleet: Fleet, *, redis: Redis | None, prefix: str, worker: str, clock: Callable[[], float]
) -> _Desk:
    lease_s = fleet.providers[model.provider].deadline_s + _LEASE_MARGIN_S
    local = LocalLimit(model, clock=clock)
    shared = None if redis is None else SharedLimit(redis, model, prefix, worker, lease_s, local)
    return _Desk(model, Adaptive(fleet.tiers[model.tier].concurrency, clock=clock), local, shared, lease_s)


def _was_sent(outcome: Outcome | None) -> bool:
    """Whether the provider can have seen the request."""
    if outcome is None:
        return False
    if isinstance(outcome, Completion) or outcome.status is not None:
        return True
    return outcome.kind not in (FailureKind.NEVER_SENT, FailureKind.INEXPRESSIBLE, FailureKind.AUTH)
