"""The source of a deployment's confidence, and the map from a raw confidence to P(right).

A raw confidence is a score: a mean log-probability of 0.7 means different things for different models. A
`CalibrationMap`, fitted on graded answers, states how often answers with a given score were right.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class ConfidenceSource(StrEnum):
    """The source of the confidence that a tier's threshold is compared with."""

    AUTO = "auto"
    """``scorer`` if the fleet names one, else ``logprob``."""
    LOGPROB = "logprob"
    """The exponential of the mean log-probability per token, which is the geometric mean of the tokens'
    probabilities."""
    LOGPROB_MIN = "logprob_min"
    """The probability of the least likely token."""
    LOGPROB_DECISIVE = "logprob_decisive"
    """The geometric mean over the tokens that carry the answer: its last number if it has one, else the least likely
    third."""
    SELF_CONSISTENCY = "self_consistency"
    """How far other answers of the same model agree with this one (Wang et al. 2022)."""
    SELF_VERIFICATION = "self_verification"
    """P(true): a model states whether the answer is right (Kadavath et al. 2022)."""
    STATED = "stated"
    """A model states the probability, as a number, that the answer is right."""
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
    """How a tier, or one of its deployments, obtains the confidence of its answers."""

    source: ConfidenceSource = ConfidenceSource.AUTO
    samples: int = 2
    """Further calls per answer: samples to compare with, or verdicts of a verifier without log-probabilities."""
    verifier: str | None = None
    """The deployment that checks whether an answer is right. None: the deployment that answered."""


@dataclass(frozen=True, slots=True)
class CalibrationMap:
    """A map from raw confidence to P(right) for the answers of one deployment to one workload."""

    model: str
    """The deployment's name in the fleet."""
    source: ConfidenceSource
    points: tuple[tuple[float, float], ...]
    """Pairs of raw confidence and P(right), both from 0 to 1. Raw values rise, and P never falls. There is at least one
    pair."""
    workload: str = ""
    """The workload's name in the queries' metadata. "" stands for queries without a workload."""

    def __call__(self, raw: float) -> float:
        """Return P(right) by linear interpolation between the two nearest points. Beyond the ends, the last point's
        value holds."""
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
    """Return the first of ``maps`` that was fitted for exactly this deployment, source and workload, or None."""
    return next((one for one in maps if (one.model, one.source, one.workload) == (model, source, workload)), None)
