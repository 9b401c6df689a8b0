"""A call that was sent, and its result: its row in the ledger, and what it cost.

Named tuples, as in `db.ledger_types`: several are made for each query.
"""

from datetime import datetime
from typing import Any, NamedTuple

from routing.fleet import Model
from routing.outcome import BILLED, UNSETTLED, Completion, Failure, Outcome, Usage


class SentCall(NamedTuple):
    """A call whose intent is committed. ``at`` is part of its row's key."""

    call_id: int
    at: datetime
    model: Model
    reserved_usd: float
    is_batched: bool = False
    """Whether the call is a line of a provider batch. Its duration then says nothing about the deployment."""


class CallResult(NamedTuple):
    """The result of a call that was sent."""

    sent: SentCall
    outcome: Outcome
    keep_response: bool = False
    """Whether to store the text of the answer with the call: it was rejected, but may still be the best one."""

    @property
    def cost_usd(self) -> float:
        """What the call is billed at.

        The provider's own figure where it gives one above 0; else by the usage, at the price of the model that
        answered; the reservation where that cannot be known; 0 where it is not billed.
        """
        computed, usage = self.computed_usd, self.outcome.usage
        reported = usage.reported_usd if usage is not None else None
        return computed if not reported else round(reported, 9)

    @property
    def computed_usd(self) -> float:
        """The cost by the price table alone, without the provider's own figure."""
        outcome = self.outcome
        if isinstance(outcome, Completion):
            usd = self.sent.model.price.cost_usd(outcome.usage) if outcome.cost_usd is None else outcome.cost_usd
            if not outcome.usage_is_guess:
                return usd
            is_counted = outcome.usage.prompt_tokens or outcome.usage.completion_tokens
            return min(usd, self.sent.reserved_usd) if is_counted else self.sent.reserved_usd
        if outcome.usage is not None:
            return self.sent.model.price.cost_usd(outcome.usage)
        assert isinstance(outcome, Failure)
        return self.sent.reserved_usd if outcome.kind in BILLED | UNSETTLED else 0.0

    def row(self) -> dict[str, Any]:
        outcome = self.outcome
        usage = outcome.usage or Usage()
        failure = outcome if isinstance(outcome, Failure) else None
        answered_by = outcome.model if isinstance(outcome, Completion) else None
        return {
            "call_id": self.sent.call_id,
            "at": self.sent.at.isoformat(),
            "outcome": "ok" if isinstance(outcome, Completion) else outcome.kind.value,
            "status": 200 if isinstance(outcome, Completion) else outcome.status,
            "latency_ms": None if self.sent.is_batched else round(outcome.latency_ms, 3),
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "completion_tokens": usage.completion_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "cost_usd": self.cost_usd,
            "request_id": outcome.request_id,
            "finish_reason": outcome.finish_reason if isinstance(outcome, Completion) else None,
            "mean_logprob": outcome.mean_logprob if isinstance(outcome, Completion) else None,
            "response": outcome.response if self.keep_response and isinstance(outcome, Completion) else None,
            "cause": failure and failure.cause,
            "param": failure and failure.param,
            "answered_by": answered_by if answered_by != self.sent.model.model else None,
            "cache_write_tokens": usage.cache_write_tokens or None,
            "cache_write_1h_tokens": usage.cache_write_1h_tokens or None,
            "audio_tokens": usage.audio_prompt_tokens + usage.audio_completion_tokens or None,
            "service_tier": usage.service_tier,
            "reported_usd": usage.reported_usd,
            "computed_usd": None if usage.reported_usd is None else self.computed_usd,
        }
