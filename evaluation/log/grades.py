"""How right labelled answers are, and how far the confidence that was told of them can be believed."""

from dataclasses import dataclass
from typing import Any

from evaluation.log.count import DIGITS
from evaluation.share import wilson


@dataclass(slots=True)
class Graded:
    """Labels that have something in common."""

    labels: int = 0
    grade: float = 0.0

    def add(self, labels: int, grade: float) -> None:
        """Counts in so many labels; ``grade`` is their sum."""
        self.labels += labels
        self.grade += grade

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the 95 % interval."""
        right = self.grade / self.labels
        return {
            "labels": self.labels,
            "right": round(right, DIGITS),
            "interval": [round(bound, DIGITS) for bound in wilson(right, self.labels)],
        }


@dataclass(slots=True)
class Verdicts:
    """The judge's verdicts of one source and tenth of confidence, and what can be held against them."""

    judged: int = 0
    confidence: float = 0.0
    rejected: int = 0
    followed: int = 0
    next_stood: int = 0
    compared: int = 0
    agreed: int = 0
    """The answer said the same as the one that was taken in the end."""
    labels: int = 0
    grade: float = 0.0
    """Sum of the labels, each 0 wrong to 1 right."""
    labelled_confidence: float = 0.0
