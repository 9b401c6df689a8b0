"""Span attributes of calls and queries, most of them named by OpenTelemetry's conventions for GenAI.

Never user text: reasons are redacted.
"""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from db.call_result import CallResult
from db.ledger_types import CallIntent, Transition
from routing.fleet import Fleet, Protocol, Provider
from routing.lifecycle import MoveKind
from routing.outcome import Completion
from routing.reason import ReasonCode, code_of

_MAX_CHARS: Final = 200
_PRIVATE: Final = frozenset({ReasonCode.SHAPE, ReasonCode.UNCHECKED})
"""Codes of reasons with a text that may quote names of a user's schema."""


def redact_reasons(reasons: Sequence[str]) -> list[str]:
    """Return the texts of reasons, or only the code if the text may quote a user's schema."""
    return [code if (code := code_of(reason)) in _PRIVATE else str(reason)[:_MAX_CHARS] for reason in reasons]


def of_call(intent: CallIntent, fleet: Fleet, *, router: str | None, reason: str | None) -> dict[str, Any]:
    """Return attributes of a call before it is sent. ``router`` chose the tier for its query because of ``reason``."""
    provider = fleet.providers[intent.model.provider]
    address = urlsplit(provider.base_url)
    known = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _provider_name(provider),
        "gen_ai.request.model": intent.model.model,
        "server.address": address.hostname or "",
        "pointsman.provider": provider.name,
        "pointsman.deployment": intent.model.name,
        "pointsman.tier": intent.tier,
        "pointsman.purpose": intent.purpose,
        "pointsman.call_id": intent.call_id,
    }
    if address.port is not None:
        known["server.port"] = address.port
    if intent.query_id is not None:
        known["pointsman.query_id"] = intent.query_id
    if router is not None:
        known["pointsman.router"] = router
        known["pointsman.reasons"] = redact_reasons([reason or ""])
    return known


def _provider_name(provider: Provider) -> str:
    """Return ``gen_ai.provider.name``: the standard name of a protocol's own provider, else the fleet's name."""
    match provider.kind:
        case Protocol.ANTHROPIC:
            return "anthropic"
        case Protocol.GOOGLE:
            return "gcp.gemini"
        case _:
            return provider.name


def of_result(result: CallResult) -> dict[str, Any]:
    """Return attributes of a finished call, as the ledger has them."""
    outcome = result.outcome
    known: dict[str, Any] = {"pointsman.cost_usd": result.cost_usd, "pointsman.latency_ms": outcome.latency_ms}
    if outcome.usage is not None:
        known["gen_ai.usage.input_tokens"] = outcome.usage.prompt_tokens
        known["gen_ai.usage.output_tokens"] = outcome.usage.completion_tokens
        known["gen_ai.usage.cache_read.input_tokens"] = outcome.usage.cached_tokens
    if isinstance(outcome, Completion):
        known["gen_ai.response.model"] = outcome.model[:_MAX_CHARS]
        known["gen_ai.response.finish_reasons"] = [outcome.finish_reason[:_MAX_CHARS]]
        known["http.response.status_code"] = 200
    elif outcome.status is not None:
        known["http.response.status_code"] = outcome.status
    return known


def of_verdict(transition: Transition) -> dict[str, Any]:
    """Return the judge's verdict on an answer."""
    verdict: dict[str, Any] = {
        "accepted": transition.move is MoveKind.FINISH,
        "reasons": redact_reasons(transition.why.reasons),
    }
    if transition.why.confidence is not None:
        verdict["confidence"] = transition.why.confidence
    return verdict


def of_end(transition: Transition) -> dict[str, Any]:
    """Return how a query ended."""
    end: dict[str, Any] = {
        "pointsman.query_id": transition.query_id,
        "pointsman.epoch": transition.epoch,
        "pointsman.state": transition.to_state.value,
        "pointsman.reasons": redact_reasons(transition.why.reasons),
    }
    if transition.answer is not None:
        end |= {"pointsman.tier": transition.answer.tier, "pointsman.accepted": transition.answer.accepted}
    return end
