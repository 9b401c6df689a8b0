"""The simulator's prices: those of a fleet, kept separately so that the ledger can be compared with them."""

from collections.abc import Iterable
from typing import Any, Final

from routing.fleet import CachedBy, Model
from routing.lanes.lane import Lane
from routing.outcome import Usage
from routing.price import Price

_MTOK: Final = 1_000_000


def simulated_prices(models: Iterable[Model]) -> dict[str, Any]:
    """Return keys of the simulator's configuration."""
    by_name = {model.model: model for model in models}
    return {
        "prices": {name: _rates(model.price) for name, model in by_name.items()},
        "prompt_caches": {name: _cache(model) for name, model in by_name.items() if model.prompt_caching},
        "audio_factors": {
            name: model.price.audio_input_usd_per_mtok / model.price.input_usd_per_mtok
            for name, model in by_name.items()
            if model.price.audio_input_usd_per_mtok is not None and model.price.input_usd_per_mtok
        },
        "lane_prices": {
            lane: {
                name: _rates(model.price.at_service_tier(lane))
                for name, model in by_name.items()
                if model.price.knows_service_tier(lane)
            }
            for lane in (Lane.BATCH, Lane.FLEX)
        },
    }


def _rates(price: Price) -> list[float]:
    per_mtok = (price.input_usd_per_mtok, price.output_usd_per_mtok, price.cached_input_usd_per_mtok)
    return [usd * price.multiplier for usd in per_mtok]


def _cache(model: Model) -> dict[str, Any]:
    """Return ``model``'s prompt cache by the fleet."""
    caching, price = model.prompt_caching, model.price
    assert caching is not None
    plain_usd = price.cost_usd(Usage(_MTOK))

    def factor(written: Usage) -> float:
        return price.cost_usd(written) / plain_usd if plain_usd else 1.0

    marked = caching.by is CachedBy.CACHE_CONTROL
    return {
        "min_tokens": caching.min_tokens,
        "lifetime_s": caching.lifetime_s,
        "marked": marked,
        "write_factor": factor(Usage(_MTOK, cache_write_tokens=_MTOK if marked else 0)),
        "write_1h_factor": factor(Usage(_MTOK, cache_write_1h_tokens=_MTOK)),
    }
