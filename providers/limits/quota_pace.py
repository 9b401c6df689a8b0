"""How fast one deployment may be called, learned from what its responses say.

Where headers say what is left and when it is whole again, that is a bucket, from which each call takes before it is
sent. Where only 429s come, the question is what one of them says of the calls beside it: after a limit is met nothing
goes through before a rest, while a provider that refuses by chance, or for its own load, answers the very next call.
Only the former rests the deployment; after the latter the one query waits, as any client of one call would.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from routing.outcome import Allowance, Quota

LONGEST_WAIT_S: Final = 60.0
"""A waiting call asks again after this many seconds, because the bucket may be misjudged."""

FORGOTTEN_S: Final = 120.0
"""A quota that no response has renewed for this long is ignored."""

IN_A_ROW: Final = 3
SPORADIC_SHARE: Final = 0.3
"""Among some 25 recent calls, weighted, a higher share of 429s is a limit."""

RECOVERED_SHARE: Final = 0.3
LEAST_FOLLOWERS: Final = 4.0
"""429s are not a limit if at least this many calls followed one without a rest, and more than `RECOVERED_SHARE` of them
succeeded."""

VAIN_SHARES: Final = (0.2, 0.8)
LEAST_FIRSTS: Final = 3.5
"""Nor if, of this many first calls after rests (as they fade), some are refused and some are not."""

_DECAY: Final = 0.96
_REST_DECAY: Final = 0.85


@dataclass(slots=True)
class Bucket:
    """``level`` calls or tokens at ``at``, refilled by ``per_s`` up to ``most``."""

    level: float
    most: float
    per_s: float
    at: float

    def now_at(self, now: float) -> float:
        return min(self.most, self.level + (now - self.at) * self.per_s)

    def take(self, amount: float, *, now: float) -> None:
        self.level, self.at = self.now_at(now) - amount, now

    def wait_s(self, amount: float, *, now: float) -> float:
        """Return the seconds until ``amount`` is available. An amount above the maximum waits for a full bucket."""
        missing = min(amount, self.most) - self.now_at(now)
        if missing <= 0:
            return 0.0
        return missing / self.per_s if self.per_s > 0 else LONGEST_WAIT_S


class QuotaPace:
    """The pace of one deployment in one process. ``clock`` gives seconds that only increase."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._requests: Bucket | None = None
        self._tokens: Bucket | None = None
        self._noted_at = float("-inf")
        self._line_until = 0.0
        """When the last of the refused calls returns."""
        self._calls = self._limited = 0.0
        self._followers = self._recovered = 0.0
        """Calls that followed a 429 without a rest, and the successful ones among them."""
        self._firsts = self._firsts_through = 0.0
        """The first calls after rests, and the successful ones among them."""
        self._awaits_first = False
        self._in_a_row = 0
        self._limit_sent_at = self._limit_at = self._rested_at = float("-inf")
        self._rests = 0

    @property
    def is_sporadic(self) -> bool:
        """Whether the last 429 says nothing about concurrent calls."""
        is_rare = self._in_a_row < IN_A_ROW and (self._limited + 0.5) / (self._calls + 1.0) < SPORADIC_SHARE
        if is_rare:
            return True
        if self._followers < LEAST_FOLLOWERS:
            return self._rests_are_vain
        recovered = self._recovered / self._followers
        return recovered >= RECOVERED_SHARE or (recovered >= RECOVERED_SHARE / 2 and self._rests_are_vain)

    @property
    def _rests_are_vain(self) -> bool:
        """Whether the first call after a rest is refused about as often as any other.

        After a limit it succeeds. If it never does, the rest was too short, which is another matter.
        """
        if self._firsts < LEAST_FIRSTS:
            return False
        return VAIN_SHARES[0] <= self._firsts_through / self._firsts <= VAIN_SHARES[1]

    def next_rest_s(self, *, sent_at: float, first_s: float, longest_s: float) -> float:
        """Return how long to rest after a limit without a duration. It doubles until a call succeeds.

        Calls in flight when the last rest began add nothing: 0.
        """
        if sent_at <= self._rested_at:
            return 0.0
        self._rests += 1
        return float(min(first_s * 2 ** min(self._rests - 1, 10), longest_s))

    def note_rest(self) -> None:
        """The deployment starts to rest. Calls sent after it say nothing about the time before."""
        self._rested_at, self._awaits_first = self._clock(), True

    def wait_s(self, tokens: float, *, workers: int) -> float:
        """Return the seconds until a call of ``tokens`` may be sent. 0 permits it, and counts it.

        What is left is shared by all ``workers``, so each call takes one share per worker.
        """
        if self._requests is None and self._tokens is None:
            return 0.0
        now = self._clock()
        if now - self._noted_at > FORGOTTEN_S:
            self._requests = self._tokens = None
            return 0.0
        wanted = ((self._requests, 1.0 * workers), (self._tokens, tokens * workers))
        wait_s = max((bucket.wait_s(amount, now=now) for bucket, amount in wanted if bucket), default=0.0)
        if wait_s > 0:
            return self._in_line(wait_s, wanted, now=now)
        for bucket, amount in wanted:
            if bucket is not None:
                bucket.take(amount, now=now)
        return 0.0

    def _in_line(self, wait_s: float, wanted: Sequence[tuple["Bucket | None", float]], *, now: float) -> float:
        """Return the place in a queue at the pace of the refill, so that not all calls return at once."""
        steps_s = [min(amount, one.most) / one.per_s for one, amount in wanted if one is not None and one.per_s > 0]
        at = min(max(now + wait_s, self._line_until + max(steps_s, default=0.0)), now + LONGEST_WAIT_S)
        self._line_until = at
        return at - now

    def note_answer(self, quota: Quota | None, *, sent_at: float, in_flight: int) -> None:
        """A call that was sent at ``sent_at`` succeeded."""
        self._count(limited=False, sent_at=sent_at)
        self._in_a_row = self._rests = 0
        self._learn(quota, in_flight=in_flight)

    def note_limit(self, quota: Quota | None, *, sent_at: float, in_flight: int) -> None:
        """A call that was sent at ``sent_at`` met a limit."""
        self._count(limited=True, sent_at=sent_at)
        self._in_a_row += 1
        self._limit_sent_at, self._limit_at = max(self._limit_sent_at, sent_at), self._clock()
        self._learn(quota, in_flight=in_flight)

    def _count(self, *, limited: bool, sent_at: float) -> None:
        self._calls = self._calls * _DECAY + 1.0
        self._limited = self._limited * _DECAY + limited
        if self._awaits_first and sent_at >= self._rested_at:
            self._awaits_first = False
            self._firsts = self._firsts * _REST_DECAY + 1.0
            self._firsts_through = self._firsts_through * _REST_DECAY + (not limited)
        # Sent after the one that was limited, and not after a rest.
        if sent_at > self._limit_sent_at > float("-inf") and not self._limit_at <= self._rested_at <= sent_at:
            self._followers = self._followers * _DECAY + 1.0
            self._recovered = self._recovered * _DECAY + (not limited)

    def _learn(self, quota: Quota | None, *, in_flight: int) -> None:
        if quota is None:
            return
        self._noted_at = now = self._clock()
        self._requests = _bucket(quota.requests, taken=in_flight, now=now)
        self._tokens = _bucket(quota.tokens, taken=0, now=now)


def _bucket(said: Allowance | None, *, taken: float, now: float) -> Bucket | None:
    """Return the bucket that the headers describe, or None if it is full, or they say nothing."""
    if said is None:
        return None
    used = said.limit - said.left
    if used <= 0 or said.reset_s <= 0:
        return None
    # Calls under way may not be counted yet.
    return Bucket(said.left - taken, said.limit, used / said.reset_s, now)
