"""Hard rate limits of a model: calls beyond them get a 429."""

from collections import deque
from dataclasses import dataclass
from typing import ClassVar, Final

WINDOW_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """Per model, over a sliding window of 60 s; None means no limit."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    requests_per_min: int | None = None
    tokens_per_min: int | None = None
    max_in_flight: int | None = None

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return any(limit is not None for limit in (self.requests_per_min, self.tokens_per_min, self.max_in_flight))


class Meter:
    """The use of one model's limits. Rejected calls do not count."""

    def __init__(self, limits: ModelLimits) -> None:
        self.limits = limits
        self._taken: deque[tuple[float, int]] = deque()
        self._tokens = 0

    def admit(self, *, now: float, tokens: int, in_flight: int) -> float | None:
        """None if the call is admitted, else the seconds until it may be.

        ``now`` is the monotonic clock; ``in_flight`` are the model's other calls.
        """
        self._forget(now - WINDOW_S)
        limits = self.limits
        if limits.max_in_flight is not None and in_flight >= limits.max_in_flight:
            return 1.0
        over_requests = limits.requests_per_min is not None and len(self._taken) >= limits.requests_per_min
        over_tokens = limits.tokens_per_min is not None and self._tokens + tokens > limits.tokens_per_min
        if over_requests or over_tokens:
            return max(0.001, self._taken[0][0] + WINDOW_S - now) if self._taken else WINDOW_S
        self._taken.append((now, tokens))
        self._tokens += tokens
        return None

    def _forget(self, before: float) -> None:
        while self._taken and self._taken[0][0] <= before:
            self._tokens -= self._taken.popleft()[1]
