"""How a sample's answers compare with the top tier's: one grader for a batch, by what it expects or how it answers."""

import statistics
from collections.abc import Sequence
from typing import Final

from evaluation.graders.final_answer import final_choice, final_number, json_value, words_of
from evaluation.graders.text_graders import GraderKind, grader
from routing.query import Expectation
from tasks.pilot.sample import SampledQuery

TYPICAL_SHARE: Final = 0.8
"""Of the references: so many of a form are enough for its grader."""

SHORT_WORDS: Final = 12
"""Answers up to this long are compared by what they say in the end; longer ones by the words that they share."""


def grade_sample(sample: Sequence[SampledQuery]) -> tuple[list[list[float]], dict[str, int]]:
    """The grade of each answer of each query, in ladder order, 0 to 1; and how many each grader graded.

    The top tier's answer is the reference and has 1; an empty answer, which no validator passed, has 0.
    """
    kinds = [kind_by_expectation(query.expects) for query in sample]
    usual = kind_by_shape([query.answers[-1].text for query, kind in zip(sample, kinds, strict=True) if kind is None])
    mix: dict[str, int] = {}
    grades: list[list[float]] = []
    for query, kind in zip(sample, kinds, strict=True):
        kind = kind or usual
        mix[kind.value] = mix.get(kind.value, 0) + 1
        compare = grader(kind)
        reference = query.answers[-1].text
        grades.append(
            [*(compare(answer.text, reference) if answer.text else 0.0 for answer in query.answers[:-1]), 1.0]
        )
    return grades, mix


def agreement(answer: str, reference: str, *, expects: Expectation) -> float:
    """The grade of one answer beside the top tier's, 0 to 1."""
    return grader(kind_by_expectation(expects) or kind_by_shape([reference]))(answer, reference)


def kind_by_expectation(expects: Expectation) -> GraderKind | None:
    """The grader that ``expects`` implies, if any."""
    if expects.choices:
        return GraderKind.CHOICE
    if expects.json_object or expects.json_schema is not None:
        return GraderKind.JSON
    return None


def kind_by_shape(references: Sequence[str]) -> GraderKind:
    """The grader that fits how the references look."""
    enough = TYPICAL_SHARE * max(len(references), 1)
    if sum(isinstance(json_value(text), dict | list) for text in references) >= enough:
        return GraderKind.JSON
    if sum(final_choice(text) is not None for text in references) >= enough:
        return GraderKind.CHOICE
    if sum(final_number(text) is not None for text in references) >= enough:
        return GraderKind.FINAL
    if statistics.median([len(words_of(text)) for text in references] or [0]) <= SHORT_WORDS:
        return GraderKind.FINAL
    return GraderKind.TOKEN_F1
