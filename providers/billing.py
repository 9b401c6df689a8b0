"""What a call is billed at where the deployment's own price does not tell: another model answered, or the provider
gives a figure of its own."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from providers.list_prices import UnknownPrice, look_up
from routing.fleet import Model, Provider
from routing.model_name import plain_name
from routing.price import Price

DIFFERENCE: Final = 0.01
"""A provider's figure that differs by more than this share is an alert."""

MOST_USD: Final = 1e6
"""A cost of one call above this is not believed."""

_LEAST_USD: Final = 1e-6

_OWN_NAMES: Final = (".azure.com", ".azure.us", ".azure-api.net")
"""Where the name of a deployment is the user's own, and the answer names the model behind it."""

_SHOWN: Final = re.compile(r"[\w.:/@+-]{1,80}")


def differs(computed_usd: float, reported_usd: float) -> bool:
    """Whether the provider's own figure is more than `DIFFERENCE` off."""
    return abs(computed_usd - reported_usd) > max(DIFFERENCE * max(computed_usd, reported_usd), _LEAST_USD)


def cost_in_headers(headers: Mapping[str, str]) -> float | None:
    """The cost that a LiteLLM proxy states of a call, in US dollars; None where there is none above 0."""
    try:
        usd = float(headers.get("x-litellm-response-cost", 0.0))  # not from a text: nearly no response has it
    except ValueError:
        return None
    return usd if 0 < usd <= MOST_USD else None


def answered_by_another(model: Model, answered: str, provider: Provider) -> str | None:
    """The name of the model that answered instead of ``model``; None where it is the same, or where that is not known.

    A snapshot's date, a publisher's prefix and the like do not make another model of it.
    """
    host = f".{urlsplit(provider.base_url).hostname or ''}"
    if answered == model.model or not answered or model.price.is_free or host.endswith(_OWN_NAMES):
        return None
    if plain_name(answered) == plain_name(model.model):
        return None
    return answered if _SHOWN.fullmatch(answered) else "another model"


def price_as_answered(model: Model, answered: str, provider: Provider) -> tuple[Price, str]:
    """The price of the model that answered where the table has one, else that of ``model``; and a note."""
    shown = answered if _SHOWN.fullmatch(answered) else "another model"
    try:
        price = look_up(
            provider.kind,
            answered,
            on=datetime.now(UTC).date(),
            base_url=provider.base_url,
            multiplier=model.price.multiplier,
        )
    except UnknownPrice:
        return model.price, f"answered by {shown} instead of {model.model}; priced as {model.model}"
    return price, f"answered by {shown} instead of {model.model}; priced as answered"
