"""The health of every deployment for all workers: `health` in Redis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from providers.health.circuit_breaker import HALF_LIFE_S, Breaker, BreakerTransition, Recent
from providers.health.local_health import BASELINE_WEIGHT, HealthReport, HealthSnapshot, OutcomeCounts
from redis_client import Script

_SCRIPT: Final = Script(Path(__file__).with_name("health.lua"))
_NOTHING: Final = OutcomeCounts()


@dataclass(frozen=True, slots=True)
class SharedHealth:
    """A `HealthStore` that all processes with the same Redis and prefix share."""

    redis: Redis
    prefix: str
    worker: str
    deployments: Sequence[str]

    async def tell(self, tallies: Mapping[str, OutcomeCounts]) -> HealthReport:
        keys: list[str] = []
        args: list[str | int | float] = [
            "tell", HALF_LIFE_S * 1000, BASELINE_WEIGHT, self.worker, len(self.deployments)
        ]  # fmt: skip
        for deployment in self.deployments:
            keys += self._keys(deployment)
            tally = tallies.get(deployment, _NOTHING)
            args += [tally.calls, tally.failed, tally.slow, tally.failed_in_a_row]
            args.append("" if tally.p95_ms is None else tally.p95_ms)
        keys += [self._rest_key(name) for name in self.deployments] + [f"{self.prefix}workers"]
        workers, readings, rests = await _SCRIPT.run(self.redis, keys, args)
        return HealthReport(
            {name: _reading(said) for name, said in zip(self.deployments, readings, strict=True)},
            {name: float(said) / 1000 for name, said in zip(self.deployments, rests, strict=True)},
            int(workers),
        )

    async def move(self, deployment: str, move: BreakerTransition, *, version: int) -> bool:
        open_ms = -1 if move.probe_in_s is None else round(move.probe_in_s * 1000)
        args: list[str | int | float] = ["move", version, open_ms, move.streak, move.baseline_factor]
        return bool(await _SCRIPT.run(self.redis, self._keys(deployment), args))

    async def probe(self, deployment: str, *, lease_s: float) -> bool:
        return bool(await self.redis.set(self._keys(deployment)[1], self.worker, px=round(lease_s * 1000), nx=True))

    async def end_probe(self, deployment: str) -> None:
        await _SCRIPT.run(self.redis, self._keys(deployment)[1:], ["leave", self.worker])

    async def rest(self, deployment: str, *, rest_s: float) -> None:
        # A millisecond more: a rest is never cut by rounding.
        await _SCRIPT.run(self.redis, [self._rest_key(deployment)], ["rest", int(rest_s * 1000) + 1])

    def _keys(self, deployment: str) -> list[str]:
        return [f"{self.prefix}health:{deployment}", f"{self.prefix}probe:{deployment}"]

    def _rest_key(self, deployment: str) -> str:
        return f"{self.prefix}rest:{deployment}"


def _reading(said: Sequence[bytes | str]) -> HealthSnapshot:
    calls, failed, slow, in_a_row, baseline, open_ms, streak, version, probing_ms = map(float, said)
    return HealthSnapshot(
        recent=Recent(calls, failed, slow, int(in_a_row)),
        breaker=Breaker(None if open_ms < 0 else open_ms / 1000, int(streak), int(version)),
        baseline_ms=baseline or None,
        probing_s=probing_ms / 1000,
    )
