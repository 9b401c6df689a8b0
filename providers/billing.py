"""The cost of a call that the deployment's price does not give: another model answered, or the provider reports its own
figure."""

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
"""A provider's figure that differs by more than this share causes an alert."""

MOST_USD: Final = 1e6
"""A higher cost of one call is rejected as an error."""

_LEAST_USD: Final = 1e-6

_OWN_NAMES: Final = (".azure.com", ".azure.us", ".azure-api.net")
"""Hosts where the name of a deployment is the user's own, and the answer names the model behind it."""

_SHOWN: Final = re.compile(r"[\w.:/@+-]{1,80}")


def differs(computed_usd: float, reported_usd: float) -> bool:
    """Whether the provider's own figure is more than `DIFFERENCE` off."""
    return abs(computed_usd - reported_usd) > max(DIFFERENCE * max(computed_usd, reported_usd), _LEAST_USD)


def cost_in_headers(headers: Mapping[str, str]) -> float | None:
    """Return the cost of a call that a LiteLLM proxy states, in US dollars. None if there is none above 0."""
    try:
        usd = float(headers.get("x-litellm-response-cost", 0.0))  # not from a text: nearly no response has it
    except ValueError:
        return None
    return usd if 0 < usd <= MOST_USD else None


def answered_by_another(model: Model, answered: str, provider: Provider) -> str | None:
    """Return the model that answered instead of ``model``, or None if it is the same, or unknown.

    Differences such as a snapshot's date or a publisher's prefix do not make another model.
    """
    host = f".{urlsplit(provider.base_url).hostname or ''}"
    if answered == model.model or not answered or model.price.is_free or host.endswith(_OWN_NAMES):
        return None
    if plain_name(answered) == plain_name(model.model):
        return None
    return answered if _SHOWN.fullmatch(answered) else "another model"


def price_as_answered(model: Model, answered: str, provider: Provider) -> tuple[Price, str]:
    """Return the price of the model that answered if the table has one, else that of ``model``; and a note."""
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
