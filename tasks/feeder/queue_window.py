"""How much of a stage's backlog belongs in the broker: about one second of its work."""

from dataclasses import dataclass

MAX_WINDOW = 20_000
"""Maximum queries per stage in the broker, however fast the stage is, so that the broker uses little memory."""

SMOOTHING_PER_S = 0.5
"""Weight of the newest second in the smoothed rate."""


@dataclass(slots=True)
class DrainRate:
    """The rate at which a stage takes queries out of the broker. Pure: the caller passes the time."""

    rate_per_s: float = 0.0
    depth: int = 0
    sent: int = 0
    """The number of queries sent since the last observation."""
    since: float = 0.0

    def observe(self, depth: int, *, now: float) -> None:
        """Update the rate from the depth at ``now`` (monotonic seconds)."""
        elapsed_s = now - self.since
        if self.since and elapsed_s > 0:
            taken = max(0, self.depth + self.sent - depth)
            weight = min(1.0, SMOOTHING_PER_S * elapsed_s)
            self.rate_per_s += weight * (taken / elapsed_s - self.rate_per_s)
        self.depth, self.sent, self.since = depth, 0, now

    def window(self, *, least: int, window_s: float) -> int:
        """Return how many queries may be in the broker: ``window_s`` of work, at least ``least``."""
        return min(MAX_WINDOW, max(least, round(self.rate_per_s * window_s)))
