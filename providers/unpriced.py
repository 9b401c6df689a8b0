"""Refuses requests without a known price, because a ledger that is too low without notice is worse than none."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from providers.provider_errors import NoPrice
from routing.fleet import Model

STANDARD_TIERS: Final = frozenset({"auto", "default", "standard", "standard_only"})
"""Service tiers at the list price."""


def refuse_unpriced(body: Mapping[str, Any], model: Model) -> None:
    """Raise NoPrice, which names the field and the fix, if ``model`` has no price for what ``body`` requests."""
    price = model.price
    if price.is_free:
        return
    tier = body.get("service_tier")
    if tier is not None and str(tier) not in STANDARD_TIERS and not price.knows_service_tier(str(tier)):
        raise NoPrice("service_tier", _no_price("this service tier", model, "price.service_tiers"))
    if price.audio_input_usd_per_mtok is None:
        for where in _sounds(body):
            raise NoPrice(where, _no_price("audio input", model, "price.audio_input_usd_per_mtok"))
    if price.audio_output_usd_per_mtok is None and _asks_for_audio(body):
        raise NoPrice("modalities", _no_price("audio output", model, "price.audio_output_usd_per_mtok"))


def _no_price(what: str, model: Model, key: str) -> str:
    return f"no price is known for {what} of {model.model}. fix: set {key} of this model in the fleet file"


def _asks_for_audio(body: Mapping[str, Any]) -> bool:
    modalities = body.get("modalities")
    return bool(body.get("audio")) or (isinstance(modalities, list) and "audio" in modalities)


def _sounds(body: Mapping[str, Any]) -> Iterator[str]:
    messages = body.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        for place, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, dict) and part.get("type") == "input_audio":
                yield f"messages[{index}].content[{place}]"
