"""Where a deployment's confidence is from, and the map from a raw confidence to P(right).

A raw confidence is a score: 0.7 by mean log-probability means one thing for one model and another for the
next. A `CalibrationMap`, fitted on graded answers, says how often answers of such a score were right.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class ConfidenceSource(StrEnum):
    """What a tier's threshold acts on."""

    AUTO = "auto"
    """``scorer`` where the fleet names one, else ``logprob``."""
    LOGPROB = "logprob"
    """exp of the mean log-probability per token: the geometric mean of the tokens' probabilities."""
    LOGPROB_MIN = "logprob_min"
    """The probability of the least likely token."""
    LOGPROB_DECISIVE = "logprob_decisive"
    """The geometric mean over the tokens that carry the answer: its last number, else the least likely third."""
    SELF_CONSISTENCY = "self_consistency"
    """How far further answers of the same model agree with this one (Wang et al. 2022)."""
    SELF_VERIFICATION = "self_verification"
    """P(true): a model is asked whether the answer is right (Kadavath et al. 2022)."""
    STATED = "stated"
    """A model is asked for the probability that the answer is right, as a number."""
    SCORER = "scorer"
    """The trained answer scorer of ``[router]``; it is calibrated by its training."""
    NONE = "none"
    """No confidence: only the validators can reject an answer."""


LOGPROB_SOURCES = frozenset({ConfidenceSource.LOGPROB, ConfidenceSource.LOGPROB_MIN, ConfidenceSource.LOGPROB_DECISIVE})
"""Sources that need the model's log-probabilities."""

PAID_SOURCES = frozenset(
    {ConfidenceSource.SELF_CONSISTENCY, ConfidenceSource.SELF_VERIFICATION, ConfidenceSource.STATED}
)
"""Sources that cost further calls."""


@dataclass(frozen=True, slots=True)
class ConfidencePolicy:
    """How a tier, or one deployment of it, comes by the confidence of its answers."""

    source: ConfidenceSource = ConfidenceSource.AUTO
    samples: int = 2
    """Further calls per answer: samples to compare with, or votes of a verifier without log-probabilities."""
    verifier: str | None = None
    """The deployment that is asked whether an answer is right; None: the one that answered."""


@dataclass(frozen=True, slots=True)
class CalibrationMap:
    """P(right) over a raw confidence, for the answers of one deployment to one workload."""

    model: str
    """The deployment's name in the fleet."""
    source: ConfidenceSource
    points: tuple[tuple[float, float], ...]
    """(raw confidence, P(right)), both 0 to 1, the raw rising and P never falling. At least one."""
    workload: str = ""
    """As the query's metadata name it; "": queries without a workload."""

    def __call__(self, raw: float) -> float:
        """P(right): on the line between the two nearest points, at the ends that of the last one."""
        below = self.points[0]
        if raw <= below[0]:
            return below[1]
        for above in self.points[1:]:
            if raw <= above[0]:
                share = (raw - below[0]) / (above[0] - below[0])
                return below[1] + share * (above[1] - below[1])
            below = above
        return below[1]


def calibration_for(
    maps: Iterable[CalibrationMap], *, model: str, source: ConfidenceSource, workload: str
) -> CalibrationMap | None:
    """The first of ``maps`` that was fitted for just these; a map of another workload says nothing here."""
    return next((one for one in maps if (one.model, one.source, one.workload) == (model, source, workload)), None)
