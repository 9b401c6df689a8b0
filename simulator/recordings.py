"""Recordings of real answers, returned verbatim for the same question.

One JSON line per question: ``{"id", "query", "outcomes": {"small": {"model", "correct", "answer"}, …}}``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from simulator.model_strength import Strength


class ReplayError(ValueError):
    """The file of recordings cannot be read; the message names the line."""


class NotRecorded(LookupError):
    """The question is known, but no model of this strength was recorded."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One model's outcome. ``answer`` is None if only its correctness was recorded."""

    correct: bool
    answer: str | None = field(repr=False)
    grade: float | None = None
    """0 to 1, where the recording has more than right and wrong: right is one half or more."""

    @property
    def quality(self) -> float:
        """Its grade, else 1 where it is right and 0 where it is wrong."""
        return float(self.correct) if self.grade is None else self.grade


def _recorded(outcome: Mapping[str, Any]) -> Recorded:
    grade = float(outcome["correct"])
    if not 0.0 <= grade <= 1.0:
        raise ValueError(f"correct is {grade}, not 0 to 1")
    return Recorded(grade >= 0.5, outcome.get("answer"), grade)


Recordings = Mapping[str, Mapping[str, Recorded]]
"""Recordings by stripped question and strength."""


def read_recordings(path: Path) -> dict[str, dict[str, Recorded]]:
    """All recordings of ``path``. Raises ReplayError, and OSError where it cannot be read."""
    found: dict[str, dict[str, Recorded]] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line)
                found[row["query"].strip()] = {name: _recorded(outcome) for name, outcome in row["outcomes"].items()}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ReplayError(f"{path}, line {number}: not a recording ({type(error).__name__})") from error
    return found


def find(recordings: Recordings, text: str, strength: Strength) -> Recorded | None:
    """The recorded outcome of a model of ``strength`` for ``text``; None for an unknown question.

    `special` falls back to `large`. Raises NotRecorded.
    """
    outcomes = recordings.get(text)
    if outcomes is None:
        return None
    if strength == Strength.SPECIAL and strength not in outcomes:
        strength = Strength.LARGE
    if strength not in outcomes:
        raise NotRecorded(strength)
    return outcomes[strength]


def recording_of(question: str, answer: str, recordings: Recordings) -> Recorded | None:
    """The recorded outcome whose text ``answer`` is; None where there is none."""
    outcomes = recordings.get(question, {}).values()
    return next((one for one in outcomes if one.answer is not None and one.answer.strip() == answer), None)
