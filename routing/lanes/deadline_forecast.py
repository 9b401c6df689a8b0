"""The cost, the end and the probability of lateness of a batch with a deadline."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from routing.lanes.lane import Lane, TierLanes
from routing.lanes.lane_plan import LanePlan

USUAL_DEADLINES_S: Final = tuple(hours * 3600.0 for hours in (1, 2, 4, 8, 24))


@dataclass(frozen=True, slots=True)
class DeadlineForecast:
    """The plan of a whole batch for one deadline, in US dollars and seconds."""

    within_s: float
    usd: float
    """The cost with all climbs."""
    standard_usd: float
    """The cost at standard prices."""
    finish_s: float
    """Expected."""
    p_late: float
    """The probability that any query misses the deadline."""
    lanes: Mapping[str, Lane]
    """The lane of the first wave, by tier."""

    @property
    def saving(self) -> float:
        """The saved share of `standard_usd`."""
        return 1.0 - self.usd / self.standard_usd if self.standard_usd else 0.0


def forecast_deadline(tiers: Mapping[str, TierLanes], *, within_s: float) -> DeadlineForecast:
    """Return the forecast for a batch that begins now. ``tiers`` include the queries that are routed to each tier
    first."""
    plan = LanePlan(tiers, left_s=within_s)
    waves = {name: plan.choose(name) for name, tier in tiers.items() if tier.open > 0}
    in_time = 1.0
    for wave in waves.values():
        in_time *= 1.0 - wave.p_late
    return DeadlineForecast(
        within_s,
        usd=sum(tiers[name].open * wave.usd for name, wave in waves.items()),
        standard_usd=sum(tiers[name].open * wave.standard_usd for name, wave in waves.items()),
        finish_s=max((wave.finish_s for wave in waves.values()), default=0.0),
        p_late=1.0 - in_time,
        lanes={name: wave.lane for name, wave in waves.items()},
    )
