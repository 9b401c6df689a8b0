"""The cost of a call: a model's price, and an upper bound of a request's cost.

Prices are in US dollars per million tokens.
"""

import math
from dataclasses import dataclass, replace
from typing import Final

from routing.outcome import Usage


@dataclass(frozen=True, slots=True)
class PriceTier:
    """The price of all tokens of a call with more than ``above_prompt_tokens`` prompt tokens."""

    above_prompt_tokens: int
    input_usd_per_mtok: float
    output_usd_per_mtok: float
    cached_input_usd_per_mtok: float


STANDARD_SERVICE_TIERS: Final = frozenset({"auto", "default", "standard", "standard_only", "on_demand"})
"""Service tiers that cost the list price."""

_CHEAP_SERVICE_TIERS: Final = frozenset({"flex", "batch", "scale"})
"""If no price is known for one of these service tiers, the list price is the bound."""

UNKNOWN_TIER_FACTOR: Final = 2.5
"""The maximum factor on the list price of any other service tier without a price in the fleet: the largest of any model
in the price table (priority of gpt-5.5)."""

CACHE_WRITE_FACTOR: Final = 1.25
CACHE_WRITE_1H_FACTOR: Final = 2.0
"""Anthropic's published factor of the input price, used if the fleet has no price for writing to a cache."""

AUDIO_FACTOR: Final = 20.0
"""The maximum price of an audio token relative to a text token, if the fleet has no price for it (OpenAI's: 16)."""


@dataclass(frozen=True, slots=True)
class PricedExtras:
    """The parts of a request that make its tokens cost more than the list price."""

    service_tier: str | None = None
    writes_cache: bool = False
    """Whether its user marks a part to be cached. Writing that part costs more."""
    shares_prefix: bool = False
    """Whether a prefix that it shares with others of its batch may be written to a cache that lasts minutes."""
    has_audio: bool = False
    """Whether its prompt contains audio."""
    speaks: bool = False
    """Whether it requests audio as an answer."""


NO_EXTRAS: Final = PricedExtras()


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens. ``version`` names the source, and is stored in each call's row."""

    input_usd_per_mtok: float
    output_usd_per_mtok: float
    cached_input_usd_per_mtok: float
    version: str
    multiplier: float = 1.0
    """A factor on all prices, for example 0.5 for a provider's batch tariff."""
    tiers: tuple[PriceTier, ...] = ()
    """Prices for longer prompts, in rising order of length."""
    cache_write_usd_per_mtok: float | None = None
    cache_write_1h_usd_per_mtok: float | None = None
    audio_input_usd_per_mtok: float | None = None
    audio_output_usd_per_mtok: float | None = None
    service_tiers: tuple[tuple[str, "Price"], ...] = ()
    """Prices of the provider's service tiers, if they have their own."""

    @property
    def is_free(self) -> bool:
        """Whether every call is free."""
        return not (self.input_usd_per_mtok or self.output_usd_per_mtok) or not self.multiplier

    def knows_service_tier(self, name: str) -> bool:
        """Whether the price at this service tier is known."""
        return name in STANDARD_SERVICE_TIERS or any(name == known for known, _ in self.service_tiers)

    def at_service_tier(self, name: str | None) -> "Price":
        """Return the price at a service tier, or an upper bound if it is not known."""
        if name is None or name in STANDARD_SERVICE_TIERS:
            return self
        for known, price in self.service_tiers:
            if name == known:
                return replace(price, multiplier=self.multiplier)
        return self if name in _CHEAP_SERVICE_TIERS else replace(self, multiplier=self.multiplier * UNKNOWN_TIER_FACTOR)

    def at_most(self, extras: "PricedExtras") -> "Price":
        """Return the price if every token is of the most expensive kind that a request with these extras allows."""
        if extras == NO_EXTRAS:
            return self
        here = self.at_service_tier(extras.service_tier)
        prompt = [1.0]
        if extras.writes_cache:
            prompt.append(here._over_input(here.cache_write_usd_per_mtok, CACHE_WRITE_FACTOR))
            prompt.append(here._over_input(here.cache_write_1h_usd_per_mtok, CACHE_WRITE_1H_FACTOR))
        if extras.shares_prefix:
            prompt.append(here._over_input(here.cache_write_usd_per_mtok, CACHE_WRITE_FACTOR))
        if extras.has_audio:
            prompt.append(here._over_input(here.audio_input_usd_per_mtok, AUDIO_FACTOR))
        spoken = 0.0
        if extras.speaks:
            known = here.audio_output_usd_per_mtok
            spoken = AUDIO_FACTOR * here.output_usd_per_mtok if known is None else known
        return replace(
            here,
            input_usd_per_mtok=here.input_usd_per_mtok * max(prompt),
            output_usd_per_mtok=max(here.output_usd_per_mtok, spoken),
            tiers=tuple(
                replace(
                    tier,
                    input_usd_per_mtok=tier.input_usd_per_mtok * max(prompt),
                    output_usd_per_mtok=max(tier.output_usd_per_mtok, spoken),
                )
                for tier in here.tiers
            ),
        )

    def cost_usd(self, usage: Usage) -> float:
        """Return the price of ``usage`` in USD, rounded to a billionth of a dollar."""
        if usage.service_tier is not None and (there := self.at_service_tier(usage.service_tier)) is not self:
            return there.cost_usd(usage._replace(service_tier=None))
        rate: Price | PriceTier = self
        for tier in self.tiers:
            if usage.prompt_tokens > tier.above_prompt_tokens:
                rate = tier
        fresh = usage.prompt_tokens - usage.cached_tokens
        spoken = usage.completion_tokens
        micro = usage.cached_tokens * rate.cached_input_usd_per_mtok
        if usage.cache_write_tokens or usage.cache_write_1h_tokens:
            fresh -= usage.cache_write_tokens + usage.cache_write_1h_tokens
            minutes = self._over_input(self.cache_write_usd_per_mtok, CACHE_WRITE_FACTOR)
            hour = self._over_input(self.cache_write_1h_usd_per_mtok, CACHE_WRITE_1H_FACTOR)
            written = usage.cache_write_tokens * minutes + usage.cache_write_1h_tokens * hour
            micro += written * rate.input_usd_per_mtok
        if usage.audio_prompt_tokens or usage.audio_completion_tokens:
            heard = min(usage.audio_prompt_tokens, fresh)
            fresh -= heard
            spoken -= usage.audio_completion_tokens
            micro += heard * (
                self.input_usd_per_mtok * AUDIO_FACTOR
                if self.audio_input_usd_per_mtok is None
                else self.audio_input_usd_per_mtok
            ) + usage.audio_completion_tokens * (
                self.output_usd_per_mtok * AUDIO_FACTOR
                if self.audio_output_usd_per_mtok is None
                else self.audio_output_usd_per_mtok
            )
        micro += fresh * rate.input_usd_per_mtok + spoken * rate.output_usd_per_mtok
        return round(micro * self.multiplier / 1e6, 9)

    def most_usd(self, *, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the maximum cost, in USD, of a call with at most so many tokens, rounded up to `cost_usd`'s precision.

        It uses the highest rate that applies to any prompt of at most this length.
        """
        prompt_rate = max(self.input_usd_per_mtok, self.cached_input_usd_per_mtok)
        completion_rate = self.output_usd_per_mtok
        for tier in self.tiers:
            if prompt_tokens > tier.above_prompt_tokens:
                prompt_rate = max(prompt_rate, tier.input_usd_per_mtok, tier.cached_input_usd_per_mtok)
                completion_rate = max(completion_rate, tier.output_usd_per_mtok)
        micro = prompt_tokens * prompt_rate + completion_tokens * completion_rate
        return math.ceil(micro * self.multiplier * 1e3) / 1e9

    def _over_input(self, usd_per_mtok: float | None, factor: float) -> float:
        """Return a price as a factor of the input price, or ``factor`` if it is not known."""
        if usd_per_mtok is None or not self.input_usd_per_mtok:
            return factor
        return usd_per_mtok / self.input_usd_per_mtok
