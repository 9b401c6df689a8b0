"""The pilot of a batch: a random sample that every tier answers, so that a policy can be certified on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple, Protocol

from routing.fleet import Fleet
from routing.reason import Reason

GOLD_KEY: Final = "expected_answer"
"""The key in a line's metadata for the answer that it should have."""

DEFAULT_CONFIDENCE: Final = 0.95
"""The confidence of a certificate if the user names none."""


MOST_CONFIDENCE: Final = 0.99
"""The bound is a quantile of 4,000 random weightings, and the judge takes a tenth of the risk. Neither supports a
higher confidence."""


class GraderChoice(StrEnum):
    """The grader of a pilot's answers, if the user chooses one."""

    AGREEMENT = "agreement"
    """Graded by the texts alone, with the grader that fits their shape."""
    JUDGE = "judge"
    """Graded by the model that the fleet names."""
    COMMAND = "command"
    """Graded by the command that the fleet names."""
    EXACT = "exact"
    CHOICE = "choice"
    NUMBER = "number"
    FINAL = "final"
    JSON = "json"
    TOKEN_F1 = "token_f1"  # noqa: S105 (a metric, no secret)


@dataclass(frozen=True, slots=True)
class PilotSpec:
    """The user's request for a pilot. ``floor`` is the quality, relative to the top tier's, that answers must keep."""

    floor: float
    confidence: float = DEFAULT_CONFIDENCE
    """The confidence of the certificate: 1 minus the probability of certifying a policy that breaks the floor."""
    max_queries: int | None = None
    stops: bool = False
    """The rest is not answered after the pilot is decided: `pointsman try`."""
    audit_share: float = 0.01
    """The share of answers accepted below the top tier that is checked after delivery."""
    grader: GraderChoice | None = None
    """None: the queries' expectations and the shape of the answers decide, and free text goes to the fleet's judge."""

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
    """Return what ``fleet`` lacks for ``grader``, with the fix. None if nothing is missing."""
    match grader:
        case GraderChoice.JUDGE if not fleet.judges:
            return 'the fleet names no judge. fix: set judge = "MODEL or TIER" in [quality] of the fleet file'
        case GraderChoice.COMMAND if not fleet.quality.command:
            return 'the fleet names no command. fix: set command = ["PROGRAM", …] in [quality] of the fleet file'
        case _:
            return None


def policy_name(certificate: Mapping[str, Any]) -> str:
    """Return the policy of a certificate in words, with the tier if all queries start at one below the top."""
    name, tier = str(certificate["policy"]).replace("_", " "), policy_tier(certificate)
    if tier is None or tier == certificate["tiers"][-1]:
        return name
    return f"{name}: {tier}" if name == "fixed tier" else f"{name} from {tier}"


def policy_tier(certificate: Mapping[str, Any]) -> str | None:
    """Return the tier at which a certificate's policy has all queries start. None if they start at several."""
    shares = list(certificate.get("start_shares", ()))
    return certificate["tiers"][shares.index(1.0)] if 1.0 in shares else None


class TierAnswer(NamedTuple):
    """A tier's answer to one query."""

    tier: str
    text: str
    confidences: Mapping[str, float]
    """Confidences by source, each from 0 to 1."""


class PilotStart(NamedTuple):
    """The tier at which a pilot or its certified policy has a query start, instead of the routers' choice."""

    tier: str
    router: str
    reasons: tuple[Reason, ...]


class PolicyStart(NamedTuple):
    """The tier that a policy has a query start at."""

    tier: str
    why: str = ""
    """Why it does not start at the lowest tier. Empty if it does, or if no query of the batch does."""


class PolicyStep(NamedTuple):
    """What a policy decides after an answer."""

    tier: str | None
    """The tier that is asked next; None accepts the answer."""
    why: str
    """The figures behind the decision."""


class QualityPolicy(Protocol):
    """The decisions of a certified policy. It is built outside ``routing/`` and passed in."""

    def starts(self, ids: Sequence[int], texts: Sequence[str]) -> list[PolicyStart]:
        """Return the tier that each query is asked at first."""

    def next_tier(self, query_id: int, text: str, answers: Sequence[TierAnswer]) -> PolicyStep:
        """Return the step after ``answers``, which are in the order of arrival. It may accept the last one."""


class TopTierPolicy:
    """A policy that sends everything to the top tier."""

    def __init__(self, top: str) -> None:
        self._top = top

    def starts(self, ids: Sequence[int], texts: Sequence[str]) -> list[PolicyStart]:
        """Return the top tier for each query."""
        return [PolicyStart(self._top)] * len(ids)

    def next_tier(self, query_id: int, text: str, answers: Sequence[TierAnswer]) -> PolicyStep:
        """Return the top tier until it has answered."""
        is_answered = bool(answers) and answers[-1].tier == self._top
        return PolicyStep(None if is_answered else self._top, "only answers of the top tier are accepted")
