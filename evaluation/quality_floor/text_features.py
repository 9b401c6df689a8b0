"""What a query and an answer look like, in numbers that mean something in any workload; and their words, hashed.

Nothing is fitted here: the same text has the same numbers everywhere, so that they can be computed once, and a policy
stores weights alone. Words are hashed into ``HASH_SIZE`` columns, weighted 1 + log(count), a text scaled to length 1.
"""

import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from scipy import sparse

from evaluation.data.array_types import Floats
from evaluation.graders.final_answer import final_answer, final_choice, final_number, numbers_of, words_of
from evaluation.graders.text_graders import exact_match, json_fields_f1, same_choice, same_final_answer, token_f1

HASH_SIZE: Final = 1 << 15
MAX_CHARS: Final = 20_000
"""A text counts by its first and last half of this many characters."""

_HEDGES: Final = re.compile(
    r"\b(?:however|but|assum\w+|perhaps|maybe|might|may|possibly|probably|likely|unclear|unsure|not sure|"
    r"approximately|about|seems?|appears?|wait|actually|alternatively|instead)\b",
    re.IGNORECASE,
)
_REFUSALS: Final = re.compile(
    r"\b(?:cannot|can't|sorry|unable|don't know|do not know|no information|as an ai|not enough|none|unknown|n/a)\b",
    re.IGNORECASE,
)
_EQUATION: Final = re.compile(
    r"(-?\d[\d,]{0,15}(?:\.\d{1,15})?)\s{0,3}([-+*/x×÷])\s{0,3}\$?(-?\d[\d,]{0,15}(?:\.\d{1,15})?)\s{0,3}=\s{0,3}"
    r"\$?(-?\d[\d,]{0,15}(?:\.\d{1,15})?)"
)
_DIGITS: Final = re.compile(r"\d+")
_WORD_OR_SIGN: Final = re.compile(r"\w+|[^\w\s]")

QUERY_COLUMNS: Final = 15
ANSWER_COLUMNS: Final = 34
PAIR_COLUMNS: Final = 10


def query_features(text: str) -> list[float]:
    """``QUERY_COLUMNS`` numbers: lengths, lines, figures, punctuation, repetition."""
    text = excerpt(text)
    words, size = words_of(text), len(text) or 1
    return [
        math.log1p(len(text)),
        math.log1p(len(words)),
        sum(map(len, words)) / (len(words) or 1),
        math.log1p(text.count("\n")),
        math.log1p(len(_DIGITS.findall(text))),
        sum(map(str.isdigit, text)) / size,
        sum(map(str.isupper, text)) / size,
        sum(not char.isalnum() and not char.isspace() for char in text) / size,
        sum(ord(char) > 127 for char in text) / size,
        math.log1p(text.count("?")),
        math.log1p(text.count(".")),
        len(set(words)) / (len(words) or 1),
        math.log1p(max(map(len, words), default=0)),
        math.log1p(text.count("\\")),
        math.log1p(text.count(",")),
    ]


def answer_features(query: str, answer: str) -> list[float]:
    """``ANSWER_COLUMNS`` numbers of one answer beside its query: form, hedges, refusals, repetition, sums that hold."""
    query, answer = excerpt(query), excerpt(answer)
    words, asked = words_of(answer), set(words_of(query))
    numbers, given = numbers_of(answer), set(numbers_of(query))
    size, stripped = len(answer) or 1, answer.strip()
    pairs = list(pairwise(words))
    raw = answer.encode("utf-8", "replace")
    hold, fail = _equations(answer)
    final = numbers[-1] if numbers else 0.0
    said = final_answer(answer)
    return [
        math.log1p(len(answer)),
        math.log1p(len(words)),
        math.log1p(len(answer)) - math.log1p(len(query)),
        sum(map(len, words)) / (len(words) or 1),
        math.log1p(answer.count("\n")),
        math.log1p(len(numbers)),
        sum(map(str.isdigit, answer)) / size,
        sum(map(str.isupper, answer)) / size,
        sum(not char.isalnum() and not char.isspace() for char in answer) / size,
        math.log1p(len(_HEDGES.findall(answer))),
        math.log1p(len(_REFUSALS.findall(answer))),
        len(zlib.compress(raw, 1)) / (len(raw) + 20),
        1.0 - len(set(pairs)) / (len(pairs) or 1),
        len(set(words)) / (len(words) or 1),
        float(_is_json(stripped)),
        float(stripped[-1:] in set(".!?)}]\"`'")),
        float(stripped[-1:].isalnum()),
        sum(word in asked for word in words) / (len(words) or 1),
        len(asked & set(words)) / (len(asked) or 1),
        len(given & set(numbers)) / len(given) if given else 1.0,
        math.log1p(sum(number not in given for number in numbers)),
        math.log1p(hold),
        math.log1p(fail),
        math.log1p(min(abs(final), 1e9)),
        float(abs(final) < 1e15 and final != round(final)),
        float(bool(numbers) and final in given),
        math.log1p(len(said)),
        math.log1p(len(words_of(said))),
        float("```" in answer),
        math.log1p(answer.count("?")),
        float(not stripped),
        math.log1p(answer.count("\\")),
        math.log1p(answer.count("(")),
        math.log1p(answer.count("=")),
    ]


def pair_features(first: str, second: str) -> list[float]:
    """``PAIR_COLUMNS`` numbers of how far two answers to one query agree."""
    first, second = excerpt(first), excerpt(second)
    numbers = final_number(first), final_number(second)
    close = None not in numbers and numbers[0] == numbers[1]
    said = final_answer(first), final_answer(second)
    letters = final_choice(first), final_choice(second)
    return [
        exact_match(first, second),
        same_final_answer(first, second),
        same_choice(first, second) if None not in letters else 0.5,
        float(close) if None not in numbers else 0.5,
        token_f1(first, second),
        token_f1(*said),
        json_fields_f1(first, second),
        float(_without_spaces(first) == _without_spaces(second)),
        len(set(words_of(first)) & set(words_of(second))) / (min(len(set(words_of(t))) for t in (first, second)) or 1),
        abs(math.log1p(len(first)) - math.log1p(len(second))),
    ]


def hashed_words(texts: Sequence[str]) -> sparse.csr_matrix:
    """One row of length 1 for each text (0 for a text without words), shape (n, HASH_SIZE)."""
    # By hand: a policy asks for one text at a time, which scikit-learn's checks make ten times as slow.
    columns: list[int] = []
    values: list[Floats] = []
    ends = [0]
    for text in texts:
        counts = Counter(
            zlib.crc32(word.encode("utf-8", "replace")) % HASH_SIZE
            for word in _WORD_OR_SIGN.findall(excerpt(text).lower())
        )
        known = 1.0 + np.log(np.array([counts[column] for column in sorted(counts)], dtype=np.float64))
        columns += sorted(counts)
        values.append(known / (np.sqrt(known @ known) or 1.0))
        ends.append(len(columns))
    data = np.concatenate(values) if values else np.zeros(0)
    return sparse.csr_matrix((data, np.array(columns, dtype=np.int32), ends), shape=(len(texts), HASH_SIZE))


def excerpt(text: str) -> str:
    """``text``, or its beginning and end where it is longer than ``MAX_CHARS``."""
    half = MAX_CHARS // 2
    return text if len(text) <= MAX_CHARS else text[:half] + text[-half:]


def confidence_columns(confidences: Sequence[Mapping[str, float]], sources: Sequence[str]) -> Floats:
    """The named confidences of each answer, two columns a source (as it is, and as log-odds); NaN where missing."""
    columns = np.full((len(confidences), 2 * len(sources)), np.nan)
    for row, known in enumerate(confidences):
        for place, source in enumerate(sources):
            value = known.get(source)
            if value is not None and math.isfinite(value):
                share = min(max(float(value), 0.001), 0.999)
                columns[row, 2 * place : 2 * place + 2] = share, math.log(share / (1.0 - share))
    return columns


def _equations(text: str) -> tuple[int, int]:
    """How many sums of two numbers hold, and how many fail."""
    hold = fail = 0
    for found in _EQUATION.finditer(text):
        first, second, right = (float(found[place].replace(",", "")) for place in (1, 3, 4))
        match found[2]:
            case "+":
                value = first + second
            case "-":
                value = first - second
            case "/" | "÷":
                value = first / second if second else math.inf
            case _:
                value = first * second
        holds = abs(value - right) <= 0.01 * max(1.0, abs(right))
        hold, fail = hold + holds, fail + (not holds)
    return hold, fail


def _without_spaces(text: str) -> str:
    return "".join(text.casefold().split()).rstrip(";.")


def _is_json(text: str) -> bool:
    value: Any
    try:
        value = json.loads(text.removeprefix("```json").strip("`"))
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict | list)
