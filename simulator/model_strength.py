"""The strength of a model, from 0 to 1: it answers queries up to that difficulty well.

The name patterns are those of real model families, so that a fleet of real names needs no configuration.
"""

import re
from enum import StrEnum
from typing import Final


class Strength(StrEnum):
    """The classes of model; also the keys of a recording's ``outcomes``."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"
    SPECIAL = "special"


LEVELS: Final = {Strength.SMALL: 0.4, Strength.MEDIUM: 0.7, Strength.LARGE: 0.97, Strength.SPECIAL: 0.97}
"""The hardest query that each class answers well. Invented for the simulation, not measured on any model."""

_SMALL_WORDS: Final = frozenset({"nano", "lite", "haiku", "small", "mixtral"})
_MEDIUM_WORDS: Final = frozenset({"mini", "flash", "sonnet", "medium"})


def strength_of(model: str) -> Strength:
    """The strength that a model's name suggests.

    Whole words count, not substrings: ``gemini`` is not a ``mini``. Small wins over medium
    (``gemini-2.5-flash-lite``), and a name without a known word is large.
    """
    words = set(re.split(r"[^a-z0-9]+", model.lower()))
    if words & _SMALL_WORDS:
        return Strength.SMALL
    if words & _MEDIUM_WORDS:
        return Strength.MEDIUM
    if "special" in words:
        return Strength.SPECIAL
    return Strength.LARGE
