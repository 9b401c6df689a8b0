"""How much of a stage's backlog belongs into the broker: about one second of its work."""

from dataclasses import dataclass

MAX_WINDOW = 20_000
"""Queries per stage in the broker at most, however fast the stage is: the broker's memory stays small."""

SMOOTHING_PER_S = 0.5
"""Weight of the newest second in the smoothed rate."""


@dataclass(slots=True)
class DrainRate:
    """How fast a stage takes queries out of the broker. Pure: the caller brings the clock."""

    rate_per_s: float = 0.0
    depth: int = 0
    sent: int = 0
    """What was put in since the last look."""
    since: float = 0.0

    def observe(self, depth: int, *, now: float) -> None:
        """Learns from the depth at ``now`` (monotonic seconds)."""
        elapsed_s = now - self.since
        if self.since and elapsed_s > 0:
            taken = max(0, self.depth + self.sent - depth)
            weight = min(1.0, SMOOTHING_PER_S * elapsed_s)
            self.rate_per_s += weight * (taken / elapsed_s - self.rate_per_s)
        self.depth, self.sent, self.since = depth, 0, now

    def window(self, *, least: int, window_s: float) -> int:
        """Queries that may be in the broker: ``window_s`` of work, no fewer than ``least``."""
        return min(MAX_WINDOW, max(least, round(self.rate_per_s * window_s)))
