"""The lines of a deployment's provider batches: written and read by the adapter of its direct calls."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Protocol

from providers.adapters.adapter import Adapter, Prepared
from providers.adapters.chat_request import may_be_left_out, refused_notes
from providers.adapters.parameters import OTHER_CAP
from providers.answer_reading import broken_body, decode, read_outcome
from providers.batch_api.remote_batch import BATCH_SERVICE_TIER
from providers.provider_errors import InvalidResponse
from routing.fleet import Model
from routing.outcome import Completion, Failure, Outcome, Usage


class DirectCalls(Protocol):
    """A deployment's direct calls, as the batch API sees them: `ProviderClient`."""

    def refused_fields(self, model: Model) -> frozenset[str]:
        """Return the fields that ``model`` is known to refuse."""

    def without_refusal(
        self,
        model: Model,
        failure: Failure,
        body: Mapping[str, Any],
        added: frozenset[str],
        sent: Mapping[str, Any],
    ) -> Mapping[str, Any] | None:
        """Return what to send again if ``failure`` refuses an optional field of what was ``sent``, else None."""

    def as_billed(self, model: Model, completion: Completion) -> Completion:
        """Return ``completion`` with its cost if the deployment's price does not apply."""

    def log_failure(self, model: Model, failure: Failure) -> None:
        """Log the failure."""


class BatchOutcomes:
    """The lines of one deployment. ``now`` gives Unix seconds."""

    def __init__(self, model: Model, adapter: Adapter, calls: DirectCalls, *, now: Callable[[], float]) -> None:
        self.model = model
        self._adapter = adapter
        self._calls = calls
        self._now = now

    @property
    def path(self) -> str:
        """The path of a direct call, below ``base_url``."""
        return self._adapter.path(self.model)

    @property
    def refused_fields(self) -> frozenset[str]:
        """Return the fields that the deployment is known to refuse."""
        return self._calls.refused_fields(self.model)

    def left_out(self, body: Mapping[str, Any], added: frozenset[str], refused: frozenset[str]) -> list[str]:
        """Return what of ``body`` is to be left out if the deployment refuses the fields ``refused``, sorted.

        It includes a refused name of the cap, whichever name ``body`` has for it.
        """
        return sorted(may_be_left_out(refused, body, added) | (refused & OTHER_CAP.keys()))

    def prepare(self, body: Mapping[str, Any], added: frozenset[str], left_out: Collection[str] = ()) -> Prepared:
        """Return the request of a direct call without the fields ``left_out``, and its notes.

        A name of the cap among them is replaced by the other one. Raises UnsupportedParameter.
        """
        if not left_out:
            return self._adapter.prepare(body, self.model)
        sent = _without(body, left_out)
        cap_field = next((OTHER_CAP[field] for field in left_out if field in OTHER_CAP), self.model.cap_field)
        prepared = self._adapter.prepare(sent, replace(self.model, cap_field=cap_field))
        return prepared._replace(notes=(*refused_notes(body, sent, added), *prepared.notes))

    def is_refusal(
        self, failure: Failure, body: Mapping[str, Any], added: frozenset[str], left_out: Collection[str]
    ) -> bool:
        """Whether ``failure`` refuses a field that ``body`` can omit. The refusal is then learned."""
        # Its cap may have another name by now than it had in the line.
        sent = {failure.param: None} if failure.param is not None and failure.param in OTHER_CAP else {}
        return self._calls.without_refusal(self.model, failure, _without(body, left_out), added, sent) is not None

    def read(self, status: int, answer: Any, *, request_id: str | None = None) -> Outcome:
        """Return the outcome in ``answer``, the JSON of a body that came with ``status``. Its latency is 0.

        Without a usage, its usage is 0 and ``usage_is_guess`` is set, so it costs what was reserved. A failure has the
        line's own ``status``, by which its provider counts it, whatever status an error within a 200 names.
        """
        outcome = read_outcome(self._adapter, self.model, status, answer, headers={}, now=self._now(), asked=None)
        if isinstance(outcome, Failure):
            usage = None if outcome.usage is None else _at_batch_price(outcome.usage)
            outcome = replace(outcome, status=status, usage=usage, request_id=request_id)
            self._calls.log_failure(self.model, outcome)
            return outcome
        is_guess = not outcome.has_whole_usage
        usage = Usage(reported_usd=outcome.usage.reported_usd) if is_guess else outcome.usage
        outcome = outcome._replace(usage=_at_batch_price(usage), usage_is_guess=is_guess, request_id=request_id)
        return self._calls.as_billed(self.model, outcome)


def _without(body: Mapping[str, Any], left_out: Collection[str]) -> Mapping[str, Any]:
    return {key: value for key, value in body.items() if key not in left_out or key in OTHER_CAP}


def _at_batch_price(usage: Usage) -> Usage:
    return usage._replace(service_tier=BATCH_SERVICE_TIER)


def decode_line(raw: bytes) -> Mapping[str, Any]:
    """Return a line of results, or an empty object if it is not a JSON object."""
    try:
        line = decode(raw)
    except InvalidResponse:
        return {}
    return line if isinstance(line, dict) else {}


def unreadable() -> Failure:
    """Return the outcome of an unreadable line of results."""
    return broken_body(InvalidResponse("a line of results that cannot be read"))
