"""A process's own share of a model's limits, for the time without a shared Redis.

It is strict for this process: it grants no more than its share in any 61 s, including grants of the shared limit
before. Several processes keep the limit together if each knows their number.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from routing.fleet import Model


@dataclass(frozen=True, slots=True)
class Granted:
    """Permission. ``slot`` is its place in the shared window, or None if this process's own limit gave it."""

    slot: int | None = None


@dataclass(frozen=True, slots=True)
class Denied:
    """No permission before ``wait_s`` seconds have passed. ``reason`` names the limit without room."""

    wait_s: float
    reason: str


PERIOD_S: Final = 61.5
"""The same as in rate_limit.lua: a minute, a second for the way to the provider, and half a second of granularity."""

WINDOW_S: Final = 61.0
SLACK_S: Final = 1.0

_SLOT_WAIT_S: Final = 0.05


class LocalLimit:
    """The limit of one deployment. A process always has a share of at least one call, however many share the limit."""

    def __init__(self, model: Model, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._clock = clock
        self._granted: deque[tuple[float, int]] = deque()
        self._tokens = 0
        self._requests_even_at = 0.0
        self._tokens_even_at = 0.0
        self.carried_requests = 0
        """Grants to this process that the shared window does not know. The caller that reports them lowers the
        number."""
        self.carried_tokens = 0

    def carry_all(self) -> None:
        """The shared window was lost, so this process reports all its grants again."""
        self._forget()
        self.carried_requests, self.carried_tokens = len(self._granted), self._tokens

    def note(self, tokens: int) -> None:
        """Remember a call that the shared limit granted."""
        self._granted.append((self._clock(), tokens))
        self._tokens += tokens
        self._forget()

    def take(self, tokens: int, *, workers: int, in_flight: int) -> Granted | Denied:
        """Take permission for one call, if this process's share has room. ``in_flight`` are its other calls."""
        self._forget()
        now, model = self._clock(), self._model
        if model.max_concurrency and in_flight >= max(model.max_concurrency // workers, 1):
            return Denied(_SLOT_WAIT_S, "concurrency")
        wait_s = max(self._requests_in(workers), self._tokens_in(tokens, workers))
        if wait_s > 0:
            return Denied(wait_s, "share")
        self.note(tokens)
        self.carried_requests += 1
        self.carried_tokens += tokens
        if model.requests_per_min:
            even_at = max(self._requests_even_at, now)
            self._requests_even_at = even_at + PERIOD_S * workers / model.requests_per_min
        if model.tokens_per_min:
            even_at = max(self._tokens_even_at, now)
            self._tokens_even_at = even_at + PERIOD_S * workers * tokens / model.tokens_per_min
        return Granted()

    def _requests_in(self, workers: int) -> float:
        """Return the seconds until one more request fits."""
        limit = self._model.requests_per_min
        if not limit:
            return 0.0
        every_s = PERIOD_S * workers / limit
        pace_s = self._requests_even_at - self._clock() - max(SLACK_S - every_s, 0.0)
        over = len(self._granted) + 1 - max(limit // workers, 1)
        return max(pace_s, self._gone_in(over) if over > 0 else 0.0)

    def _tokens_in(self, tokens: int, workers: int) -> float:
        """Return the seconds until ``tokens`` more fit. A call above the whole share runs alone."""
        limit = self._model.tokens_per_min
        if not limit:
            return 0.0
        pace_s = self._tokens_even_at - self._clock() - SLACK_S
        over = self._tokens + tokens - max(limit // workers, tokens)
        count = 0
        for _, had in self._granted:
            if over <= 0:
                break
            over -= had
            count += 1
        return max(pace_s, self._gone_in(count) if count else 0.0)

    def _gone_in(self, count: int) -> float:
        """Return the seconds until the ``count`` oldest grants have left the window."""
        return self._granted[min(count, len(self._granted)) - 1][0] + WINDOW_S - self._clock()

    def _forget(self) -> None:
        before = self._clock() - WINDOW_S
        while self._granted and self._granted[0][0] <= before:
            self._tokens -= self._granted.popleft()[1]
