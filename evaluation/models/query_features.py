"""The form of a query's text as numbers: length, layout, choices, numbers, a few phrases.

These complement the words: trees find in them what a sum over words cannot say.
"""

import math
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

import numpy as np

from evaluation.data.array_types import Floats
from evaluation.models.tokenizer import excerpt

_CHOICE: Final = re.compile(r"^[A-J][.)][ \t]*(.*)$", re.MULTILINE)
_NUMERIC: Final = re.compile(r"[-$\d.,/ %]+")
_PHRASES: Final = (
    "not ", "except", "statement", "true", "scenario", "which of the following", "according", " i ", "all of",
    "how many", "how much", "why", "explain", "prove", "write", "translate", "list", "each", "half", "twice",
    "percent", " than ",
)  # fmt: skip
_OPENINGS: Final = ("which", "what", "the ", "a ", "this ", "if ")
_MARKS: Final = '?$%",._(`'

NAMES: Final = (
    "chars", "stem chars", "tokens", "mean token", "choices", "mean choice", "longest choice", "choice spread",
    "numeric choices", "numbers", "number share", "lines", "distinct share", "bytes beyond ASCII",
    *(f"mark {mark}" for mark in _MARKS),
    *(f"says {phrase.strip()}" for phrase in _PHRASES),
    *(f"begins {opening.strip()}" for opening in _OPENINGS),
    "capitals", "signs",
)  # fmt: skip


def query_shape(texts: Sequence[str], tokens: Sequence[Sequence[str]]) -> Floats:
    """One row for each text, shape (n, len(NAMES)); ``tokens`` are the texts' own."""
    figures: list[float] = []
    for text, own in zip(texts, tokens, strict=True):
        figures.extend(_row(excerpt(text), own))
    return np.fromiter(figures, dtype=np.float64, count=len(figures)).reshape(len(texts), len(NAMES))


def _row(text: str, tokens: Sequence[str]) -> Iterator[float]:
    chars = len(text)
    lower = text.lower()
    numbers = [token[0] for token in tokens].count("#")
    count = len(tokens) or 1
    letters = text.encode("latin-1", errors="replace")
    beyond = 0 if text.isascii() else len(text.encode("utf-8", errors="replace")) - chars
    choice_chars, *choices = _choices(text) if "\n" in text else _NO_CHOICES
    return chain(
        (math.log1p(chars), math.log1p(chars - choice_chars), math.log1p(count), chars / count),
        choices,
        (math.log1p(numbers), numbers / count),
        (text.count("\n"), len(set(tokens)) / count, beyond / (chars + 1)),
        map(text.count, _MARKS),
        map(lower.__contains__, _PHRASES),
        map(lower.startswith, _OPENINGS),
        (_share(letters, _NO_CAPITALS), _share(letters, _NO_SIGNS)),
    )


def _choices(text: str) -> tuple[float, ...]:
    """Characters of all choices, their number, mean (log), longest (log) and spread; and how many are numeric."""
    choices = _CHOICE.findall(text)
    sizes = [len(choice) for choice in choices] or [0]
    mean_size = sum(sizes) / len(sizes)
    spread = math.sqrt(sum((size - mean_size) ** 2 for size in sizes) / len(sizes))
    numeric = sum(1 for choice in choices if _NUMERIC.fullmatch(choice))
    log_mean, log_longest = math.log1p(mean_size), math.log1p(max(sizes))
    return sum(sizes), len(choices), log_mean, log_longest, spread / (mean_size + 1.0), numeric


_NO_CHOICES: Final = _choices("")


def _all_but(chars: str) -> bytes:
    return bytes(set(range(256)).difference(chars.encode()))


_NO_CAPITALS: Final = _all_but("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_NO_SIGNS: Final = _all_but("=^+*/<>\\{}[]")


def _share(letters: bytes, others: bytes) -> float:
    """The share of ``letters`` that are none of ``others``."""
    return len(letters.translate(None, others)) / max(len(letters), 1)
