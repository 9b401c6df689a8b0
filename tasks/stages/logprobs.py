"""Adds log-probabilities to requests for the judge, and removes those that the user did not request from responses."""

from collections.abc import Mapping
from typing import Any

from routing.answer_checks.confidence_policy import LOGPROB_SOURCES, ConfidenceSource
from routing.fleet import Model
from routing.large_response import with_members
from routing.query import Query


def with_logprobs(
    body: Mapping[str, Any], query: Query, model: Model, *, source: ConfidenceSource
) -> Mapping[str, Any]:
    """Return the body to send, with log-probabilities if the judge's confidence needs them."""
    if query.wants_logprobs or source not in LOGPROB_SOURCES or not model.logprobs:
        return body
    return {**body, "logprobs": True}


def without_unrequested_logprobs(response: Mapping[str, Any], query: Query) -> Mapping[str, Any]:
    """Return the ``chat.completion`` object without log-probabilities that only the judge requested."""
    if query.wants_logprobs:
        return response
    choices = [
        {name: value for name, value in choice.items() if name != "logprobs"}
        for choice in response.get("choices", ())
        if isinstance(choice, dict)
    ]
    return with_members(response, {"choices": choices})
