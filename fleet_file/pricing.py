"""The price of a model: as the file gives it, or as it is looked up."""

from datetime import UTC, datetime

from fleet_file.problem import Problem, key
from fleet_file.shapes import ModelTable, PriceTable, ProviderTable
from routing.fleet import Price


def price_of(name: str, model: ModelTable, *, provider: ProviderTable | None, digest: str) -> Price | Problem | None:
    """US dollars per million tokens; None where it is to be looked up and the provider is not sound."""
    match model.price:
        case PriceTable() as given:
            return _given(given, multiplier=model.price_multiplier, version=f"fleet:{digest[:12]}")
        case "look up":
            if provider is None:
                return None
            return _looked_up(name, model, provider)


def _given(price: PriceTable, *, multiplier: float, version: str) -> Price:
    cached = price.cached_input_usd_per_mtok
    return Price(
        input_usd_per_mtok=price.input_usd_per_mtok,
        output_usd_per_mtok=price.output_usd_per_mtok,
        cached_input_usd_per_mtok=price.input_usd_per_mtok if cached is None else cached,
        version=version,
        multiplier=multiplier,
    )


def _looked_up(name: str, model: ModelTable, provider: ProviderTable) -> Price | Problem:
    # Here, not above: the table of prices is large, and a fleet that states its own need not load it.
    from genai_prices import __version__, types
    from genai_prices.data_snapshot import get_snapshot

    wire = model.model or name
    try:
        _, found = get_snapshot().find_provider_model(wire, None, provider.kind.value, None)
    except LookupError:
        return Problem(
            key("models", name, "price"),
            f"is to be looked up, but no {provider.kind.value} model {wire!r} is known.",
            "Give it: price = { input_usd_per_mtok = 0.25, output_usd_per_mtok = 2.0 }.",
        )
    prices = found.get_prices(datetime.now(UTC))
    fresh, cached, completion = (
        float(price.base if isinstance(price, types.TieredPrices) else price or 0)
        for price in (prices.input_mtok, prices.cache_read_mtok or prices.input_mtok, prices.output_mtok)
    )
    return Price(fresh, completion, cached, f"genai-prices {__version__}", model.price_multiplier)
