"""Why something was decided: a code that programs look at, and a text for people."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final


class ReasonCode(StrEnum):
    """Codes that programs look at. The kinds of failures (`FailureKind`) are codes as well."""

    CONFIDENT = "confident"
    NO_CONFIDENCE = "no_confidence"
    LOW_CONFIDENCE = "low_confidence"
    TOP_TIER = "top_tier"
    EMPTY = "empty"
    REFUSAL = "refusal"
    TRUNCATED = "truncated"
    SHAPE = "shape"
    CHOICES = "choices"
    CORRECTED = "corrected"
    """The answer's shape was corrected for free. Rejects nothing."""
    REPAIRED = "repaired"
    """The model was called once more because of its answer's shape. Rejects nothing."""
    RECORDED = "recorded"
    """Its call was in the ledger when its worker was lost, and is not repeated. Rejects nothing."""
    UNGROUNDED = "ungrounded"
    LANGUAGE = "language"
    UNCHECKED = "unchecked"
    """A validator skipped a check. Rejects nothing."""
    PILOT = "pilot"
    """The query belongs to its batch's sample."""
    QUALITY_POLICY = "quality_policy"
    """The certified policy of the batch decided."""
    UNJUDGED = "unjudged"
    """The judge failed. The answer counts only at the top tier."""
    UNSCORED = "unscored"
    """The answer scorer failed. Rejects nothing."""
    NOTE = "note"
    """A note on a change of the request, or on an unusual bill. Rejects nothing."""
    NO_DEPLOYMENT = "no_deployment"
    """No deployment of the tier is left to try."""
    WORKLOAD_RULE = "workload_rule"
    """The fleet has a rule for the query's workload."""
    CASCADE = "cascade"
    """Nothing is known about the query, so the lowest tier with a calibrated confidence answers first."""
    NO_EVIDENCE = "no_evidence"
    """Nothing is known about the query, and no cheaper tier has a calibrated confidence, so the top tier answers."""
    EXPECTED_LOSS = "expected_loss"
    """The route stage weighed the tiers."""
    CHEAPEST_LANE = "cheapest_lane"
    """The lane is the cheapest that meets the deadline."""
    NO_TIME = "no_time"
    """Only the standard lane can still meet the deadline."""
    LOWERED = "lowered"
    """The budget of its batch or tenant moves the query to a cheaper tier."""
    OVER_BUDGET = "over_budget"
    """The budget of its batch or tenant does not pay for the tier."""
    UNLIKELY = "unlikely"
    """The provider batch will probably not end soon enough to be worth the wait."""


REJECTS_NOTHING: Final = frozenset(
    {
        ReasonCode.CONFIDENT,
        ReasonCode.NO_CONFIDENCE,
        ReasonCode.CORRECTED,
        ReasonCode.REPAIRED,
        ReasonCode.RECORDED,
        ReasonCode.UNCHECKED,
        ReasonCode.UNSCORED,
        ReasonCode.NOTE,
    }
)
"""Codes that accompany a verdict."""


def is_sampled(codes: Sequence[str]) -> bool:
    """Whether a query goes on only because it is in the pilot, which doubts nothing, by the codes of a decision."""
    return ReasonCode.PILOT in codes and REJECTS_NOTHING.issuperset({*codes} - {ReasonCode.PILOT, "fallback"})


class Reason(str):
    """A text with the code of its class. For a reason that is a plain text, the kind of its decision is the code."""

    __slots__ = ("code",)
    code: str

    def __new__(cls, code: str, text: str) -> "Reason":
        reason = super().__new__(cls, text)
        reason.code = str(code)
        return reason

    def __reduce__(self) -> tuple[type["Reason"], tuple[str, str]]:
        """Keep the code in copies and pickles."""
        return Reason, (self.code, str(self))


def code_of(reason: str, default: str = "") -> str:
    """Return the code of ``reason``, or ``default`` for a plain text."""
    return reason.code if isinstance(reason, Reason) else default
