"""Recordings of real answers, returned verbatim for the same question.

One JSON line per question: ``{"id", "query", "outcomes": {"small": {"model", "correct", "answer"}, …}}``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

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


Recordings = Mapping[str, Mapping[str, Recorded]]
"""By stripped question and strength."""


def read_recordings(path: Path) -> dict[str, dict[str, Recorded]]:
    """All recordings of ``path``. Raises ReplayError, and OSError where it cannot be read."""
    found: dict[str, dict[str, Recorded]] = {}
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = orjson.loads(line)
                found[row["query"].strip()] = {
                    name: Recorded(correct=bool(outcome["correct"]), answer=outcome.get("answer"))
                    for name, outcome in row["outcomes"].items()
                }
            except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
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
