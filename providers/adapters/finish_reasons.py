"""Why a generation ended: each protocol's words in OpenAI's, as data.

A finish reason in no table is a failure: the generation broke off for an unknown reason, and the answer may be cut
anywhere. Sources: the API references of OpenAI, Anthropic and Google; vLLM's ``abort``, DeepSeek's
``insufficient_system_resource``, OpenRouter's ``error``, Mistral's ``model_length``, Together's and TGI's ``eos``,
Cohere's ``COMPLETE``, Bedrock's ``content_filtered`` and ``guardrail_intervened``, Z.ai's ``sensitive`` and
``network_error``.
"""

from collections.abc import Mapping
from typing import Final, NoReturn

from providers.provider_errors import BrokenOff, ContentRefused
from routing.fleet import Protocol
from routing.outcome import Usage

REFUSED: Final = "refused"
BROKEN: Final = "broken off"

FINISH_REASONS: Final[Mapping[Protocol, Mapping[str, str]]] = {
    Protocol.OPENAI: {
        "stop": "stop",
        "eos": "stop",
        "eos_token": "stop",
        "stop_sequence": "stop",
        "end_turn": "stop",
        "length": "length",
        "max_tokens": "length",
        "model_length": "length",
        "tool_calls": "tool_calls",
        "function_call": "function_call",
        "COMPLETE": "stop",
        "content_filter": REFUSED,
        "content_filtered": REFUSED,
        "guardrail_intervened": REFUSED,
        "sensitive": REFUSED,
        "network_error": BROKEN,
        "abort": BROKEN,
        "error": BROKEN,
        "cancelled": BROKEN,
        "insufficient_system_resource": BROKEN,
        "repetition_truncation": BROKEN,
    },
    Protocol.ANTHROPIC: {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "tool_use": "tool_calls",
        "refusal": REFUSED,
        "pause_turn": BROKEN,
    },
    Protocol.GOOGLE: {
        "STOP": "stop",
        "MAX_TOKENS": "length",
        "SAFETY": REFUSED,
        "RECITATION": REFUSED,
        "BLOCKLIST": REFUSED,
        "PROHIBITED_CONTENT": REFUSED,
        "SPII": REFUSED,
        "IMAGE_SAFETY": REFUSED,
        "IMAGE_PROHIBITED_CONTENT": REFUSED,
        "IMAGE_RECITATION": REFUSED,
        "LANGUAGE": BROKEN,
        "OTHER": BROKEN,
        "MALFORMED_FUNCTION_CALL": BROKEN,
        "UNEXPECTED_TOOL_CALL": BROKEN,
        "TOO_MANY_TOOL_CALLS": BROKEN,
        "MISSING_THOUGHT_SIGNATURE": BROKEN,
        "FINISH_REASON_UNSPECIFIED": BROKEN,
    },
}
"""The protocol's finish reason → OpenAI's ``finish_reason``, `REFUSED` or `BROKEN`."""

_ANY: Final = {word: found for table in FINISH_REASONS.values() for word, found in table.items()}
"""Gateways, and Google's OpenAI endpoint, pass on the finish reasons of the provider behind them."""


def finish_reason(protocol: Protocol, word: str, *, usage: Usage | None) -> str:
    """Return OpenAI's finish reason for ``word``. Raises ContentRefused, or BrokenOff for an unknown one."""
    found = FINISH_REASONS[protocol].get(word) or _ANY.get(word, BROKEN)
    if found == REFUSED:
        raise ContentRefused(word, usage=usage)
    return broke_off(word or "no_finish_reason", usage=usage) if found == BROKEN else found


def broke_off(word: str, *, usage: Usage | None) -> NoReturn:
    """Raise BrokenOff. Only a ``word`` that looks like a code is shown."""
    shown = word if len(word) <= 64 and word.isascii() and word.replace("_", "a").isalnum() else "unknown_finish_reason"
    raise BrokenOff(shown, usage=usage)
