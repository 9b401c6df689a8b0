"""The grades of a sample, and facts about the grader."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from evaluation.graders.text_graders import GraderKind

NO_VERDICT: Final = (
    "the judge gave no usable verdict. fix: set judge in [quality] to a model that follows a JSON schema, or grade "
    "by a command"
)

OVER_BUDGET: Final = (
    "the budget does not cover the judge's calls about {unpaid:,} of the sampled answers, and each call reserves its "
    "maximum cost. fix: a larger budget, a cheaper judge, a smaller pilot (--pilot N), or no quality floor"
)


@dataclass(frozen=True, slots=True)
class GradedSample:
    """The grades of a sample's answers, in its order."""

    kind: GraderKind
    grades: list[list[float]] = field(repr=False)
    """The grade of each tier's answer, in ladder order. The reference has 1. A better answer has up to 2."""
    abstained: int = 0
    """The number of answers without a grade, other than those that the budget does not cover."""
    unreached: bool = False
    """Whether some of them have none because the grader could not be asked, whatever the answers are."""
    inconsistencies: Sequence[float] | None = field(default=None, repr=False)
    """How much the judge's two orders disagree on each judged pair, 0 to 1. None without a judge."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """The certificate's notes on the grader."""

    @property
    def failure(self) -> str | None:
        """Return why the sample is not graded, or None if it is."""
        command, judge = self.notes.get("command", {}), self.notes.get("judge", {})
        if command.get("error"):
            return f"the grading command failed: {command['error']}"
        if judge.get("unpaid"):
            return OVER_BUDGET.format(unpaid=judge["unpaid"])
        return NO_VERDICT if judge.get("abstained") and not judge["pairs"] else None
