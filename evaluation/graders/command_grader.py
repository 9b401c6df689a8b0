"""Grading by a command of the user's: what goes in, and what comes out. The caller runs it, in the user's sandbox.

The command reads JSON lines ``{"id", "query", "answer", "reference"}`` and writes one line ``{"id", "grade"}`` for
each, in any order; ``grade`` is 0 to 1, or true or false.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class GraderOutputError(ValueError):
    """The output of a grading command is invalid. The message names line, field and fix."""


@dataclass(frozen=True, slots=True)
class CommandItem:
    """One answer for the command to grade."""

    id: str
    query: str
    answer: str
    reference: str


def command_input(items: Iterable[CommandItem]) -> str:
    """Return the command's input, one JSON line for each item."""
    return "".join(
        json.dumps(
            {"id": item.id, "query": item.query, "answer": item.answer, "reference": item.reference}, ensure_ascii=False
        )
        + "\n"
        for item in items
    )


def read_grades(output: str, ids: Sequence[str]) -> dict[str, float]:
    """Return the grade of each id. Raises GraderOutputError if a line is invalid, or an id is unknown, repeated or
    missing."""
    asked, grades = set(ids), dict[str, float]()
    for number, line in enumerate(output.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise GraderOutputError(f"line {number}: not JSON. fix: write one object per line") from error
        if not isinstance(value, dict) or not {"id", "grade"} <= value.keys():
            raise GraderOutputError(f'line {number}: no "id" and "grade". fix: write {{"id": …, "grade": …}}')
        grade, id_ = value["grade"], str(value["id"])
        if not isinstance(grade, bool | int | float) or not 0 <= grade <= 1:
            raise GraderOutputError(
                f"line {number}: grade is not a number from 0 to 1. fix: write a number from 0 to 1"
            )
        if id_ not in asked:
            raise GraderOutputError(f"line {number}: the id is unknown. fix: copy the id of the input line")
        if id_ in grades:
            raise GraderOutputError(f"line {number}: the id is graded twice. fix: write one line for each id")
        grades[id_] = float(grade)
    if len(grades) < len(asked):
        raise GraderOutputError(f"{len(asked) - len(grades)} of {len(asked)} ids have no grade. fix: grade every line")
    return grades
