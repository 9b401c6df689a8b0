"""Whether two answers to one question agree, by their words, without any model.

It is a stand-in for being right, and reported as such: two models may agree on what is wrong.
"""

import re
from typing import Final

ALIKE: Final = 0.6
"""Minimum share of common words with which two answers without numbers agree."""

_NUMBER: Final = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_WORD: Final = re.compile(r"\w+")


def agree(first: str, second: str) -> bool | None:
    """Whether both say the same; None where one says nothing.

    The same words in the same order; or else the same last number, where both have numbers (where
    answers that reckon end); or else enough words in common.
    """
    ours, theirs = _WORD.findall(first.casefold()), _WORD.findall(second.casefold())
    if not ours or not theirs:
        return None
    if ours == theirs:
        return True
    numbers = _last_number(first), _last_number(second)
    if numbers[0] is not None and numbers[1] is not None:
        return numbers[0] == numbers[1]
    common, either = set(ours) & set(theirs), set(ours) | set(theirs)
    return len(common) / len(either) >= ALIKE


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None
