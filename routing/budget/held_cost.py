"""What held queries will still cost, by what queries of their workload and shape cost at each tier, and how many climb.

Held queries are not a random part of their batch: whatever reserves less is called first. So each is priced by its own
workload, shape and prompt size.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from routing.answer_lengths import (
    ANSWER_SPREAD,
    LEAST_ANSWERS,
    WORKLOAD_SPREAD,
    AnswerLengths,
    LengthGroup,
    LengthRecord,
)
from routing.forecast.forecast_types import interval
from routing.lifecycle import ROUTE
from routing.price_list import ListedModel, PriceList

REMAINDER_SPREAD: Final = 0.1
"""Relative standard deviation of the cost of held queries around that of others of their workload, shape and prompt
size: within these, too, the cheaper ones are called first."""


@dataclass(frozen=True, slots=True)
class TierCost:
    """Queries of a workload and shape at one tier: what those cost that were asked there, and those held there."""

    tier: str
    """A tier, or the stage `ROUTE`, at which no workload is known yet."""
    workload: str = ""
    shape: str = ""
    asked: int = 0
    left: int = 0
    """Queries that are answered there or climbed, without a pilot's, which climb on purpose."""
    climbed: int = 0
    usd: float = 0.0
    """The mean over all that were asked there."""
    deviation_usd: float = 0.0
    """The standard deviation of a query's cost."""
    bytes: float = 0.0
    """The mean size of their lines."""
    prompt_tokens: float = 0.0
    """The mean per query over all its calls there."""
    text_tokens: float = 0.0
    reasoning_tokens: float = 0.0
    answers: int = 0
    """Complete answers, with the mean tokens above."""
    held: int = 0
    held_bytes: float = 0.0
    """The mean size of the held queries' lines."""


class HeldCost(NamedTuple):
    """The cost of all further calls, in USD."""

    likely_usd: float
    """The cost if as many queries climb as before."""
    high_usd: float
    """The upper end of a range that contains this cost in 9 of 10 cases."""
    most_usd: float
    """The cost if all queries climb to the top tier."""


class _Cost(NamedTuple):
    """The expected cost of a query from a tier on, the variance of its mean, and its cost if it climbs to the top."""

    usd: float
    variance: float
    most_usd: float


def held_cost(costs: Sequence[TierCost], lengths: AnswerLengths, prices: PriceList) -> HeldCost | None:
    """Return the cost of the held queries of ``costs``; None where some wait at a tier with no evidence of its cost.

    A query costs what others of its workload and shape cost at its tier, corrected by the size of its prompt, and as
    often as these climbed, what it costs from the next tier on. Where fewer than `LEAST_ANSWERS` were asked, the prices
    and the ``lengths`` of answers in this batch and earlier ones count, else the mean of the batch at the tier.
    """
    evidence = _Evidence(costs, lengths, prices)
    likely_usd = variance = most_usd = 0.0
    for group in costs:
        if group.held:
            cost = evidence.from_tier_on(group)
            if cost is None:
                return None
            likely_usd += group.held * cost.usd
            variance += group.held**2 * cost.variance
            most_usd += group.held * cost.most_usd
    if not likely_usd:
        return HeldCost(0.0, 0.0, most_usd)
    high_usd = interval(likely_usd, math.hypot(math.sqrt(variance) / likely_usd, REMAINDER_SPREAD)).high
    return HeldCost(likely_usd, high_usd, most_usd)


class _Evidence:
    """What is known of the costs of a batch at its tiers."""

    def __init__(self, costs: Sequence[TierCost], lengths: AnswerLengths, prices: PriceList) -> None:
        self.lengths, self.prices = lengths, prices
        self.groups: Mapping[tuple[str, str, str], TierCost] = {
            (one.tier, one.workload, one.shape): one for one in costs
        }
        self.tiers = {tier: _pooled(tier, costs) for tier in prices.ladder}

    def from_tier_on(self, held: TierCost) -> _Cost | None:
        """Return the cost of one of the ``held`` queries."""
        ladder = self.prices.ladder
        if held.tier != ROUTE and held.tier not in ladder:
            return None
        above: _Cost | None = None
        for tier in reversed(ladder[0 if held.tier == ROUTE else ladder.index(held.tier) :]):
            if not self.tiers[tier].asked and tier not in (held.tier, ladder[-1]):
                continue  # the policy skips it
            here = self._at(tier, held)
            if here is None:
                return None
            above = here if above is None else self._climbing(tier, held, here, above)
        return above

    def _climbing(self, tier: str, held: TierCost, here: _Cost, above: _Cost) -> _Cost:
        own = self._own(tier, held)
        shown = own if own.left >= LEAST_ANSWERS else self.tiers[tier]
        share = shown.climbed / shown.left if shown.left else 1.0
        guess = (shown.climbed + 1) / (shown.left + 2)  # has a spread where none or all climbed
        share_variance = guess * (1 - guess) * (1 / (shown.left + 2) + 1 / held.held)
        return _Cost(
            here.usd + share * above.usd,
            here.variance + share**2 * above.variance + share_variance * above.usd**2,
            here.most_usd + above.most_usd,
        )

    def _at(self, tier: str, held: TierCost) -> _Cost | None:
        """Return the cost of the calls at ``tier`` alone."""
        own, pooled, model = self._own(tier, held), self.tiers[tier], self.prices.first(tier)
        if own.asked >= LEAST_ANSWERS:
            variance = own.deviation_usd**2 * (1 / own.asked + 1 / held.held)
            usd = _resized(own, held, model)
            return _Cost(usd, variance, usd)
        length = self.lengths.of_group(LengthGroup(tier, held.workload, held.shape))
        if length is not None and self.lengths.is_measured(tier) and (per_byte := self._tokens_per_byte(tier)):
            prompt_usd = _usd(model, prompt_tokens=held.held_bytes * per_byte)
            answer_usd = _usd(model, completion_tokens=length.tokens + length.reasoning_tokens)
            usd = prompt_usd + answer_usd
            variance = answer_usd**2 * (length.spread**2 + ANSWER_SPREAD**2 / held.held)
            return _Cost(usd, variance, usd)
        if not pooled.asked:
            return None
        usd = _resized(pooled, held, model)
        return _Cost(usd, (WORKLOAD_SPREAD * usd) ** 2, usd)

    def _own(self, tier: str, held: TierCost) -> TierCost:
        return self.groups.get((tier, held.workload, held.shape), TierCost(tier))

    def _tokens_per_byte(self, tier: str) -> float:
        """Return the prompt tokens of a query at ``tier`` per byte of its line, else at any tier; 0 if unknown."""
        for one in (self.tiers[tier], *self.tiers.values()):
            if one.asked and one.bytes and one.prompt_tokens:
                return one.prompt_tokens / one.bytes
        return 0.0


def lengths_of(costs: Iterable[TierCost]) -> dict[LengthGroup, LengthRecord]:
    """Return the lengths of the answers in ``costs``."""
    return {
        LengthGroup(one.tier, one.workload, one.shape): LengthRecord(one.text_tokens, one.reasoning_tokens, one.answers)
        for one in costs
        if one.answers
    }


def _pooled(tier: str, costs: Iterable[TierCost]) -> TierCost:
    """Return all queries that were asked at ``tier``."""
    groups = [one for one in costs if one.tier == tier]
    asked = sum(one.asked for one in groups)

    def mean(name: str) -> float:
        return float(sum(one.asked * getattr(one, name) for one in groups)) / asked if asked else 0.0

    return TierCost(
        tier,
        asked=asked,
        left=sum(one.left for one in groups),
        climbed=sum(one.climbed for one in groups),
        usd=mean("usd"),
        bytes=mean("bytes"),
        prompt_tokens=mean("prompt_tokens"),
    )


def _resized(asked: TierCost, held: TierCost, model: ListedModel) -> float:
    """Return the mean cost of ``asked`` if its prompts had the size of those of ``held``."""
    if not asked.bytes:
        return asked.usd
    prompt_usd = min(asked.usd, _usd(model, prompt_tokens=asked.prompt_tokens))  # less if a provider cached it
    return asked.usd + prompt_usd * (held.held_bytes / asked.bytes - 1)


def _usd(model: ListedModel, *, prompt_tokens: float = 0.0, completion_tokens: float = 0.0) -> float:
    tokens_usd = prompt_tokens * model.input_usd_per_mtok + completion_tokens * model.output_usd_per_mtok
    return tokens_usd * model.multiplier / 1e6
