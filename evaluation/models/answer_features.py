"""What an answer looks like beside its question, in numbers; most of it about arithmetic.

Measured on GSM8K answers: what marks a wrong answer is mainly its length, sums that do not hold or
are missing, numbers of the question that are never used, and a last line that is not plain.
"""

import math
import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from evaluation.data.array_types import Floats
from evaluation.models.arithmetic_checks import Sum, marked_sums, number_of, numbers_in, plain_sums, without_notes
from evaluation.models.tokenizer import excerpt

_FINAL: Final = re.compile(r"####[ \t]*\$?(-?)(\d[\d,]*(?:\.\d+)?|\.\d+)([^\n]*)")
_HEDGES: Final = re.compile(r"\b(?:however|but|assum\w+|perhaps|might|unclear|not sure|cannot|can't|sorry|unable)\b")
_ASKS: Final = (
    "how many", "how much", "more", "half", "twice", "/", "each", "total", "average", " than ", "%",
)  # fmt: skip
_SAYS: Final = ("let", " if ", "remaining", "not ", "\\", "%")
_USUAL: Final = frozenset({1.0, 2.0, 7.0, 10.0, 12.0, 24.0, 52.0, 60.0, 100.0})
"""Numbers that a sum may bring in from general knowledge."""

NAMES: Final = (
    "final line", "words after it", "answer chars", "question chars", "sums hold", "sums fail", "sums unread",
    "marked sums fail", "marked sums", "plain sums", "question numbers used", "question numbers",
    "new numbers", "unused results",
    "magnitude", "fraction", "more than cents", "negative", "is in question", "is last result", "is a result",
    "is above question", "against question", "lines", "trailing space", "hedges", "open end", "last line numbers",
    "question distinct numbers", "question largest", "question fraction", "question stops", "words shared",
    "words repeated", "asks for less",
    *(f"asks {phrase.strip()}" for phrase in _ASKS),
    *(f"says {phrase.strip()}" for phrase in _SAYS),
)  # fmt: skip


def answer_shape(questions: Sequence[str], answers: Sequence[str]) -> Floats:
    """One row for each pair, shape (n, len(NAMES))."""
    rows = [_row(excerpt(question), excerpt(answer)) for question, answer in zip(questions, answers, strict=True)]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(NAMES))


def _row(question: str, answer: str) -> list[float]:
    marked, plain = marked_sums(answer), plain_sums(answer)
    asked, given = numbers_in(question), numbers_in(without_notes(answer))
    final = _FINAL.search(answer)
    value = number_of(final[2]) if final else (given[-1] if given else 0.0)
    results = [number for each in marked for number in numbers_in(each.right)]
    largest = max(asked, default=0.0)
    known = set(given)
    lower = answer.lower()
    return [
        final is not None,
        final is not None and bool(final[3].strip()),
        math.log1p(len(answer)),
        math.log1p(len(question)),
        *_held(marked + plain),
        _held(marked)[1],
        len(marked),
        len(plain),
        sum(n in known or n / 100 in known for n in asked) / len(asked) if asked else 1.0,
        len(asked),
        _new_numbers(asked, marked),
        _unused(marked),
        math.log1p(min(value, 1e12)),
        value != round(value),
        round(value, 2) != value,
        final is not None and final[1] == "-",
        value in asked,
        (results[-1] == value) if results else -1.0,
        value in results,
        value > largest,
        math.log1p(min(value, 1e12) / (largest or 1.0)),
        answer.count("\n"),
        len(answer) - len(answer.rstrip()),
        len(_HEDGES.findall(lower)),
        answer.rstrip().endswith((">>", "=", "*", "+", ":", ",")),
        len(numbers_in(answer.rpartition("####")[2])),
        len(set(asked)),
        math.log1p(min(largest, 1e12)),
        any(number != int(number) for number in asked),
        question.count("."),
        *_words(question.lower(), lower),
        "less" in question or "fewer" in question,
        *(phrase in question.lower() for phrase in _ASKS),
        *(lower.count(phrase) for phrase in _SAYS),
    ]


def _held(sums: Sequence[Sum]) -> tuple[int, int, int]:
    """How many sums hold, fail, and cannot be read."""
    verdicts = [each.holds for each in sums]
    return verdicts.count(True), verdicts.count(False), verdicts.count(None)


def _new_numbers(asked: Sequence[float], sums: Sequence[Sum]) -> int:
    """Numbers that enter a sum and come neither from the question, nor from a result, nor from general knowledge."""
    known = set(asked) | _USUAL
    new = 0
    for each in sums:
        new += sum(number not in known for number in numbers_in(each.left))
        known.update(numbers_in(each.right))
    return new


def _unused(sums: Sequence[Sum]) -> int:
    """Results but the last that no later sum uses."""
    later: set[float] = set()
    unused = 0
    for place, each in enumerate(reversed(sums)):
        if place and not later.intersection(numbers_in(each.right)):
            unused += 1
        later.update(numbers_in(each.left))
    return unused


def _words(question: str, answer: str) -> tuple[float, float]:
    """The share of the question's words that the answer takes up, and the share of its lines that repeat."""
    asked = set(question.split())
    lines = [line for line in answer.splitlines() if line.strip()]
    shared = len(asked & set(answer.split())) / (len(asked) or 1)
    return shared, 1.0 - len(set(lines)) / (len(lines) or 1)
