"""The confidence of one answer: the raw score, and the calibrated probability."""

from collections.abc import Iterable
from typing import NamedTuple

from routing.answer_checks.confidence_policy import CalibrationMap, ConfidenceSource, calibration_for


class Confidence(NamedTuple):
    """The confidence of one answer. The threshold is compared with ``value``: P(right) if calibrated, else the raw
    score."""

    value: float | None
    """From 0 to 1. None if ``source`` gave nothing for this answer."""
    source: str
    """The value of a `ConfidenceSource`."""
    raw: float | None = None
    """The score before calibration. None if there was no score."""


def calibrated(
    raw: float | None, source: ConfidenceSource, *, model: str, workload: str, maps: Iterable[CalibrationMap]
) -> Confidence:
    """Return the calibrated confidence of an answer of ``model`` to a query of ``workload``, given its ``raw`` score (0
    to 1)."""
    if raw is None:
        return Confidence(None, source)
    found = calibration_for(maps, model=model, source=source, workload=workload)
    return Confidence(raw, source) if found is None else Confidence(found(raw), source, raw=raw)
