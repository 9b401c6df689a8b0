"""The plan of a batch with a deadline: the cheapest lane for each wave that keeps it, and how long to wait.

Each wave of a tier is bought in one lane; its doubtful answers are a wave of the next tier. A provider batch that has
not ended after a while is cancelled, and what it has not answered is a new wave. So the plan is a backward induction
over the tiers, from the top, and over the time left, on a grid (Bellman 1957, Dynamic Programming): for each tier and
time left, what a query with its climbs is expected to cost in the cheapest way. It takes some 25 ms for a batch; a
choice for one of its waves then reads the result.

A provider batch is waited for only as long as the standard lane can still answer all that is open before the deadline.
The time for that is a quantile far in the tail, because it costs nothing but some minutes of waiting.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import lognorm

from routing.lanes.choice import BatchReview, LaneChoice
from routing.lanes.completion_times import CompletionTimes
from routing.lanes.lane import Lane, LaneOffer, TierLanes
from routing.lanes.standard_pace import StandardPace, standard_paces, tiers_from
from routing.reason import Reason, ReasonCode

Floats = NDArray[np.float64]

ALPHA: Final = 0.01
"""The probability to be late that a choice may have."""

JOINT: Final = 100
"""Waves of a batch and their repetitions, about, at most: the reserve of each may fail with this part of α."""

CANCEL_S: Final = 600.0
"""Within ten minutes a provider batch is cancelled (OpenAI, Batch API reference)."""

TURN_S: Final = 60.0
"""From a wave to its provider batch and from its end to the next wave: upload, creation, polling, results."""

GATHER_SHARE: Final = 0.02
LONGEST_GATHER_S: Final = 600.0
"""A wave waits this part of the time to spare for more queries, within that limit."""

REPEAT_SHARE: Final = 0.005
"""What the repetition of a wave costs beside its calls, of its price: a wait has to be that much too long."""

HOUR_SHARE: Final = 0.002
"""What an hour of waiting counts, of the price at standard: of plans that cost about the same the sooner is better."""

_STEPS: Final = 240


@dataclass(frozen=True, slots=True)
class _Option:
    """A lane at a time left."""

    lane: Lane
    usd: float
    loss: float
    late: float
    finish_s: float
    give_up: int = 0
    """Steps, of the lane batch."""


@dataclass(frozen=True, slots=True)
class _Outlook:
    """By steps of time left: what comes of the queries of a tier from here on, in the cheapest way."""

    usd: Floats
    """Of one query with its climbs."""
    loss: Floats
    """The same with what repetitions and hours of waiting count; the plan minimizes it."""
    late: Floats
    """The probability that one of them misses the deadline."""
    finish_s: Floats
    """Expected, until all are answered."""

    def option(self, lane: Lane, left: int) -> "_Option":
        usd, loss, late, finish_s = (series[left] for series in (self.usd, self.loss, self.late, self.finish_s))
        return _Option(lane, float(usd), float(loss), float(late), float(finish_s))


class LanePlan:
    """The plan of a batch that has ``left_s`` seconds to its deadline.

    ``tiers`` are all tiers of the batch with the queries that are open there now. The plan is made anew when these
    change. ``alpha`` is the probability to be late that a choice may have.
    """

    def __init__(self, tiers: Mapping[str, TierLanes], *, left_s: float, alpha: float = ALPHA) -> None:
        self._tiers = tiers
        self._alpha = alpha
        self.left_s = max(left_s, 1.0)
        self._step_s = self.left_s / _STEPS
        self._paces = standard_paces(tiers, tail=alpha / JOINT)
        self._times = {
            name: CompletionTimes(tier.offers[Lane.BATCH].ages)
            for name, tier in tiers.items()
            if Lane.BATCH in tier.offers
        }
        self._outlooks: dict[str, _Outlook] = {}
        self._options: dict[str, list[_Option]] = {}
        for name in self._paces:  # those above first
            self._outlooks[name], self._options[name] = self._induce(name)

    def choose(self, tier: str) -> LaneChoice:
        """The lane of a wave of ``tier`` that is formed now."""
        options = sorted(self._options[tier], key=self._rank)
        best, others = options[0], options[1:]
        return LaneChoice(
            lane=best.lane,
            usd=best.usd,
            standard_usd=self.standard_usd(tier),
            p_late=best.late,
            finish_s=best.finish_s,
            give_up_s=best.give_up * self._step_s if best.lane is Lane.BATCH else None,
            reason=self._why(tier, best, others),
        )

    def review(self, tier: str, age_s: float) -> BatchReview:
        """Whether a provider batch of ``tier`` that was created ``age_s`` seconds ago is still waited for."""
        offer = self._tiers[tier].offers[Lane.BATCH]
        longest = max(1, self._steps(offer.window_s - age_s))
        wait = self._wait(tier, _STEPS, offer, self._survival(tier, age_s), longest=longest)
        own, cancelled = self._outlooks[tier], max(0, _STEPS - self._steps(CANCEL_S))
        repeated = float(own.loss[cancelled]) + self._repeat_usd(offer) + self._hours_usd(tier, CANCEL_S)
        if wait is None:
            text = f"cancel after {_words(age_s)}: the standard lane needs the {_words(self.left_s)} that are left"
            return BatchReview(False, age_s, float(own.late[cancelled]), Reason(ReasonCode.NO_TIME, text))
        ends = 1.0 - float(self._survival(tier, age_s)[wait.give_up])
        odds = f"{100 * ends:.0f} % of provider batches this old end within {_words(wait.give_up * self._step_s)}"
        if wait.loss > repeated:
            text = f"cancel after {_words(age_s)}: {odds}; a new wave costs ${own.usd[cancelled]:.6f} a query and ends "
            text += f"sooner, the wait costs ${wait.usd:.6f}"
            return BatchReview(False, age_s, float(own.late[cancelled]), Reason(ReasonCode.UNLIKELY, text))
        text = (
            f"wait on after {_words(age_s)}: {odds}; ${wait.usd:.6f} a query, ${own.usd[cancelled]:.6f} by a new wave"
        )
        give_up_s = age_s + wait.give_up * self._step_s
        return BatchReview(True, give_up_s, wait.late, Reason(ReasonCode.CHEAPEST_LANE, text))

    def gather_s(self, tier: str) -> float:
        """How long the ready queries of ``tier`` may wait for more of their wave; 0 where none can come."""
        coming = any(below.open and below.escalates_to == tier for below in self._tiers.values())
        spare_s = self.left_s - self._paces[tier].reserve_s - CANCEL_S
        return min(LONGEST_GATHER_S, max(0.0, GATHER_SHARE * spare_s)) if coming else 0.0

    def standard_within_s(self, tier: str) -> float:
        """How long ready queries of ``tier`` may wait at most until the standard lane has to take them."""
        return max(0.0, self.left_s - self._paces[tier].reserve_s)

    def standard_usd(self, tier: str) -> float:
        """What a query of ``tier`` with its climbs costs at standard alone."""
        usd, share = 0.0, 1.0
        for rung in tiers_from(self._tiers, tier):
            usd += share * rung.standard.usd
            share *= rung.climb_share
        return usd

    def _induce(self, name: str) -> tuple[_Outlook, list[_Option]]:
        """The outlook of a tier, from that of the tier above, and its options with all of the time left."""
        tier, pace = self._tiers[name], self._paces[name]
        direct = [self._standard(tier, pace)]
        if (flex := tier.offers.get(Lane.FLEX)) is not None:
            direct.append(self._flex(tier, pace, flex))
        own = _Outlook(*(np.zeros(_STEPS + 1) for _ in range(4)))
        survival = self._survival(name, 0.0) if name in self._times else None
        options: list[_Option] = []
        for left in range(_STEPS + 1):
            options = [way.option(lane, left) for lane, way in direct]
            if survival is not None:
                offer = tier.offers[Lane.BATCH]
                # The tier's own outlook is read for less time left: what a cancelled batch has not answered.
                wait = self._wait(name, left, offer, survival, longest=self._steps(offer.window_s), own=own)
                options += [] if wait is None else [wait]
            best = min(options, key=self._rank)
            own.usd[left], own.loss[left], own.late[left] = best.usd, best.loss, best.late
            own.finish_s[left] = best.finish_s
        return own, options

    def _rank(self, option: _Option) -> tuple[float, float, float]:
        """The cheapest of those that keep the deadline, else the one that most likely does."""
        return option.late if option.late > self._alpha else 0.0, option.loss, option.finish_s

    def _standard(self, tier: TierLanes, pace: StandardPace) -> tuple[Lane, _Outlook]:
        above, climbs = self._above(tier, pace)
        later = np.maximum(np.arange(_STEPS + 1) - self._steps(pace.stage_s), 0)
        left_s = np.arange(_STEPS + 1) * self._step_s
        too_slow = lognorm.sf(left_s, pace.spread, scale=pace.all_s)
        usd = tier.standard.usd + tier.climb_share * above.usd[later]
        loss = tier.standard.usd + tier.climb_share * above.loss[later] + self._hours_usd(tier.tier, pace.stage_s)
        late = np.maximum(too_slow, climbs * above.late[later])
        return Lane.STANDARD, _Outlook(usd, loss, late, pace.stage_s + climbs * above.finish_s[later])

    def _flex(self, tier: TierLanes, pace: StandardPace, flex: LaneOffer) -> tuple[Lane, _Outlook]:
        """Flex until the standard lane needs the time that is left, then standard for the others."""
        above, climbs = self._above(tier, pace)
        left_s = np.arange(_STEPS + 1) * self._step_s
        spare_s = np.maximum(left_s - pace.reserve_s - flex.latency_s, 0.0)
        share = np.minimum(spare_s * flex.queries_per_s / max(pace.queries, 1.0), 1.0)
        needs_s = pace.queries / flex.queries_per_s + flex.latency_s
        takes_s = np.minimum(needs_s, spare_s + flex.latency_s) + np.where(share < 1.0, pace.stage_s, 0.0)
        later = np.maximum(np.floor((left_s - takes_s) / self._step_s), 0).astype(int)
        own_usd = share * flex.usd + (1.0 - share) * tier.standard.usd
        loss = own_usd + tier.climb_share * above.loss[later] + self._hours_usd(tier.tier, 1.0) * takes_s
        left_over = lognorm.sf(np.maximum(left_s - spare_s, 0.0), pace.spread, scale=pace.all_s)
        late = np.where(share < 1.0, left_over, climbs * above.late[later])
        usd = own_usd + tier.climb_share * above.usd[later]
        return Lane.FLEX, _Outlook(usd, loss, late, takes_s + climbs * above.finish_s[later])

    def _wait(
        self, name: str, left: int, offer: LaneOffer, survival: Floats, *, longest: int, own: _Outlook | None = None
    ) -> _Option | None:
        """The best wait for a provider batch with ``left`` steps to the deadline; None where there is no time for one.

        ``survival`` is the probability that it has not ended after 0, 1, … steps.
        """
        tier, pace = self._tiers[name], self._paces[name]
        own = self._outlooks[name] if own is None else own
        above, climbs = self._above(tier, pace)
        cancel = self._steps(CANCEL_S)
        longest = min(longest, left - cancel - self._steps(pace.reserve_s))
        if longest < 1:
            return None
        open_, ends = survival[1 : longest + 1], -np.diff(survival[: longest + 1])
        then = slice(left - longest, left)  # steps left where it ends after the longest wait, …, after one step
        given_up = slice(left - cancel - longest, left - cancel)
        steps_s = self._step_s * np.arange(1, longest + 1)
        hours_usd = self._hours_usd(name, 1.0) * steps_s
        ended = np.cumsum(ends * (offer.usd + tier.climb_share * above.loss[then][::-1] + hours_usd))
        repeated = own.loss[given_up][::-1] + self._repeat_usd(offer) + self._hours_usd(name, CANCEL_S) + hours_usd
        loss = ended + open_ * repeated
        at = int(loss.argmin())
        ends, steps_s = ends[: at + 1], steps_s[: at + 1]
        not_ended, rest = float(open_[at]), left - cancel - at - 1
        usd = ends @ (offer.usd + tier.climb_share * above.usd[then][::-1][: at + 1]) + not_ended * own.usd[rest]
        late = ends @ (climbs * above.late[then][::-1][: at + 1]) + not_ended * own.late[rest]
        finish_s = ends @ (steps_s + climbs * above.finish_s[then][::-1][: at + 1])
        finish_s += not_ended * (steps_s[-1] + CANCEL_S + own.finish_s[rest])
        return _Option(Lane.BATCH, float(usd), float(loss[at]), float(late), float(finish_s), at + 1)

    def _above(self, tier: TierLanes, pace: StandardPace) -> tuple[_Outlook, float]:
        """The outlook of the tier above, and the probability that a query climbs there."""
        if tier.escalates_to not in self._outlooks:
            return _NOTHING, 0.0
        return self._outlooks[tier.escalates_to], -math.expm1(-pace.queries * tier.climb_share)

    def _survival(self, tier: str, age_s: float) -> Floats:
        """The probability that a provider batch of this age has not ended after 0, 1, … steps more."""
        ages_s = age_s + self._step_s * np.arange(_STEPS + 1) - TURN_S
        survival = self._times[tier].survival(np.maximum(ages_s, 0.0))
        return np.asarray(survival / survival[0])

    def _hours_usd(self, tier: str, seconds: float) -> float:
        return HOUR_SHARE * self._tiers[tier].standard.usd * seconds / 3600.0

    def _repeat_usd(self, offer: LaneOffer) -> float:
        return REPEAT_SHARE * offer.usd

    def _steps(self, seconds: float) -> int:
        return math.ceil(seconds / self._step_s)

    def _why(self, tier: str, best: _Option, others: list[_Option]) -> Reason:
        standard_usd = self.standard_usd(tier)
        saved = 1.0 - best.usd / standard_usd if standard_usd else 0.0
        odds = f"late with a probability of {_percent(best.late)} of {_percent(self._alpha)}"
        parts = [f"{best.lane}: ${best.usd:.6f} a query with its climbs, {100 * saved:.0f} % below standard; {odds}"]
        if best.lane is Lane.BATCH:
            ends = 1.0 - float(self._survival(tier, 0.0)[best.give_up])
            parts.append(f"{100 * ends:.0f} % of provider batches end within {_words(best.give_up * self._step_s)}")
        elif Lane.BATCH in self._tiers[tier].offers and all(other.lane is not Lane.BATCH for other in others):
            needed = _words(self._paces[tier].reserve_s + CANCEL_S)
            parts.append(f"no provider batch: {needed} are kept for a cancellation and the standard lane")
        for other in others:
            words = f"not {other.lane}: ${other.usd:.6f}, "
            sooner_s = best.finish_s - other.finish_s
            words += f"{_words(abs(sooner_s))} {'sooner' if sooner_s > 0 else 'later'}"
            parts.append(words + (f", late with {_percent(other.late)}" if other.late > self._alpha else ""))
        only = best.lane is Lane.STANDARD and len(self._tiers[tier].offers) > 1
        return Reason(ReasonCode.NO_TIME if only else ReasonCode.CHEAPEST_LANE, "; ".join(parts))


_NOTHING: Final = _Outlook(*(np.zeros(_STEPS + 1) for _ in range(4)))
"""Above the top tier."""


def _percent(probability: float) -> str:
    return f"{100 * probability:.2g} %"


def _words(seconds: float) -> str:
    """Hours and minutes."""
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02} h" if minutes >= 60 else f"{minutes} min"
