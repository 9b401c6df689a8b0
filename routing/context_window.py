"""Whether a query fits a model's context by its careful size, and how long an answer may be asked for."""

from dataclasses import replace
from typing import Final

from routing.fleet import Fleet, Model
from routing.outcome import NO_NOTICE, Failure, FailureKind, Outcome
from routing.query import Query

USUAL_COMPLETION_TOKENS: Final = 512
"""Room that is kept for the answer where the query caps it at nothing."""


def needed_tokens(query: Query) -> int:
    """Estimated tokens of the text, on the careful side: never below `Query.prompt_tokens`."""
    return query.measured.careful_text


def answer_room(query: Query, model: Model) -> int:
    """Tokens that ``model`` must have left for the answer."""
    return min(query.max_tokens or USUAL_COMPLETION_TOKENS, model.max_output_tokens)


def fits(query: Query, model: Model) -> bool:
    """Whether prompt and answer fit ``model``'s context."""
    return query.measured.careful(model) + answer_room(query, model) <= model.context_tokens


def fitting(query: Query, *, fleet: Fleet, tier: str) -> tuple[Model, ...]:
    """The deployments of ``tier`` that ``query`` fits, in failover order; empty where none does."""
    return tuple(model for model in fleet.deployments(tier) if fits(query, model))


def completion_cap(query: Query, model: Model) -> int:
    """The longest completion to ask ``model`` for: the query's own cap, within the model's.

    Where the query has none, no more than what its prompt leaves of the context: a provider adds both up and refuses
    what is more, though the answer would have been short.
    """
    if query.max_tokens:
        return min(query.max_tokens, model.max_output_tokens)
    size = query.measured
    if size.text_bound + model.max_output_tokens <= model.context_tokens and not size.has_media:
        return model.max_output_tokens
    room = model.context_tokens - size.careful(model)
    return min(model.max_output_tokens, room) if room > 0 else model.max_output_tokens


def beyond_its_limit(outcome: Outcome, query: Query, model: Model) -> Outcome:
    """``outcome``, as TOO_LARGE where it met a limit of fewer tokens a minute than the prompt of ``query`` alone has.

    No wait helps then, and it says nothing of other calls, which would rest with the deployment each time it is tried.
    """
    quota = outcome.quota
    if not isinstance(outcome, Failure) or outcome.kind is not FailureKind.RATE_LIMITED or quota is None:
        return outcome
    if quota.tokens is None or query.measured.expected(model) <= quota.tokens.limit:
        return outcome
    return replace(outcome, kind=FailureKind.TOO_LARGE, retry_after_s=None, notice=NO_NOTICE)
