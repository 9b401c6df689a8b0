"""Whether a query fits into a model's context, and the maximum length of its answer."""

from dataclasses import replace
from typing import Final

from routing.fleet import Fleet, Model
from routing.outcome import NO_NOTICE, Failure, FailureKind, Outcome
from routing.query import Query

USUAL_COMPLETION_TOKENS: Final = 512
"""Tokens reserved for the answer if the query sets no cap."""


def needed_tokens(query: Query) -> int:
    """Return the estimated prompt tokens, on the high side: never below `Query.prompt_tokens`."""
    return query.measured.careful_text


def answer_room(query: Query, model: Model) -> int:
    """Return the tokens that ``model`` needs for the answer."""
    return min(query.max_tokens or USUAL_COMPLETION_TOKENS, model.max_output_tokens)


def fits(query: Query, model: Model) -> bool:
    """Whether the prompt and the answer fit into ``model``'s context."""
    return query.measured.careful(model) + answer_room(query, model) <= model.context_tokens


def fitting(query: Query, *, fleet: Fleet, tier: str) -> tuple[Model, ...]:
    """Return the deployments of ``tier`` with room for ``query``, in failover order. Empty if there are none."""
    return tuple(model for model in fleet.deployments(tier) if fits(query, model))


def completion_cap(query: Query, model: Model) -> int:
    """Return the maximum completion tokens to request from ``model``: the query's own cap, at most the model's.

    Without a cap in the query, the result is at most what the prompt leaves of the context: a provider adds both and
    refuses a larger sum, even if the answer would have been short.
    """
    if query.max_tokens:
        return min(query.max_tokens, model.max_output_tokens)
    size = query.measured
    if size.text_bound + model.max_output_tokens <= model.context_tokens and not size.has_media:
        return model.max_output_tokens
    room = model.context_tokens - size.careful(model)
    return min(model.max_output_tokens, room) if room > 0 else model.max_output_tokens


def beyond_its_limit(outcome: Outcome, query: Query, model: Model) -> Outcome:
    """Return ``outcome``, changed to TOO_LARGE if a per-minute token limit is smaller than the prompt of ``query``.

    Waiting does not help then. The failure also says nothing about other calls, which would otherwise pause with the
    deployment each time the query is tried.
    """
    quota = outcome.quota
    if not isinstance(outcome, Failure) or outcome.kind is not FailureKind.RATE_LIMITED or quota is None:
        return outcome
    if quota.tokens is None or query.measured.expected(model) <= quota.tokens.limit:
        return outcome
    return replace(outcome, kind=FailureKind.TOO_LARGE, retry_after_s=None, notice=NO_NOTICE)
