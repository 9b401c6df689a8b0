"""The confidence of one answer: its raw value, and what that is worth by calibration."""

from collections.abc import Iterable
from typing import NamedTuple

from routing.answer_checks.confidence_policy import CalibrationMap, ConfidenceSource, calibration_for


class Confidence(NamedTuple):
    """``value`` is what the threshold is compared with: P(right) where calibrated, else the raw score itself."""

    value: float | None
    """0 to 1; None where ``source`` gave nothing for this answer."""
    source: str
    """A `ConfidenceSource`'s value."""
    raw: float | None = None
    """Before calibration; None where there was none."""


def calibrated(
    raw: float | None, source: ConfidenceSource, *, model: str, workload: str, maps: Iterable[CalibrationMap]
) -> Confidence:
    """The confidence of an answer of ``model`` to a query of ``workload`` whose raw confidence is ``raw``, 0 to 1."""
    if raw is None:
        return Confidence(None, source)
    found = calibration_for(maps, model=model, source=source, workload=workload)
    return Confidence(raw, source) if found is None else Confidence(found(raw), source, raw=raw)
