"""The difficulty of a query, from 0 to 1, determined by its text alone.

`visible` is an estimate from the text (length, mathematics, code, words that request analysis); `hidden` adds noise
from the text's hash, which no router can see.
"""

import re
from typing import Final

_WORD: Final = re.compile(r"[^\W\d_]+")
_ASCII_GAPS: Final = bytes(code if chr(code).isalpha() else 32 for code in range(128)).ljust(256)


def words_of(lower: str) -> list[str]:
    """The runs of letters in a text in lower case, in order."""
    # For ASCII, translate and split are several times as fast as the pattern.
    return lower.encode().translate(_ASCII_GAPS).decode().split() if lower.isascii() else _WORD.findall(lower)


_READ_CHARS: Final = 2000
"""The part of a prompt that is read: a long one would cost more than the rest of the call."""

_SUM: Final = re.compile(r"\d\s*[-+*/^=]\s*\d|[∫∑√]")
_DIGITS_AND_SIGNS: Final = bytes.maketrans(b"0123456789-+*/^=", b"0000000000++++++")
_ASCII_SPACES: Final = bytes(code for code in range(128) if chr(code).isspace())

_DEEP, _MATHS, _CODE = (
    frozenset(words.split())
    for words in (
        "prove proof proofs derive theorem analyse analyze analysis compare evaluate critique tradeoff tradeoffs"
        " design optimise optimize refactor debug justify strategy implication implications diagnose diagnosis"
        " architecture beweise analysiere",
        "integral equation matrix probability polynomial eigenvalue eigenvalues modulo logarithm derivative percent",
        "python javascript rust golang sql regex function algorithm",
    )
)
_MATHS_PHRASES: Final = re.compile(r"how m(?:any|uch)")
_CODE_PHRASES: Final = re.compile(r"```|def |unit test|\{\n|;\n")
_TELLING: Final = _DEEP | _MATHS | _CODE


def visible(text: str) -> float:
    """The difficulty that the text shows, from 0.15 to 1.4."""
    head = text[:_READ_CHARS].lower()
    words = _TELLING.intersection(words_of(head))
    deep = len(words & _DEEP) + ("step by step" in head) + ("trade-off" in head)
    maths = words & _MATHS or _MATHS_PHRASES.search(head) or _has_sum(head)
    code = words & _CODE or _CODE_PHRASES.search(head)
    return (
        0.15
        + 0.3 * min(1.0, len(text) / _READ_CHARS)
        + 0.2 * min(3, deep)
        + (0.15 if maths else 0.0)
        + (0.15 if code else 0.0)
        + (0.05 if head.count("?") > 1 else 0.0)
    )


def _has_sum(head: str) -> bool:
    # For ASCII the same without the pattern: digits become 0, signs +, spaces vanish.
    if head.isascii():
        return b"0+0" in head.encode().translate(_DIGITS_AND_SIGNS, _ASCII_SPACES)
    return _SUM.search(head) is not None


def hidden(text: str, *, draw: float) -> float:
    """The true difficulty, 0 to 1. ``draw`` is uniform in [0, 1) and must come from the text's hash.

    One query in ten is harder by a whole rung than it looks: no router can route those correctly.
    """
    noise = 0.3 * (draw - 0.5) + (0.25 if draw >= 0.9 else 0.0)
    return min(1.0, max(0.0, visible(text) + noise))
