"""Files of labels: JSON lines that state how right answers were.

There are two forms, which may be mixed::

    {"custom_id": "q-1", "correct": true, "tier"?: "small"}
    {"id": "q-1", "outcomes": {"small": {"correct": 0.5}, "large": {"correct": true}}}

``correct`` is true, false or a number from 0 to 1. Without ``tier`` the label is for the final answer. The second form
is that of recorded outcomes, of which the tiers that were asked count.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from evaluation.data.dataset_errors import BrokenLine, DataError, DataFault, json_object

LONGEST_BYTES: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class LabelLine:
    """A label in a file. ``tier`` None is the tier of the final answer."""

    line: int
    custom_id: str
    tier: str | None
    grade: float
    if_asked: bool = False
    """If the tier was not asked, the line is skipped. Otherwise it is an error."""


def read_labels(path: Path) -> list[LabelLine]:
    """Return the labels in ``path``, in order. Raises DataError with every fault found, OSError if it cannot be
    read."""
    labels: list[LabelLine] = []
    faults: list[DataFault] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                labels += _read(number, line)
            except BrokenLine as broken:
                faults.append(broken.fault)
    if not labels and not faults:
        faults.append(
            DataFault(0, "", "contains no labels", 'write lines such as {"custom_id": "q-1", "correct": true}')
        )
    if faults:
        raise DataError(str(path), tuple(faults))
    return labels


def _read(number: int, line: bytes) -> Iterator[LabelLine]:
    if len(line) > LONGEST_BYTES:
        raise BrokenLine(number, "", f"is longer than {LONGEST_BYTES:,} bytes", "a label needs no text")
    body = json_object(number, line)
    custom_id = body.get("custom_id", body.get("id"))
    if not isinstance(custom_id, str) or not custom_id:
        raise BrokenLine(number, "custom_id", "is missing or not a string", "name the line of the batch")
    if "outcomes" not in body:
        tier = body.get("tier")
        if tier is not None and not isinstance(tier, str):
            raise BrokenLine(number, "tier", "is not a string", "name a tier, or leave it out for the final answer")
        yield LabelLine(number, custom_id, tier, _grade(number, "correct", body.get("correct")))
        return
    outcomes = body["outcomes"]
    if not isinstance(outcomes, dict) or not all(isinstance(outcome, dict) for outcome in outcomes.values()):
        raise BrokenLine(number, "outcomes", "is not an object of tiers", '{"small": {"correct": true}}')
    for tier, outcome in outcomes.items():
        grade = _grade(number, f"outcomes.{tier}.correct", outcome.get("correct"))
        yield LabelLine(number, custom_id, tier, grade, if_asked=True)


def _grade(number: int, named: str, outcome: object) -> float:
    if not isinstance(outcome, bool | int | float) or not 0 <= outcome <= 1:
        raise BrokenLine(number, named, "must be true, false or a number from 0 to 1", "state how right the answer is")
    return float(outcome)
