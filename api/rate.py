"""How many requests a tenant makes per minute: a token bucket each, in this process."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Rate:
    """Each tenant's bucket holds a tenth of a minute's requests, at least one, and refills steadily."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, tenant: str, *, per_min: int | None) -> float:
        """Takes one request; 0 where there was room, else the seconds after which there is."""
        if per_min is None:
            return 0.0
        now = self._clock()
        size = max(1.0, per_min / 10)
        bucket = self._buckets.setdefault(tenant, _Bucket(size, now))
        bucket.tokens = min(size, bucket.tokens + (now - bucket.at) * per_min / 60)
        bucket.at = now
        if bucket.tokens < 1 - 1e-9:  # one who waited as long as he was told finds room
            return (1 - bucket.tokens) * 60 / per_min
        bucket.tokens = max(0.0, bucket.tokens - 1)
        return 0.0
