"""The grades of a sample, and facts about the grader."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from evaluation.graders.text_graders import GraderKind

NO_VERDICT: Final = (
    "the judge gave no usable verdict. fix: set judge in [quality] to a model that follows a JSON schema, or grade "
    "by a command"
)


@dataclass(frozen=True, slots=True)
class GradedSample:
    """The grades of a sample's answers, in its order."""

    kind: GraderKind
    grades: list[list[float]] = field(repr=False)
    """The grade of each tier's answer, in ladder order. The reference has 1. A better answer has up to 2."""
    abstained: int = 0
    """The number of answers without a grade."""
    unreached: bool = False
    """Whether some of them have none because the grader could not be asked, whatever the answers are."""
    inconsistencies: Sequence[float] | None = field(default=None, repr=False)
    """How much the judge's two orders disagree on each judged pair, 0 to 1. None without a judge."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """The certificate's notes on the grader."""

    @property
    def failure(self) -> str | None:
        """Return why nothing was graded, or None if something was."""
        command, judge = self.notes.get("command", {}), self.notes.get("judge", {})
        if command.get("error"):
            return f"the grading command failed: {command['error']}"
        return NO_VERDICT if judge.get("abstained") and not judge["pairs"] else None
