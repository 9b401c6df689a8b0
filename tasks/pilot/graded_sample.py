"""The grades of a sample, and what is known of who gave them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from evaluation.graders.text_graders import GraderKind

NO_VERDICT: Final = (
    "the judge gave no usable verdict; fix: name a model in [quality] judge that keeps to a JSON schema, or grade by a "
    "command"
)


@dataclass(frozen=True, slots=True)
class GradedSample:
    """The grades of a sample's answers, in its order."""

    kind: GraderKind
    grades: list[list[float]] = field(repr=False)
    """Of each tier's answer, in ladder order. The reference has 1: an answer that is better than it, up to 2."""
    abstained: int = 0
    """Answers that the grader gave no grade."""
    unreached: bool = False
    """Some of them have none because the grader could not be asked, whatever the answers are."""
    inconsistencies: Sequence[float] | None = field(default=None, repr=False)
    """How far the judge's two orders disagree on each pair that it has judged, 0 to 1; None without a judge."""
    notes: Mapping[str, Any] = field(default_factory=dict)
    """What the certificate says of the grader."""

    @property
    def failure(self) -> str | None:
        """Why nothing was graded; None where something was."""
        command, judge = self.notes.get("command", {}), self.notes.get("judge", {})
        if command.get("error"):
            return f"the grading command failed: {command['error']}"
        return NO_VERDICT if judge.get("abstained") and not judge["pairs"] else None
