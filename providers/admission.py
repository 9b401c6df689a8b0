"""Who may call when: the limits of every model, held over all workers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from routing.fleet import Fleet, Model
from routing.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to send one call now."""

    deployment: str
    tokens: int


@dataclass(frozen=True, slots=True)
class Wait:
    """No leave before ``wait_s`` seconds have passed."""

    wait_s: float
    reason: str


class Admission:
    """The gate before every call. ``redis`` None: this process is the only one."""

    def __init__(self, redis: Redis | None, *, fleet: Fleet, worker: str) -> None:
        self._redis = redis
        self._fleet = fleet
        self._worker = worker

    async def reserve(self, model: Model, *, tokens: int) -> Grant | Wait:
        """Leave to call ``model`` with about ``tokens`` tokens, prompt and completion."""
        return Grant(model.name, tokens)

    async def settle(self, grant: Grant, *, used_tokens: int, outcome: Outcome | None) -> None:
        """Give back what ``grant`` holds. ``outcome`` None: nothing was sent."""

    async def resting(self, models: Sequence[Model]) -> Mapping[str, float]:
        """For each deployment that rests, the seconds that it still does."""
        return {}

    async def aclose(self) -> None:
        """Tell the others what they do not know yet."""
