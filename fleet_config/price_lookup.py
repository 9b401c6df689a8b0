"""The price of a model, from the file or the price table."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from fleet_config.fleet_errors import Problem, key
from fleet_config.fleet_schema import ModelTable, PriceTable, ProviderTable, TierPriceTable
from routing.fleet import Protocol
from routing.lanes.lane import Lane
from routing.price import Price, PriceTier

LANE_DISCOUNT: Final = 0.5
"""The factor on the list price in the lanes flex and batch if neither the price table nor the fleet states a price.
OpenAI, Anthropic and Google publish this discount for their batch APIs, and OpenAI also for flex."""


def price_of(
    name: str, model: ModelTable, *, provider: ProviderTable | None, digest: str, embeds: bool = False
) -> Price | Problem | None:
    """Return US dollars per million tokens, or None if a look-up lacks a valid provider. ``embeds``: it is an embedding
    model."""
    match model.price:
        case PriceTable() as price:
            return _stated(price, multiplier=model.price_multiplier, version=f"fleet:{digest[:12]}")
        case "look up":
            if provider is None:
                return None
            return _looked_up(name, model, provider, embeds=embeds)


def with_lanes(price: Price, lanes: Iterable[Lane]) -> Price:
    """Return ``price`` with a price for the service tier of each lane, by `LANE_DISCOUNT` if it has none."""
    missing = [lane for lane in lanes if not price.knows_service_tier(lane)]
    halved = replace(_scaled(price, LANE_DISCOUNT), service_tiers=(), version=f"{price.version} × {LANE_DISCOUNT:g}")
    return replace(price, service_tiers=(*price.service_tiers, *((lane.value, halved) for lane in missing)))


def _scaled(price: Price, factor: float) -> Price:
    """Return ``price`` with every rate times ``factor``."""

    def scaled(usd_per_mtok: float | None) -> float | None:
        return None if usd_per_mtok is None else usd_per_mtok * factor

    return replace(
        price,
        input_usd_per_mtok=price.input_usd_per_mtok * factor,
        output_usd_per_mtok=price.output_usd_per_mtok * factor,
        cached_input_usd_per_mtok=price.cached_input_usd_per_mtok * factor,
        tiers=tuple(
            PriceTier(
                tier.above_prompt_tokens,
                tier.input_usd_per_mtok * factor,
                tier.output_usd_per_mtok * factor,
                tier.cached_input_usd_per_mtok * factor,
            )
            for tier in price.tiers
        ),
        cache_write_usd_per_mtok=scaled(price.cache_write_usd_per_mtok),
        cache_write_1h_usd_per_mtok=scaled(price.cache_write_1h_usd_per_mtok),
        audio_input_usd_per_mtok=scaled(price.audio_input_usd_per_mtok),
        audio_output_usd_per_mtok=scaled(price.audio_output_usd_per_mtok),
    )


def list_price(model: str) -> Price | None:
    """Return the list price of a model by its name alone, on the day of the call. None if no vendor is known to have
    it."""
    from providers.list_prices import UnknownPrice, look_up

    today = datetime.now(UTC).date()
    for kind in Protocol:
        try:
            return look_up(kind, model, on=today)
        except UnknownPrice:
            continue
    return None


def _stated(price: PriceTable, *, multiplier: float, version: str) -> Price:
    return replace(
        _plain(price, multiplier=multiplier, version=version),
        cache_write_usd_per_mtok=price.cache_write_usd_per_mtok,
        cache_write_1h_usd_per_mtok=price.cache_write_1h_usd_per_mtok,
        audio_input_usd_per_mtok=price.audio_input_usd_per_mtok,
        audio_output_usd_per_mtok=price.audio_output_usd_per_mtok,
        service_tiers=tuple(
            (name, _plain(each, multiplier=multiplier, version=version)) for name, each in price.service_tiers.items()
        ),
    )


def _plain(price: PriceTable | TierPriceTable, *, multiplier: float, version: str) -> Price:
    cached = price.cached_input_usd_per_mtok
    return Price(
        input_usd_per_mtok=price.input_usd_per_mtok,
        output_usd_per_mtok=price.output_usd_per_mtok,
        cached_input_usd_per_mtok=price.input_usd_per_mtok if cached is None else cached,
        version=version,
        multiplier=multiplier,
    )


def _looked_up(name: str, model: ModelTable, provider: ProviderTable, *, embeds: bool) -> Price | Problem:
    # Imported late: the price table is large, and only look-ups need it.
    from providers.list_prices import UnknownPrice, look_up

    today = datetime.now(UTC).date()
    try:
        return look_up(
            provider.kind,
            model.model or name,
            on=today,
            base_url=provider.base_url,
            multiplier=model.price_multiplier,
            embeds=embeds,
        )
    except UnknownPrice:
        return Problem(
            key("models", name, "price"),
            f'is "look up", but the price of the {provider.kind.value} model {model.model or name!r} is unknown.',
            "State it: price = { input_usd_per_mtok = 0.25, output_usd_per_mtok = 2.0 }.",
        )
