"""The latency of a simulated model."""

from dataclasses import dataclass
from enum import StrEnum
from math import cos, exp, log, pi, sqrt
from typing import ClassVar

from simulator.seeded_random import SeededRandom


class LatencyShape(StrEnum):
    """The distribution of the time to answer."""

    FIXED = "fixed"
    UNIFORM = "uniform"
    LOGNORMAL = "lognormal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Milliseconds: ``ms`` if fixed; ``low_ms`` to ``high_ms``; or a log-normal around its median. Jitter is ±."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    shape: LatencyShape = LatencyShape.UNIFORM
    ms: float = 0.0
    low_ms: float = 20.0
    high_ms: float = 60.0
    median_ms: float = 800.0
    sigma: float = 0.4
    """Standard deviation of the logarithm: 0.4 puts p95 at about twice the median."""
    jitter_ms: float = 0.0

    def sample_ms(self, draws: SeededRandom) -> float:
        """The time to answer one call, at least 0."""
        match self.shape:
            case LatencyShape.FIXED:
                base = self.ms
            case LatencyShape.UNIFORM:
                base = self.low_ms + (self.high_ms - self.low_ms) * draws[8]
            case LatencyShape.LOGNORMAL:  # a standard normal value from two uniform ones (Box and Muller 1958)
                base = self.median_ms * exp(self.sigma * sqrt(-2 * log(1 - draws[8])) * cos(2 * pi * draws[9]))
        return max(0.0, base + self.jitter_ms * (2 * draws[10] - 1))

    @property
    def is_zero(self) -> bool:
        """Whether every call is answered immediately."""
        return self.shape == LatencyShape.FIXED and self.ms == 0 and self.jitter_ms == 0
