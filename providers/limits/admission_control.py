"""Admission control: limits, rests and breakers of every deployment, enforced over all workers.

A call reserves before it is sent and settles after it. Without limits, and with a closed breaker, that needs no call to
Redis, because `watch` reads the state of all deployments four times a second. While Redis is away, each process stays
within its own share.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeVar

from redis.asyncio import Redis

from providers.health.circuit_breaker import CircuitState
from providers.health.local_health import LocalHealth
from providers.health.monitor import PROBE_WAIT_S, HealthMonitor
from providers.health.redis_health import SharedHealth
from providers.limits.adaptive_concurrency import OVERLOAD_CUT, SLOWNESS_CUT, AdaptiveConcurrency
from providers.limits.local_rate_limiter import Denied, Granted, LocalLimit
from providers.limits.quota_pace import QuotaPace
from providers.limits.redis_rate_limiter import SharedLimit
from redis_client import AWAY
from routing.fleet import Fleet, Model
from routing.outcome import EXCEEDS_CREDIT, Completion, Failure, FailureKind, Outcome

__all__ = ["AdmissionController", "Denied", "Grant"]

_Sent = TypeVar("_Sent")

GRANT_TTL_S: Final = 0.75
"""An older limited grant may no longer be sent, because rate_limit.lua assumes less than a second."""

RENEW_S: Final = 2.0

_LEASE_MARGIN_S: Final = 30.0
_ADAPTING_WAIT_S: Final = 0.1

_FIRST_REST_S: Final = 1.0
_LONGEST_REST_S: Final = 60.0
"""The maximum rest after a limit without a stated duration. The rest doubles from one to the next."""

_UNKNOWN_DAY_S: Final = 600.0
"""The rest after a day's quota without a stated end."""


class Grant(NamedTuple):
    """Permission to send one call now. Settle it in every case."""

    deployment: str
    tokens: int
    call: int
    at: float
    slot: int | None = None
    """Its place in the shared window."""
    probe_version: int | None = None
    """It is the probe of a half-open breaker of this version."""


@dataclass(slots=True)
class _DeploymentGate:
    model: Model
    adaptive: AdaptiveConcurrency
    local: LocalLimit
    shared: SharedLimit | None
    lease_s: float
    pace: QuotaPace
    in_flight: dict[int, float] = field(default_factory=dict)
    """Calls in flight, and the latest end of each."""

    @property
    def is_limited(self) -> bool:
        model = self.model
        return bool(model.requests_per_min or model.tokens_per_min or model.max_concurrency)

    def has_room(self, *, now: float) -> bool:
        """Whether this process may have one more call in flight."""
        if self.adaptive.has_room(len(self.in_flight)):
            return True
        # A call that was cancelled was never settled.
        for call in [call for call, until in self.in_flight.items() if until <= now]:
            del self.in_flight[call]
        return self.adaptive.has_room(len(self.in_flight))

    def learn(self, outcome: Outcome | None, *, sent_at: float) -> None:
        """Let the response's statement of limits set the pace of the next calls."""
        match outcome:
            case Completion():
                self.pace.note_answer(outcome.quota, sent_at=sent_at, in_flight=len(self.in_flight))
            case Failure(is_limit=True) if outcome.kind is not FailureKind.NOT_RUN:
                self.pace.note_limit(outcome.quota, sent_at=sent_at, in_flight=len(self.in_flight))
            case _:
                pass

    def rest_s(self, outcome: Failure, *, sent_at: float) -> float:
        """Return how long the deployment rests after ``outcome``."""
        if outcome.kind is FailureKind.NOT_RUN or outcome.cause == EXCEEDS_CREDIT:
            return 0.0
        if not outcome.is_limit:
            return outcome.retry_after_s or 0.0
        if outcome.notice.is_daily or outcome.notice.account_wide:
            return outcome.retry_after_s or _UNKNOWN_DAY_S
        used_up = outcome.quota is not None and outcome.quota.is_used_up
        if self.pace.is_sporadic and not used_up:
            return 0.0
        if outcome.retry_after_s is not None:
            return outcome.retry_after_s
        if used_up:
            return 0.0  # the pace knows when there is more
        return self.pace.next_rest_s(sent_at=sent_at, first_s=_FIRST_REST_S, longest_s=_LONGEST_REST_S)

    def adapt(self, outcome: Outcome | None, *, slow: bool) -> None:
        """Raise the concurrency after a good call, and lower it after a sign of too much load."""
        match outcome:
            case Completion():
                self.adaptive.rise()
                if slow:
                    self.adaptive.cut(SLOWNESS_CUT, in_flight=len(self.in_flight))
            case Failure(is_limit=True) if self.pace.is_sporadic:
                pass  # one among many that went through: it is about itself alone
            case Failure(kind=FailureKind.RATE_LIMITED | FailureKind.OVERLOADED):
                self.adaptive.cut(OVERLOAD_CUT, in_flight=len(self.in_flight))
            case _:
                pass


class AdmissionController:
    """The gate before every call, for one event loop.

    ``redis`` None: this process is the only one. ``live_workers`` returns how many processes share the limits while
    Redis is away; without it, the last number from Redis is used. ``clock`` gives seconds that only increase.
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
        names = tuple(fleet.models)
        self._fleet = fleet
        self._clock = clock
        self._live_workers = live_workers
        self._calls = itertools.count(1)
        self._watch = HealthMonitor(
            LocalHealth(names, clock=clock),
            None if redis is None else SharedHealth(redis, prefix, worker, names),
            on_return=self._resume,
            clock=clock,
        )
        self._gates = {
            name: _open_gate(model, fleet, redis=redis, prefix=prefix, worker=worker, clock=clock)
            for name, model in fleet.models.items()
        }

    async def reserve(self, model: Model, *, tokens: int) -> Grant | Denied:
        """Return permission to send one call to ``model`` within `GRANT_TTL_S`, for about ``tokens`` tokens in and
        out."""
        await self._watch.refresh()
        gate = self._gates[model.name]
        if not self._watch.is_calm and (rest_s := self._watch.rest_s(model)) > 0:
            return Denied(rest_s, "rest")
        now = self._clock()
        if not gate.has_room(now=now):
            return Denied(_ADAPTING_WAIT_S, "adapting")
        if (wait_s := gate.pace.wait_s(tokens, workers=self.workers)) > 0:
            return Denied(wait_s, "quota")
        call = next(self._calls)
        gate.in_flight[call] = now + gate.lease_s
        granted = False
        try:
            leave = await self._admit(gate, call, tokens)
            granted = isinstance(leave, Grant)
            return leave
        finally:
            if not granted:
                gate.in_flight.pop(call, None)

    async def settle(self, grant: Grant, *, outcome: Outcome | None) -> None:
        """Give back what ``grant`` reserved beyond its use, and report the outcome.

        ``outcome`` None: nothing was sent. Usage reported by a failure counts as much as that of an answer.
        """
        gate = self._gates[grant.deployment]
        if gate.in_flight.pop(grant.call, None) is None:
            return
        _give_back(gate, grant, outcome)
        slow = self._watch.note(grant.deployment, outcome)
        gate.learn(outcome, sent_at=grant.at)
        gate.adapt(outcome, slow=slow)
        if isinstance(outcome, Failure) and (rest_s := gate.rest_s(outcome, sent_at=grant.at)) > 0:
            gate.pace.note_rest()
            await self._watch.start_cooldown(self._resting_with(gate.model, outcome), rest_s)
        if grant.probe_version is not None:
            await self._watch.end_probe(grant.deployment, grant.probe_version, outcome, slow=slow)
        await self._watch.refresh()

    def _resting_with(self, model: Model, failure: Failure) -> Sequence[str]:
        """Return the deployments that rest with ``model``: those of its account, if the limit is the account's."""
        if not failure.notice.account_wide and not self._fleet.providers[model.provider].shared_limits:
            return [model.name]
        return [name for name, other in self._fleet.models.items() if other.provider == model.provider]

    async def for_sending(self, grant: Grant, committing: Awaitable[_Sent | None]) -> _Sent | None:
        """Return the result of ``committing``. If that is nothing, or an error, nothing is sent and ``grant`` is given
        back."""
        sent = None
        try:
            sent = await committing
        finally:
            if sent is None:
                await self.settle(grant, outcome=None)
        return sent

    async def resting(self, models: Sequence[Model]) -> Mapping[str, float]:
        """Return, for each resting deployment, the remaining seconds: by Retry-After, or an open breaker."""
        await self._watch.refresh()
        if self._watch.is_calm:
            return {}
        return {model.name: rest_s for model in models if (rest_s := self._watch.rest_s(model)) > 0}

    def why_resting(self, name: str) -> str | None:
        """Return why the deployment ``name`` rests: ``limit`` or ``failures``. None if it does not, as far as is
        known."""
        if self._watch.asked_rest_s(name) > 0:
            return "limit"
        return None if self._watch.circuit(name) is CircuitState.CLOSED else "failures"

    def is_good(self, grant: Grant) -> bool:
        """Whether ``grant`` may be sent now: its place in the limits is recent enough, and its deployment does not
        rest."""
        gate = self._gates[grant.deployment]
        if self._watch.asked_rest_s(grant.deployment) > 0:
            return False
        return not gate.is_limited or self._clock() - grant.at < GRANT_TTL_S

    async def renew(self, grant: Grant) -> Grant | Denied:
        """Return ``grant`` itself if it is good. Otherwise give it back and return another one.

        Call it right before sending, if something slow (a commit) came in between. It waits up to `RENEW_S`. After a
        `Denied` there is nothing to settle.
        """
        if self.is_good(grant):
            return grant
        await self.settle(grant, outcome=None)
        model, until = self._gates[grant.deployment].model, self._clock() + RENEW_S
        while True:
            leave = await self.reserve(model, tokens=grant.tokens)
            if isinstance(leave, Grant) or self._clock() + leave.wait_s > until:
                return leave
            await asyncio.sleep(leave.wait_s)

    def usual_s(self, model: Model) -> float | None:
        """Return the p95 of ``model``'s calls in seconds, or None while it is not known."""
        baseline_ms = self._watch.baseline_ms(model.name)
        return None if not baseline_ms else baseline_ms / 1000

    @property
    def workers(self) -> int:
        """Return the live processes that share the limits, including this one, by the last report."""
        return max(self._watch.workers, 1)

    def circuits(self) -> Mapping[str, CircuitState]:
        """Return each deployment's breaker, as last read."""
        return {name: self._watch.circuit(name) for name in self._gates}

    async def aclose(self) -> None:
        """Publish what other processes do not know yet."""
        for gate in self._gates.values():
            if gate.shared is not None:
                await gate.shared.flush()
        await self._watch.refresh(now_due=True)

    async def _admit(self, gate: _DeploymentGate, call: int, tokens: int) -> Grant | Denied:
        name, probe_version = gate.model.name, None
        if self._watch.circuit(name) is not CircuitState.CLOSED:  # and it does not rest: half open
            probe_version = await self._watch.acquire_probe(name, lease_s=gate.lease_s)
            if probe_version is None:
                return Denied(PROBE_WAIT_S, "probe")
        leave = await self._take(gate, call, tokens) if gate.is_limited else Granted()
        if isinstance(leave, Denied):
            if probe_version is not None:
                await self._watch.end_probe(name, probe_version, None)
            return leave
        return Grant(name, tokens, call, self._clock(), leave.slot, probe_version)

    async def _take(self, gate: _DeploymentGate, call: int, tokens: int) -> Granted | Denied:
        if gate.shared is not None and not self._watch.is_away:
            try:
                return await gate.shared.take(call, tokens)
            except AWAY as error:
                self._watch.lose(error)
        workers = self._live_workers() if self._live_workers else self._watch.workers
        return gate.local.take(tokens, workers=max(workers, 1), in_flight=len(gate.in_flight) - 1)

    def _resume(self) -> None:
        for gate in self._gates.values():
            if gate.shared is not None:
                gate.shared.resume()


def _open_gate(
    model: Model, fleet: Fleet, *, redis: Redis | None, prefix: str, worker: str, clock: Callable[[], float]
) -> _DeploymentGate:
    lease_s = fleet.providers[model.provider].deadline_s + _LEASE_MARGIN_S
    local = LocalLimit(model, clock=clock)
    shared = None if redis is None else SharedLimit(redis, model, prefix, worker, lease_s, local)
    return _DeploymentGate(
        model,
        AdaptiveConcurrency(fleet.tiers[model.tier].concurrency, clock=clock),
        local,
        shared,
        lease_s,
        QuotaPace(clock=clock),
    )


def _give_back(gate: _DeploymentGate, grant: Grant, outcome: Outcome | None) -> None:
    """Correct the shared window. Without a usage, the reservation counts."""
    if grant.slot is None or gate.shared is None:
        return
    used_tokens = outcome.usage.total_tokens if outcome is not None and outcome.usage is not None else 0
    was_sent = _was_sent(outcome)
    is_unknown = isinstance(outcome, Completion) or (outcome is not None and outcome.kind is FailureKind.UNKNOWN)
    keeps = was_sent and not used_tokens and is_unknown
    gate.shared.settle(
        grant.call,
        grant.slot,
        requests=0 if was_sent else -1,
        tokens=0 if keeps else used_tokens - grant.tokens,
    )


def _was_sent(outcome: Outcome | None) -> bool:
    """Whether the provider may have seen the request."""
    if outcome is None:
        return False
    if isinstance(outcome, Completion) or outcome.status is not None:
        return True
    return outcome.kind not in (
        FailureKind.NEVER_SENT,
        FailureKind.INEXPRESSIBLE,
        FailureKind.UNSUPPORTED,
        FailureKind.AUTH,
    )
