"""What is sent is the user's body, and what comes back is what the user asked for."""

from collections.abc import Mapping
from typing import Any

from routing.answer_checks.confidence_policy import LOGPROB_SOURCES, ConfidenceSource
from routing.fleet import Model
from routing.large_response import with_members
from routing.query import Query


def with_logprobs(
    body: Mapping[str, Any], query: Query, model: Model, *, source: ConfidenceSource
) -> Mapping[str, Any]:
    """The body to send: with log-probabilities where the judge's confidence has to come from them."""
    if query.wants_logprobs or source not in LOGPROB_SOURCES or not model.logprobs:
        return body
    return {**body, "logprobs": True}


def without_unrequested_logprobs(response: Mapping[str, Any], query: Query) -> Mapping[str, Any]:
    """The ``chat.completion`` object without the log-probabilities that only the judge asked for."""
    if query.wants_logprobs:
        return response
    choices = [
        {name: value for name, value in choice.items() if name != "logprobs"}
        for choice in response.get("choices", ())
        if isinstance(choice, dict)
    ]
    return with_members(response, {"choices": choices})
