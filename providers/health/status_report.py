"""The state of all deployments, read from Redis by a process that calls none of them. It changes nothing there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis

from providers.health.circuit_breaker import Breaker, CircuitState
from routing.fleet import Model

_SLOT_US: Final = 500_000
"""As in rate_limit.lua."""
_SLOTS: Final = 123


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """One deployment as all workers see it. The use of its limits covers the last minute."""

    circuit: CircuitState = CircuitState.CLOSED
    probe_in_s: float | None = None
    rest_s: float = 0.0
    """The remaining rest in seconds, after a Retry-After."""
    used_requests: int = 0
    used_tokens: int = 0
    in_flight: int = 0
    """Counted only for a deployment with a max_concurrency."""


async def overview(redis: Redis, models: Sequence[Model], *, prefix: str) -> Mapping[str, DeploymentState]:
    """Return the state of each deployment by its name. Raises redis's errors."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.time()
        for model in models:
            pipe.hget(f"{prefix}health:{model.name}", "until")
            pipe.pttl(f"{prefix}rest:{model.name}")
            pipe.hgetall(f"{prefix}limit:{model.name}")
            pipe.zcard(f"{prefix}slots:{model.name}")
        (seconds, micros), *states = await pipe.execute()
    now_us = int(seconds) * 1_000_000 + int(micros)
    return {model.name: _state(now_us, *states[4 * place : 4 * place + 4]) for place, model in enumerate(models)}


def _state(now_us: int, until: bytes | None, rest_ms: int, limit: Mapping[bytes, bytes], slots: int) -> DeploymentState:
    until_ms = float(until or 0)
    breaker = Breaker(max(until_ms - now_us / 1000, 0.0) / 1000 if until_ms > 0 else None)
    return DeploymentState(
        circuit=breaker.circuit,
        probe_in_s=breaker.probe_in_s,
        rest_s=max(rest_ms, 0) / 1000,
        used_requests=_used(limit, b"r", now_us),
        used_tokens=_used(limit, b"t", now_us),
        in_flight=int(slots),
    )


def _used(limit: Mapping[Any, Any], kind: bytes, now_us: int) -> int:
    """Return the sum of the slots that still count. The window forgets the others only at its next use."""
    oldest = now_us // _SLOT_US - _SLOTS + 1
    return sum(
        int(value)
        for name, value in limit.items()
        if name[:1] == kind and name[1:].isdigit() and int(name[1:]) >= oldest
    )
