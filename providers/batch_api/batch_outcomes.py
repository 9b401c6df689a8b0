"""The lines of a deployment's provider batches: written and read by the adapter of its direct calls."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from providers.adapters.adapter import Adapter, Prepared
from providers.answer_reading import broken_body, decode, read_outcome
from providers.batch_api.remote_batch import BATCH_SERVICE_TIER
from providers.provider_errors import InvalidResponse
from routing.fleet import Model
from routing.outcome import Completion, Failure, Outcome, Usage


class DirectCalls(Protocol):
    """What is known of a deployment from its direct calls, and what they do besides: `ProviderClient`."""

    def without_refused(self, model: Model, body: Mapping[str, Any], added: frozenset[str]) -> Mapping[str, Any]:
        """``body`` without those of the ``added`` fields, and of the fields of sampling, that ``model`` refuses."""

    def as_billed(self, model: Model, completion: Completion) -> Completion:
        """``completion`` with its cost where the deployment's price does not give it."""

    def log_failure(self, model: Model, failure: Failure) -> None:
        """Logs it."""


class BatchOutcomes:
    """Of one deployment. ``now`` gives Unix seconds."""

    def __init__(self, model: Model, adapter: Adapter, calls: DirectCalls, *, now: Callable[[], float]) -> None:
        self.model = model
        self._adapter = adapter
        self._calls = calls
        self._now = now

    @property
    def path(self) -> str:
        """Where a direct call goes, below ``base_url``."""
        return self._adapter.path(self.model)

    def prepare(self, body: Mapping[str, Any], added: frozenset[str]) -> Prepared:
        """The request of a direct call. Raises UnsupportedParameter."""
        return self._adapter.prepare(self._calls.without_refused(self.model, body, added), self.model)

    def read(self, status: int, answer: Any, *, request_id: str | None = None) -> Outcome:
        """What ``answer`` is, the JSON of a body that came with ``status``; its latency is 0.

        Where it does not say what it took, its usage is 0 and ``usage_is_guess``: it costs what was reserved.
        """
        outcome = read_outcome(self._adapter, self.model, status, answer, headers={}, now=self._now(), asked=None)
        if isinstance(outcome, Failure):
            usage = None if outcome.usage is None else _at_batch_price(outcome.usage)
            outcome = replace(outcome, usage=usage, request_id=request_id)
            self._calls.log_failure(self.model, outcome)
            return outcome
        usage = outcome.usage
        is_guess = not (usage.prompt_tokens or usage.completion_tokens)
        outcome = replace(outcome, usage=_at_batch_price(usage), usage_is_guess=is_guess, request_id=request_id)
        return self._calls.as_billed(self.model, outcome)


def _at_batch_price(usage: Usage) -> Usage:
    return replace(usage, service_tier=BATCH_SERVICE_TIER)


def decode_line(raw: bytes) -> Mapping[str, Any]:
    """A line of results; empty where it is not a JSON object."""
    try:
        line = decode(raw)
    except InvalidResponse:
        return {}
    return line if isinstance(line, dict) else {}


def unreadable() -> Failure:
    """The outcome of a line of results that says nothing."""
    return broken_body(InvalidResponse("a line of results that cannot be read"))
