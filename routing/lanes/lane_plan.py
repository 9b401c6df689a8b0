"""The plan of a batch with a deadline: the cheapest lane for each wave that keeps it, and how long to wait.

Each wave of a tier is bought in one lane. Its rejected answers form a wave of the next tier. A provider batch that
takes too long is cancelled, and its unanswered queries form a new wave. So the plan is a backward induction over the
tiers, from the top, and over the time left, on a grid (Bellman 1957, Dynamic Programming): for each tier and time left
it gives the lowest expected cost of a query with its climbs. It takes some 10 ms for a batch; a choice for one of its
waves then reads the result.

A provider batch is waited for only as long as the standard lane can still answer all open queries before the deadline.
The time reserved for that is a quantile far in the tail, because the reserve costs only some minutes of waiting.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from routing.lanes.completion_times import CompletionTimes, lognormal_survival
from routing.lanes.lane import BatchReview, Lane, LaneChoice, LaneOffer, TierLanes
from routing.lanes.standard_pace import ALPHA, StandardPace, standard_paces, tiers_from
from routing.reason import Reason, ReasonCode

Floats = NDArray[np.float64]

CANCEL_S: Final = 600.0
"""Maximum duration of the cancellation of a provider batch: ten minutes (OpenAI, Batch API reference)."""

TURNAROUND_S: Final = 60.0
"""Time of a wave beyond the provider's own work: upload, creation, polling, results."""

GATHER_SHARE: Final = 0.02
LONGEST_GATHER_S: Final = 600.0
"""A wave waits for more queries during this share of the spare time, up to the limit."""

REPEAT_SHARE: Final = 0.005
"""The cost of repeating a wave beyond its calls, as a share of its price. A wave is given up only if that saves
more."""

HOUR_SHARE: Final = 0.002
"""The penalty for an hour of waiting, as a share of the standard price. At about the same cost, the earlier plan
wins."""

_STEPS: Final = 120
"""The number of steps that divide the time left. Twice as many change a cost by less than one percent."""


class Prospect(NamedTuple):
    """The expected result for a tier's queries if they are bought in one way."""

    usd: float
    """The cost of one query with its climbs."""
    loss: float
    """The same, plus the penalties for repeated waves and hours of waiting. The plan minimizes this figure."""
    late: float
    """The probability that one of them misses the deadline."""
    finish_s: float
    """Expected seconds until all of them are answered."""


@dataclass(frozen=True, slots=True)
class _Option:
    lane: Lane
    prospect: Prospect
    give_up: int = 0
    """For the batch lane: the number of steps."""


class LanePlan:
    """The plan of a batch that has ``left_s`` seconds to its deadline.

    ``tiers`` are all tiers of the batch with their open queries. The plan is rebuilt when these change. ``alpha`` is
    the highest probability of lateness that a choice may have.
    """

    def __init__(self, tiers: Mapping[str, TierLanes], *, left_s: float, alpha: float = ALPHA) -> None:
        self._tiers = tiers
        self._alpha = alpha
        self.left_s = max(left_s, 1.0)
        self._step_s = self.left_s / _STEPS
        self._paces = standard_paces(tiers, alpha=alpha)
        self._times = {
            name: CompletionTimes(tier.offers[Lane.BATCH].ages)
            for name, tier in tiers.items()
            if Lane.BATCH in tier.offers
        }
        self._outlooks: dict[str, Floats] = {}
        """By tier: the `Prospect` rows of the cheapest way, for 0, 1, … steps to the deadline."""
        self._options: dict[str, list[_Option]] = {}
        for name in self._paces:  # those above first
            self._outlooks[name], self._options[name] = self._induce(name)

    def choose(self, tier: str) -> LaneChoice:
        """Return the lane of a wave of ``tier`` that is formed now."""
        options = sorted(self._options[tier], key=self._rank)
        best, others = options[0], options[1:]
        return LaneChoice(
            lane=best.lane,
            usd=best.prospect.usd,
            standard_usd=self.standard_usd(tier),
            p_late=best.prospect.late,
            finish_s=best.prospect.finish_s,
            give_up_s=best.give_up * self._step_s if best.lane is Lane.BATCH else None,
            reason=self._why(tier, best, others),
        )

    def review(self, tier: str, age_s: float) -> BatchReview:
        """Return whether a provider batch of ``tier`` that was created ``age_s`` seconds ago is still waited for."""
        offer, survival = self._tiers[tier].offers[Lane.BATCH], self._survival(tier, age_s)
        longest = min(max(1, self._steps(offer.window_s - age_s)), self._longest_wait(tier, _STEPS))
        own = self._outlooks[tier]
        at_once = Prospect(*own[:, max(0, _STEPS - self._steps(CANCEL_S))].tolist())
        if longest < 1:
            text = f"cancel after {_words(age_s)}: the standard lane needs the remaining {_words(self.left_s)}"
            return BatchReview(False, age_s, at_once.late, Reason(ReasonCode.NO_TIME, text))
        steps, wait = self._waits(tier, survival).best(own, left=_STEPS, longest=longest)
        ends = f"{100 * (1.0 - survival[steps]):.0f} % of provider batches this old end within "
        ends += _words(steps * self._step_s)
        again_usd = offer.cancel_usd + self._repeat_usd(tier) + self._hours_usd(tier, CANCEL_S)
        if wait.loss > at_once.loss + again_usd:
            text = (
                f"cancel after {_words(age_s)}: {ends}; a new wave costs ${at_once.usd:.6f} per query and ends "
                f"sooner, the wait costs ${wait.usd:.6f}"
            )
            return BatchReview(False, age_s, at_once.late, Reason(ReasonCode.UNLIKELY, text))
        text = f"keep waiting after {_words(age_s)}: {ends}; "
        text += f"waiting costs ${wait.usd:.6f} per query, a new wave ${at_once.usd:.6f}"
        return BatchReview(True, age_s + steps * self._step_s, wait.late, Reason(ReasonCode.CHEAPEST_LANE, text))

    def gather_s(self, tier: str) -> float:
        """Return how long the ready queries of ``tier`` may wait for more of their wave. 0 if no more can come."""
        coming = any(below.open and below.escalates_to == tier for below in self._tiers.values())
        spare_s = self.left_s - self._paces[tier].reserve_s - CANCEL_S
        return min(LONGEST_GATHER_S, max(0.0, GATHER_SHARE * spare_s)) if coming else 0.0

    def standard_within_s(self, tier: str) -> float:
        """Return how long ready queries of ``tier`` may wait until the standard lane has to take them."""
        return max(0.0, self.left_s - self._paces[tier].reserve_s)

    def standard_usd(self, tier: str) -> float:
        """Return the cost of a query of ``tier`` with its climbs in the standard lane alone."""
        usd, share = 0.0, 1.0
        for rung in tiers_from(self._tiers, tier):
            usd += share * rung.standard.usd
            share *= rung.climb_share
        return usd

    def _induce(self, name: str) -> tuple[Floats, list[_Option]]:
        """Return the outlook of a tier, from that of the tier above, and its options with all of the time left."""
        tier, pace = self._tiers[name], self._paces[name]
        direct = {Lane.STANDARD: self._standard(tier, pace)}
        if (flex := tier.offers.get(Lane.FLEX)) is not None:
            direct[Lane.FLEX] = self._flex(tier, pace, flex)
        rows = {lane: [Prospect(*row) for row in values.T.tolist()] for lane, values in direct.items()}
        waits = self._waits(name, self._survival(name, 0.0)) if name in self._times else None
        window = self._steps(tier.offers[Lane.BATCH].window_s) if waits is not None else 0
        own = np.zeros((len(Prospect._fields), _STEPS + 1))
        options: list[_Option] = []
        for left in range(_STEPS + 1):
            options = [_Option(lane, prospects[left]) for lane, prospects in rows.items()]
            if waits is not None and (longest := min(window, self._longest_wait(name, left))) >= 1:
                # The tier's own outlook is read for less time left: what a cancelled batch has not answered.
                steps, prospect = waits.best(own, left=left, longest=longest)
                options.append(_Option(Lane.BATCH, prospect, steps))
            own[:, left] = min(options, key=self._rank).prospect
        return own, options

    def _rank(self, option: _Option) -> tuple[float, float, float]:
        """Return the cheapest option that meets the deadline, else the one that most likely meets it."""
        late = option.prospect.late
        return late if late > self._alpha else 0.0, option.prospect.loss, option.prospect.finish_s

    def _standard(self, tier: TierLanes, pace: StandardPace) -> Floats:
        above, climbs = self._above(tier, pace)
        left_s = np.arange(_STEPS + 1) * self._step_s
        then = above[:, np.maximum(np.arange(_STEPS + 1) - self._steps(pace.stage_s), 0)]
        usd = tier.standard.usd + tier.climb_share * then[_USD]
        loss = tier.standard.usd + tier.climb_share * then[_LOSS] + self._hours_usd(tier.tier, pace.stage_s)
        late = np.maximum(lognormal_survival(left_s, spread=pace.spread, median_s=pace.all_s), climbs * then[_LATE])
        return np.stack([usd, loss, late, pace.stage_s + climbs * then[_FINISH]])

    def _flex(self, tier: TierLanes, pace: StandardPace, flex: LaneOffer) -> Floats:
        """Return the plan that uses flex until the standard lane needs the time left, and standard afterwards."""
        above, climbs = self._above(tier, pace)
        left_s = np.arange(_STEPS + 1) * self._step_s
        spare_s = np.maximum(left_s - pace.reserve_s - flex.latency_s, 0.0)
        share = np.minimum(spare_s * flex.queries_per_s / max(pace.queries, 1.0), 1.0)
        needs_s = pace.queries / flex.queries_per_s + flex.latency_s
        takes_s = np.minimum(needs_s, spare_s + flex.latency_s) + np.where(share < 1.0, pace.stage_s, 0.0)
        then = above[:, np.maximum(np.floor((left_s - takes_s) / self._step_s), 0).astype(int)]
        share_bought = (1.0 - flex.lacks_capacity) * share
        own_usd = share_bought * flex.usd + (1.0 - share_bought) * tier.standard.usd
        loss = own_usd + tier.climb_share * then[_LOSS] + self._hours_usd(tier.tier, 1.0) * takes_s
        left_over = lognormal_survival(np.maximum(left_s - spare_s, 0.0), spread=pace.spread, median_s=pace.all_s)
        in_time = climbs * then[_LATE] + flex.lacks_capacity * left_over
        late = np.where(share < 1.0, left_over, in_time)
        return np.stack([own_usd + tier.climb_share * then[_USD], loss, late, takes_s + climbs * then[_FINISH]])

    def _waits(self, name: str, survival: Floats) -> "_BatchWaits":
        tier = self._tiers[name]
        above, climbs = self._above(tier, self._paces[name])
        usd = tier.offers[Lane.BATCH].usd
        steps_s = self._step_s * np.arange(1, _STEPS + 1)
        hours_usd, none = self._hours_usd(name, 1.0) * steps_s, np.zeros(_STEPS)
        lost_usd = tier.offers[Lane.BATCH].cancel_usd
        again_usd = lost_usd + self._repeat_usd(name) + self._hours_usd(name, CANCEL_S)
        return _BatchWaits(
            survival,
            above,
            climbs=np.array([tier.climb_share, tier.climb_share, climbs, climbs]),
            ended=np.stack([none + usd, usd + hours_usd, none, steps_s]),
            given_up=np.stack([none + lost_usd, again_usd + hours_usd, none, steps_s + CANCEL_S]),
            cancel=self._steps(CANCEL_S),
        )

    def _longest_wait(self, name: str, left: int) -> int:
        """Return the maximum steps until a provider batch is cancelled, with ``left`` steps to the deadline."""
        return left - self._steps(CANCEL_S) - self._steps(self._paces[name].reserve_s)

    def _above(self, tier: TierLanes, pace: StandardPace) -> tuple[Floats, float]:
        """Return the outlook of the tier above, and the probability that a query climbs there."""
        if tier.escalates_to not in self._outlooks:
            return np.zeros((len(Prospect._fields), _STEPS + 1)), 0.0
        return self._outlooks[tier.escalates_to], -math.expm1(-pace.queries * tier.climb_share)

    def _survival(self, tier: str, age_s: float) -> Floats:
        """Return the probability that a provider batch of this age has not ended after 0, 1, … more steps."""
        ages_s = age_s + self._step_s * np.arange(_STEPS + 1) - TURNAROUND_S
        survival = self._times[tier].survival(np.maximum(ages_s, 0.0))
        return np.asarray(survival / survival[0])

    def _hours_usd(self, tier: str, seconds: float) -> float:
        return HOUR_SHARE * self._tiers[tier].standard.usd * seconds / 3600.0

    def _repeat_usd(self, tier: str) -> float:
        return REPEAT_SHARE * self._tiers[tier].offers[Lane.BATCH].usd

    def _steps(self, seconds: float) -> int:
        return math.ceil(seconds / self._step_s)

    def _why(self, tier: str, best: _Option, others: list[_Option]) -> Reason:
        standard_usd, found = self.standard_usd(tier), best.prospect
        saved = 1.0 - found.usd / standard_usd if standard_usd else 0.0
        odds = f"the probability of missing the deadline is {_percent(found.late)} ({_percent(self._alpha)} is allowed)"
        price = f"${found.usd:.6f} per query including its climbs, {100 * saved:.0f} % below standard"
        parts = [f"{best.lane}: {price}; {odds}"]
        if best.lane is Lane.BATCH:
            ends = 1.0 - float(self._survival(tier, 0.0)[best.give_up])
            parts.append(f"{100 * ends:.0f} % of provider batches end within {_words(best.give_up * self._step_s)}")
        elif Lane.BATCH in self._tiers[tier].offers and all(other.lane is not Lane.BATCH for other in others):
            needed = _words(self._paces[tier].reserve_s + CANCEL_S)
            parts.append(f"no provider batch, because {needed} are reserved for a cancellation and the standard lane")
        for lane, other in ((other.lane, other.prospect) for other in others):
            sooner_s = found.finish_s - other.finish_s
            words = (
                f"{lane} costs ${other.usd:.6f} and ends {_words(abs(sooner_s))} "
                f"{('sooner' if sooner_s > 0 else 'later')}"
            )
            parts.append(
                words
                + (
                    f"; its probability of missing the deadline is {_percent(other.late)}"
                    if other.late > self._alpha
                    else ""
                )
            )
        only = best.lane is Lane.STANDARD and len(self._tiers[tier].offers) > 1
        return Reason(ReasonCode.NO_TIME if only else ReasonCode.CHEAPEST_LANE, "; ".join(parts))


class _BatchWaits:
    """All possible waits for a provider batch, for every time left, at once.

    ``survival``: the probability that it has not ended after 0, 1, … steps. ``above``: the outlook of the tier above,
    with its weights ``climbs``. ``ended`` and ``given_up``: the additions to each row of `Prospect` if it ends, or is
    given up, after 1, 2, … steps. ``cancel``: the steps that a cancellation takes.
    """

    def __init__(
        self, survival: Floats, above: Floats, *, climbs: Floats, ended: Floats, given_up: Floats, cancel: int
    ) -> None:
        self._open = survival[1:]
        self._given_up = given_up
        self._cancel = cancel
        then = ended[:, None, :] + climbs[:, None, None] * above[:, _LEFT_AFTER]
        self._ended = np.cumsum((survival[:-1] - survival[1:]) * then, axis=2)

    def best(self, own: Floats, *, left: int, longest: int) -> tuple[int, Prospect]:
        """Return the best number of steps to wait, from 1 to ``longest``, with ``left`` steps to the deadline.

        ``own``: the outlook of the tier itself, for the queries that are still unanswered then.
        """
        given_up = (
            own[_LOSS, left - self._cancel - longest : left - self._cancel][::-1] + self._given_up[_LOSS, :longest]
        )
        at = int((self._ended[_LOSS, left, :longest] + self._open[:longest] * given_up).argmin())
        again = own[:, left - self._cancel - at - 1] + self._given_up[:, at]
        return at + 1, Prospect(*(self._ended[:, left, at] + self._open[at] * again).tolist())


_USD, _LOSS, _LATE, _FINISH = range(4)
"""Rows of an outlook, in the order of `Prospect`."""

_LEFT_AFTER: Final = np.maximum(np.arange(_STEPS + 1)[:, None] - np.arange(1, _STEPS + 1), 0)
"""Steps left and steps waited → steps left afterwards."""


def _percent(probability: float) -> str:
    return "less than 0.01 %" if probability < 1e-4 else f"{100 * probability:.2g} %"


def _words(seconds: float) -> str:
    """Return the time in hours and minutes."""
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02} h" if minutes >= 60 else f"{minutes} min"
