"""What a query's text looks like, in numbers: length, layout, choices, numbers, a few telling phrases.

These complement the words: trees find in them what a sum over words cannot say.
"""

import math
import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from evaluation.arrays import Floats
from evaluation.tokens import excerpt

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
    read = [excerpt(text) for text in texts]
    rows = [_row(text, own) for text, own in zip(read, tokens, strict=True)]
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(NAMES) - 2)
    return np.hstack([table, _letters(read)])


def _row(text: str, tokens: Sequence[str]) -> list[float]:
    chars = len(text)
    lower = text.lower()
    choices = _CHOICE.findall(text) if "\n" in text else []
    sizes = [len(choice) for choice in choices] or [0]
    mean_size = sum(sizes) / len(sizes)
    spread = math.sqrt(sum((size - mean_size) ** 2 for size in sizes) / len(sizes))
    numbers = sum(1 for token in tokens if token[0] == "#")
    count = len(tokens) or 1
    return [
        math.log1p(chars),
        math.log1p(chars - sum(sizes)),
        math.log1p(count),
        chars / count,
        len(choices),
        math.log1p(mean_size),
        math.log1p(max(sizes)),
        spread / (mean_size + 1.0),
        sum(1 for choice in choices if _NUMERIC.fullmatch(choice)),
        math.log1p(numbers),
        numbers / count,
        text.count("\n"),
        len(set(tokens)) / count,
        (len(text.encode("utf-8", errors="replace")) - chars) / (chars + 1),
        *map(text.count, _MARKS),
        *map(lower.__contains__, _PHRASES),
        *map(lower.startswith, _OPENINGS),
    ]


def _indicator(chars: str) -> Floats:
    table = np.zeros(256)
    table[[ord(char) for char in chars]] = 1.0
    return table


_CLASSES: Final = np.column_stack([_indicator("ABCDEFGHIJKLMNOPQRSTUVWXYZ"), _indicator("=^+*/<>\\{}[]")])


def _letters(texts: Sequence[str]) -> Floats:
    """Shares of capitals and of signs of formulas and code, shape (n, 2)."""
    codes = np.frombuffer("".join(texts).encode("latin-1", errors="replace"), dtype=np.uint8)
    starts = np.cumsum([0, *(len(text) for text in texts)])
    totals = np.concatenate([np.zeros((1, 2)), np.cumsum(_CLASSES[codes], axis=0)])
    sizes = np.maximum(np.diff(starts), 1)[:, None]
    shares: Floats = (totals[starts[1:]] - totals[starts[:-1]]) / sizes
    return shares
