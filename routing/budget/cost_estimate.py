"""The expected cost of a query at a tier."""

from typing import Final

from routing.answer_checks.confidence_policy import ConfidenceSource
from routing.answer_checks.threshold_action import extra_calls
from routing.answer_lengths import AnswerLengths
from routing.fleet import Fleet, Model
from routing.outcome import Usage
from routing.policy.routing_case import RoutingCase


def serving(case: RoutingCase, tier: str) -> Model | None:
    """Return the deployment that would serve the query at ``tier``, or None.

    This is the deployment that the query pins, else the one for its category, else the first with room for it.
    """
    models = case.room.get(tier)
    if not models:
        return None
    if case.pin is not None:
        pinned = next((model for model in models if case.query.pin in (model.name, model.model)), None)
        if pinned is not None:
            return pinned
    return next((model for model in models if case.category in model.categories), models[0])


def usual_usage(case: RoutingCase, model: Model, lengths: AnswerLengths) -> Usage:
    """Return the estimated tokens of one call of ``model``."""
    return Usage(case.query.measured.expected(model), lengths.expected(case, model).completion_tokens)


def expected_usd(case: RoutingCase, model: Model, lengths: AnswerLengths) -> float:
    """Return the expected cost, in USD, of one call of ``model`` for the query."""
    return model.price.cost_usd(usual_usage(case, model, lengths))


VERIFICATION_TOKENS: Final = 60
"""Approximate tokens of the instructions in a verification prompt."""

VERDICT_TOKENS: Final = 4


def confidence_usd(case: RoutingCase, model: Model, fleet: Fleet, lengths: AnswerLengths) -> float:
    """Return the expected cost, in USD, of the confidence of one answer of ``model``, beyond its call, if it may still
    climb."""
    calls = extra_calls(model, fleet)
    if calls == 0:
        return 0.0
    if fleet.confidence_of(model).source is ConfidenceSource.SELF_CONSISTENCY:
        return calls * expected_usd(case, model, lengths)
    usage = usual_usage(case, model, lengths)
    shown = Usage(usage.total_tokens + VERIFICATION_TOKENS, VERDICT_TOKENS)
    return calls * fleet.verifier_of(model).price.cost_usd(shown)
