"""How the simulated batch APIs behave: times, limits, and what a token costs in each lane."""

from dataclasses import dataclass
from math import exp, log
from statistics import NormalDist
from typing import ClassVar, Final

from simulator.seeded_random import SeededRandom

_P90: Final = NormalDist().inv_cdf(0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchBehavior:
    """Times are in seconds of the provider, of which ``clock`` pass in one real second. None means no limit."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    clock: float = 1.0
    fixed_s: float | None = None
    """Seconds that each batch takes. None: log-normal, by the median and the 90th percentile."""
    median_s: float = 420.0
    p90_s: float = 3600.0
    validation_s: float = 5.0
    """Seconds of a batch's validation before it starts."""
    cancel_s: float = 5.0
    """Seconds that calls still run after a cancel."""
    window_s: float = 86_400.0
    max_requests: int = 100_000
    max_bytes: int = 256_000_000
    enqueued_tokens: int | None = None
    """Prompt tokens in all batches of a model that are not over."""

    def __post_init__(self) -> None:
        if min(self.clock, self.median_s, self.p90_s, self.window_s) <= 0:
            raise ValueError("clock, median_s, p90_s and window_s must be positive")
        if self.p90_s < self.median_s:
            raise ValueError("p90_s must not be below median_s")

    def duration_s(self, draws: SeededRandom) -> float:
        """How long a batch takes, in provider seconds."""
        if self.fixed_s is not None:
            return self.fixed_s
        sigma = log(self.p90_s / self.median_s) / _P90
        uniform = min(max(draws[0], 1e-9), 1 - 1e-9)
        return self.median_s * exp(sigma * NormalDist().inv_cdf(uniform))
