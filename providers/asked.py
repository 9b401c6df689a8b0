"""The parts of a chat body that every adapter asks about in the same way."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from providers.errors import Inexpressible
from routing.fleet import Model

TRANSPORT_ONLY: Final = frozenset(
    {
        "model", "stream", "stream_options", "store", "metadata", "service_tier",
        "prompt_cache_key", "prompt_cache_retention", "safety_identifier",
    }
)  # fmt: skip
"""Keys that do not change what is asked: another protocol may leave them out."""

_NEUTRAL: Final[Mapping[str, Sequence[Any]]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "parallel_tool_calls": (True,),
    "tools": ([],),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "stop": ([],),
}
"""Values that say what holds anyway."""


def settings(body: Mapping[str, Any], *, known: frozenset[str]) -> dict[str, Any]:
    """What ``body`` asks for apart from its messages, without what is neutral.

    Raises Inexpressible for a key that is not ``known`` and for more than one completion: the
    reservation, the judge and the user's answer are all for one.
    """
    said = {
        key: value
        for key, value in body.items()
        if value is not None
        and key != "messages"
        and key not in TRANSPORT_ONLY
        and not (key in _NEUTRAL and value in _NEUTRAL[key])
    }
    if "n" in said:
        raise Inexpressible("n", "a query has one answer")
    for key in said:
        if key not in known:
            raise Inexpressible(key, "this protocol has no such setting")
    return said


def completion_cap(body: Mapping[str, Any], model: Model) -> int:
    """The tokens to ask for at most: what the body says, within what the reservation covers."""
    wanted = body.get("max_completion_tokens") or body.get("max_tokens") or model.max_output_tokens
    return min(int(wanted), model.max_output_tokens)


def stops(value: object) -> list[str]:
    """``stop`` as a list."""
    return [value] if isinstance(value, str) else list(value) if isinstance(value, list) else []
