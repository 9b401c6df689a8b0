"""The price of a model by name, from the table of the pinned release of genai-prices.

Nothing is fetched. The same release, model and day always give the same price, and its version names all three if they
matter.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Final

from genai_prices import __version__, types
from genai_prices.data_snapshot import get_snapshot

from providers.provider_errors import UnknownPrice
from routing.fleet import Protocol
from routing.price import STANDARD_SERVICE_TIERS, Price, PriceTier

__all__ = ["UnknownPrice", "look_up"]

_BY_BATCH: Final = {"processing": "batch"}
"""The table's condition for a price at the provider's batch API."""

_MEND: Final = "State it: price = { input_usd_per_mtok = 0.25, output_usd_per_mtok = 2.0 }."


def look_up(
    kind: Protocol, model: str, *, on: date, base_url: str = "", multiplier: float = 1.0, embeds: bool = False
) -> Price:
    """Return the list price of ``model`` on the day ``on``, times ``multiplier``.

    The provider is the one with the address ``base_url`` (Groq's prices for Groq), else the one that ``kind`` is named
    after. Prices that rise with the length of the prompt become `Price.tiers`. If prices are lower at certain hours,
    the full price is used. ``embeds``: it is an embedding model, which needs no output price. Raises UnknownPrice.
    """
    found = _find(kind, model, base_url)
    prices, since = _on(found, on)
    version = f"genai-prices {__version__} {found.id}" + (f" since {since}" if since else "")
    if embeds:  # asked for at the standard tier alone
        return _price(prices, kind, model, version=version, multiplier=multiplier, without_output=Decimal(0))
    price = _price(prices, kind, model, version=version, multiplier=multiplier)
    of_tiers = _service_tiers(found, kind, model, on=on, version=version, multiplier=multiplier)
    return replace(price, service_tiers=tuple(of_tiers))


def _price(
    prices: types.ModelPrice,
    kind: Protocol,
    model: str,
    *,
    version: str,
    multiplier: float,
    without_output: Decimal | None = None,
) -> Price:
    """``without_output`` is the output price if the table has none."""
    fresh, completion = prices.input_mtok, without_output if prices.output_mtok is None else prices.output_mtok
    if fresh is None or completion is None:
        raise UnknownPrice(f"The table has no price per token for the {kind} model {model!r}. {_MEND}")
    cached = prices.cache_read_mtok or fresh
    starts = sorted({tier.start for price in (fresh, completion, cached) for tier in _tiers(price)})
    return Price(
        input_usd_per_mtok=_at(fresh, 0),
        output_usd_per_mtok=_at(completion, 0),
        cached_input_usd_per_mtok=_at(cached, 0),
        version=version,
        multiplier=multiplier,
        tiers=tuple(
            PriceTier(start, _at(fresh, start + 1), _at(completion, start + 1), _at(cached, start + 1))
            for start in starts
        ),
        cache_write_usd_per_mtok=_of(prices, "cache_write_mtok"),
        cache_write_1h_usd_per_mtok=_of(prices, "cache_write_1h_mtok"),
        audio_input_usd_per_mtok=_of(prices, "input_audio_mtok"),
        audio_output_usd_per_mtok=_of(prices, "output_audio_mtok"),
    )


def _of(prices: types.ModelPrice, name: str) -> float | None:
    found = getattr(prices, name, None)
    return None if found is None else _at(found, 0)


def _service_tiers(
    found: types.ModelInfo, kind: Protocol, model: str, *, on: date, version: str, multiplier: float
) -> Iterator[tuple[str, Price]]:
    """Return the model's prices at the service tiers of the table on the day ``on``, including its batch API."""
    conditions = [variant.when for variant in found.price_variants or ()]
    names = {when["service_tier"] for when in conditions if "service_tier" in when} - STANDARD_SERVICE_TIERS
    noon = datetime.combine(on, time(12), tzinfo=UTC)
    for name in sorted(names):
        prices = found.get_prices(noon, {"service_tier": name})
        yield name, _price(prices, kind, model, version=version, multiplier=multiplier)
    if _BY_BATCH in conditions:
        yield "batch", _price(found.get_prices(noon, _BY_BATCH), kind, model, version=version, multiplier=multiplier)


def _find(kind: Protocol, model: str, base_url: str) -> types.ModelInfo:
    table = get_snapshot()
    try:
        provider = table.find_provider(None, None, base_url or None)
    except LookupError:
        # An address of one's own, such as a proxy's or the simulator's: by the protocol's name.
        provider = table.find_provider(None, kind.value, None)
    try:
        return table.find_provider_model(model, provider, None, None)[1]
    except LookupError as error:
        raise UnknownPrice(f"No price is known for the model {model!r} of {provider.id}. {_MEND}") from error


def _on(found: types.ModelInfo, day: date) -> tuple[types.ModelPrice, date | None]:
    """Return the prices on ``day``, and since when they apply, if they have changed before."""
    if isinstance(found.prices, types.ModelPrice):
        return found.prices, None
    prices, since = found.prices[0].prices, None
    for each in found.prices:  # the last that applies holds
        match each.constraint:
            case None:
                prices, since = each.prices, None
            case types.StartDateConstraint(start_date=start) if start <= day:
                prices, since = each.prices, start
            case _:
                pass
    return prices, since


def _tiers(price: Decimal | types.TieredPrices) -> list[types.Tier]:
    return price.tiers if isinstance(price, types.TieredPrices) else []


def _at(price: Decimal | types.TieredPrices, prompt_tokens: int) -> float:
    """Return the price per million tokens in a call with so many prompt tokens."""
    if not isinstance(price, types.TieredPrices):
        return float(price)
    above = [tier.price for tier in price.tiers if prompt_tokens > tier.start]
    return float(above[-1] if above else price.base)
