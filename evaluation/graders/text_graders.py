"""How well an answer matches the reference, 0 to 1, without any model: one function for each kind.

No function raises on any text. Each returns 0 if either side is blank.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, assert_never

from evaluation.graders.final_answer import (
    final_answer,
    final_choice,
    final_number,
    json_value,
    normal_form,
    words_of,
)

NUMBER_TOLERANCE: Final = 1e-6
"""Relative tolerance: numbers that differ by less count as equal."""


_TOKENS: Final = re.compile(r"\w+|[^\w\s.,;:!?'\"`]")
"""The tokens that distinguish answers. In code and formulas they include the operators."""


class GraderKind(StrEnum):
    """The kind of comparison of an answer with the reference."""

    EXACT = "exact"
    """The same words in the same order."""
    CHOICE = "choice"
    """The same option."""
    NUMBER = "number"
    """The same final number."""
    FINAL = "final"
    """The same final answer: as numbers if both are numbers, else in normal form."""
    JSON = "json"
    """The share of JSON fields that are equal (F1)."""
    TOKEN_F1 = "token_f1"  # noqa: S105 (a metric, no secret)
    """The overlap of words (F1)."""
    COMMAND = "command"
    """A command of the user, see `evaluation.graders.command_grader`."""
    JUDGE = "judge"
    """A model decides, see `evaluation.graders.llm_judge`."""
    GOLD = "gold"
    """Grades that came with the data."""


def grader(kind: GraderKind) -> Callable[[str, str], float]:
    """Return the function (answer, reference) → grade of a text kind. Raises ValueError for the kinds that need
    more."""
    match kind:
        case GraderKind.EXACT:
            return exact_match
        case GraderKind.CHOICE:
            return same_choice
        case GraderKind.NUMBER:
            return same_number
        case GraderKind.FINAL:
            return same_final_answer
        case GraderKind.JSON:
            return json_fields_f1
        case GraderKind.TOKEN_F1:
            return token_f1
        case GraderKind.COMMAND | GraderKind.JUDGE | GraderKind.GOLD:
            raise ValueError(f"grader {kind} compares by more than two texts")
        case _:
            assert_never(kind)


def exact_match(answer: str, reference: str) -> float:
    """Return 1 if both have the same words and operators in the same order, ignoring case and punctuation."""
    ours, theirs = (_TOKENS.findall(text.casefold()) for text in (answer, reference))
    if ours or theirs:
        return float(ours == theirs)
    return float(bool(answer.strip()) and answer.strip() == reference.strip())


def same_choice(answer: str, reference: str) -> float:
    """Return 1 if both end on the same option's letter, or else have the same words."""
    ours, theirs = final_choice(answer), final_choice(reference)
    if ours is None or theirs is None:
        return exact_match(answer, reference)
    return float(ours == theirs)


def same_number(answer: str, reference: str) -> float:
    """Return 1 if both end on the same number."""
    ours, theirs = final_number(answer), final_number(reference)
    if ours is None or theirs is None:
        return exact_match(answer, reference)
    return float(abs(ours - theirs) <= NUMBER_TOLERANCE * max(1.0, abs(ours), abs(theirs)))


def same_final_answer(answer: str, reference: str) -> float:
    """Return 1 if the final answers are equal, as numbers or in normal form."""
    ours, theirs = normal_form(final_answer(answer)), normal_form(final_answer(reference))
    return float(bool(ours) and ours == theirs)


def token_f1(answer: str, reference: str) -> float:
    """Return the F1 of the common words, with their counts (Rajpurkar et al. 2016, SQuAD)."""
    return _f1(Counter(words_of(answer)), Counter(words_of(reference)))


def json_fields_f1(answer: str, reference: str) -> float:
    """Return the F1 of the common fields (path and value). List items count without their order. 0 if either is not
    JSON.

    A value for "missing" (null, "", "n/a", "none", "unknown") counts as any other value.
    """
    ours, theirs = json_value(answer), json_value(reference)
    if ours is None or theirs is None:
        return 0.0
    return _f1(Counter(_fields(ours)), Counter(_fields(theirs)))


def _fields(value: Any, path: tuple[Any, ...] = (), depth: int = 0) -> list[tuple[tuple[Any, ...], str]]:
    """Path and value of each field. Paths are nested, or thousands of them would repeat a key of a megabyte."""
    if isinstance(value, Mapping) and value and depth < 20:
        return [
            field
            for key, content in value.items()
            for field in _fields(content, (path, str(key).casefold()), depth + 1)
        ]
    if isinstance(value, list) and value and depth < 20:
        return [field for content in value for field in _fields(content, (path,), depth + 1)]
    if isinstance(value, str):
        return [(path, " ".join(value.casefold().split()))]
    return [(path, json.dumps(value, sort_keys=True))]


def _f1(ours: Counter[Any], theirs: Counter[Any]) -> float:
    common = sum((ours & theirs).values())
    return 2.0 * common / (ours.total() + theirs.total()) if common else 0.0
