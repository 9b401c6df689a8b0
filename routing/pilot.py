"""The pilot of a batch: a random sample that every tier answers, so that a policy can be certified on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from routing.fleet import Fleet
from routing.reason import Reason

GOLD_KEY: Final = "expected_answer"
"""The key in a line's metadata for the answer that it should have."""

DEFAULT_CONFIDENCE: Final = 0.95
"""Of a certificate, where the user names none."""


MOST_CONFIDENCE: Final = 0.99
"""The bound is a quantile of 4,000 random weightings, and the judge has a tenth of the risk: more is beyond both."""


class GraderChoice(StrEnum):
    """Who grades the answers of a pilot, where the user says so."""

    AGREEMENT = "agreement"
    """By their texts alone: the kind that fits their shape."""
    JUDGE = "judge"
    """The model that the fleet names."""
    COMMAND = "command"
    """The command that the fleet names."""
    EXACT = "exact"
    CHOICE = "choice"
    NUMBER = "number"
    FINAL = "final"
    JSON = "json"
    TOKEN_F1 = "token_f1"  # noqa: S105 (a metric, no secret)


@dataclass(frozen=True, slots=True)
class PilotSpec:
    """What the user asks for. ``floor`` is the quality, relative to the top tier's, that answers must keep."""

    floor: float
    confidence: float = DEFAULT_CONFIDENCE
    """Of the certificate: how seldom a policy that breaks the floor may be certified."""
    max_queries: int | None = None
    stops: bool = False
    """The rest is not answered once the pilot is decided: `pointsman try`."""
    audit_share: float = 0.01
    """Of the answers that are accepted below the top tier, how many are checked after delivery."""
    grader: GraderChoice | None = None
    """None: by what the queries expect, by the shape of the answers, and for free text the fleet's judge."""

    def __post_init__(self) -> None:
        if self.grader is not None and self.grader not in list(GraderChoice):
            raise ValueError(f"grader: must be one of {', '.join(GraderChoice)}")
        if not 0.5 <= self.floor < 1.0:
            raise ValueError("quality: must be at least 0.5 and below 1")
        if not 0.5 <= self.confidence <= MOST_CONFIDENCE:
            raise ValueError(f"confidence: must be from 0.5 to {MOST_CONFIDENCE:g}")
        if self.max_queries is not None and self.max_queries < 1:
            raise ValueError("pilot: must be at least 1 query")


def grader_problem(grader: GraderChoice | None, fleet: Fleet) -> str | None:
    """What ``fleet`` lacks for ``grader``, with the fix; None where it lacks nothing."""
    match grader:
        case GraderChoice.JUDGE if not fleet.judges:
            return 'the fleet names no judge. fix: set judge = "MODEL or TIER" in [quality] of the fleet file'
        case GraderChoice.COMMAND if not fleet.quality.command:
            return 'the fleet names no command. fix: set command = ["PROGRAM", …] in [quality] of the fleet file'
        case _:
            return None


class TierAnswer(NamedTuple):
    """A tier's answer to one query."""

    tier: str
    text: str
    confidences: Mapping[str, float]
    """By source, each from 0 to 1."""


class PilotStart(NamedTuple):
    """Where a pilot or its certified policy has a query start, instead of where the routers decide."""

    tier: str
    router: str
    reason: Reason


class PolicyStep(NamedTuple):
    """What a policy makes of an answer."""

    tier: str | None
    """The tier that is asked next; None accepts the answer."""
    why: str
    """The figures that decided."""


class QualityPolicy(Protocol):
    """What a certified policy decides. It is built outside ``routing/`` and handed in."""

    def first_tiers(self, ids: Sequence[int], texts: Sequence[str]) -> list[str]:
        """The tier that each query is asked first."""

    def next_tier(self, query_id: int, text: str, answers: Sequence[TierAnswer]) -> PolicyStep:
        """The step after ``answers``, in the order in which they came: it may accept the last."""


class TopTierPolicy:
    """Everything goes to the top tier."""

    def __init__(self, top: str) -> None:
        self._top = top

    def first_tiers(self, ids: Sequence[int], texts: Sequence[str]) -> list[str]:
        """The top tier, for each."""
        return [self._top] * len(ids)

    def next_tier(self, query_id: int, text: str, answers: Sequence[TierAnswer]) -> PolicyStep:
        """The top tier, until it has answered."""
        is_answered = bool(answers) and answers[-1].tier == self._top
        return PolicyStep(None if is_answered else self._top, "nothing below the top tier is accepted")
