"""A model's limits over all workers, in Redis. Every process asks for all its waiting calls at once."""

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from providers.limits.local_rate_limiter import PERIOD_S, Denied, Granted, LocalLimit
from redis_client import AWAY, Script
from routing.fleet import Model

_SCRIPT: Final = Script(Path(__file__).with_name("rate_limit.lua"))
_TOGETHER: Final = 64
"""Maximum calls in one request to Redis."""

_KEPT: Final = 10_000
"""Maximum settlements that are kept while Redis is away."""

_SPREAD_S: Final = 1.0
"""Calls that are refused together return one after the other, within this many seconds."""


@dataclass(slots=True)
class _Wanted:
    call: int
    tokens: int
    answer: "asyncio.Future[Granted | Denied]"


@dataclass(frozen=True, slots=True)
class _Settled:
    call: int
    slot: int
    requests: int
    tokens: int

    def without_return(self) -> "_Settled":
        """Return the same without giving anything back, because it may have arrived before, and twice would be too
        much."""
        return replace(self, requests=max(self.requests, 0), tokens=max(self.tokens, 0))


@dataclass(slots=True)
class SharedLimit:
    """The limit of one deployment. ``local`` records every grant, in case Redis goes away."""

    redis: Redis
    model: Model
    prefix: str
    worker: str
    lease_s: float
    local: LocalLimit
    _wanted: list[_Wanted] = field(default_factory=list)
    _settled: list[_Settled] = field(default_factory=list)
    _asking: "asyncio.Task[None] | None" = None
    _is_away: bool = False
    _window: bytes | str | None = None
    """The window of the last answer. It changes after Redis has lost it."""

    async def take(self, call: int, tokens: int) -> Granted | Denied:
        """Return permission for ``call``, or how long to wait. Raises one of `AWAY`."""
        wanted = _Wanted(call, tokens, asyncio.get_running_loop().create_future())
        self._wanted.append(wanted)
        self._is_away = False
        self._ask()
        try:
            return await wanted.answer
        except asyncio.CancelledError:
            self._put_back(wanted)
            raise

    def _put_back(self, wanted: _Wanted) -> None:
        """Put a grant back whose caller was cancelled, perhaps before it received the answer."""
        answer = wanted.answer
        if answer.done() and not answer.cancelled() and answer.exception() is None:
            leave = answer.result()
            if isinstance(leave, Granted) and leave.slot is not None:
                self.settle(wanted.call, leave.slot, requests=-1, tokens=-wanted.tokens)

    def settle(self, call: int, slot: int, *, requests: int, tokens: int) -> None:
        """Free the place of ``call``, and add its usage beyond the reservation (negative if below)."""
        self._settled.append(_Settled(call, slot, requests, tokens))
        if not self._is_away:
            self._ask()

    def resume(self) -> None:
        """Redis is back: report the settlements of the meantime."""
        self._is_away = False
        if self._settled:
            self._ask()

    async def flush(self) -> None:
        """Wait until Redis knows all settlements, or is away."""
        while self._asking is not None and not self._asking.done():
            await self._asking

    def _ask(self) -> None:
        if self._asking is None or self._asking.done():
            self._asking = asyncio.get_running_loop().create_task(self._ask_on())

    async def _ask_on(self) -> None:
        """Send one request at a time. Calls that arrive during it are in the next one."""
        while self._wanted or self._settled:
            wanted, self._wanted = self._wanted[:_TOGETHER], self._wanted[_TOGETHER:]
            settled, self._settled = self._settled[:_TOGETHER], self._settled[_TOGETHER:]
            try:
                await self._ask_once(wanted, settled)
            except Exception as error:
                for each in wanted + self._wanted:
                    if not each.answer.done():
                        each.answer.set_exception(error)
                # Kept for its return: a place that is not freed is free only when its lease ends.
                self._is_away = True
                settled_locally = [each.without_return() for each in settled]
                self._wanted, self._settled = [], (settled_locally + self._settled)[-_KEPT:]
                if not isinstance(error, AWAY):
                    raise
                return

    async def _ask_once(self, wanted: list[_Wanted], settled: list[_Settled]) -> None:
        wanted = [each for each in wanted if not each.answer.done()]
        local = self.local
        carried = (local.carried_requests, local.carried_tokens)
        reply = await _SCRIPT.run(self.redis, self._keys(), self._args(wanted, settled, carried))
        local.carried_requests -= carried[0]
        local.carried_tokens -= carried[1]
        granted, slot, wait_ms, why, window = int(reply[0]), int(reply[1]), int(reply[2]), reply[3], reply[4]
        if self._window not in (None, window):
            local.carry_all()
        self._window = window
        for each in wanted[:granted]:
            if each.answer.done():  # cancelled meanwhile
                self._settled.append(_Settled(each.call, slot, -1, -each.tokens))
                continue
            local.note(each.tokens)
            each.answer.set_result(Granted(slot))
        reason = why.decode() if isinstance(why, bytes) else str(why)
        for place, each in enumerate(wanted[granted:]):
            if not each.answer.done():
                each.answer.set_result(Denied(wait_ms / 1000 + min(place * self._spacing_s(), _SPREAD_S), reason))

    def _keys(self) -> list[str]:
        name = self.model.name
        return [f"{self.prefix}limit:{name}", f"{self.prefix}slots:{name}", f"{self.prefix}rest:{name}"]

    def _args(
        self, wanted: list[_Wanted], settled: list[_Settled], carried: tuple[int, int]
    ) -> list[str | int | float]:
        model = self.model
        head = [
            model.requests_per_min or 0,
            model.tokens_per_min or 0,
            model.max_concurrency or 0,
            round(self.lease_s * 1000),
            *carried,
            len(settled),
        ]
        args: list[str | int | float] = [*head]
        for back in settled:
            args += [self._member(back.call), back.slot, back.requests, back.tokens]
        for each in wanted:
            args += [self._member(each.call), each.tokens]
        return args

    def _member(self, call: int) -> str:
        return f"{self.worker}:{call}"

    def _spacing_s(self) -> float:
        limit = self.model.requests_per_min
        return PERIOD_S / limit if limit else 0.0
