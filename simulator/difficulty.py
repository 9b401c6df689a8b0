"""How hard a query is: a hidden figure from 0 to 1 that its text alone decides.

`visible` is what anyone could see in the text (length, mathematics, code, words that ask for
analysis); `hidden` adds what comes from the text's hash, which no router can see.
"""

import re
from typing import Final

_READ_CHARS: Final = 2000
"""Only so much of a prompt is read: a long one would cost more than the rest of the call."""

_WORD: Final = re.compile(r"[^\W\d_]+")
_SUM: Final = re.compile(r"\d\s*[-+*/^=]\s*\d|[∫∑√]")

_DEEP: Final = frozenset(
    [
        "prove",
        "proof",
        "proofs",
        "derive",
        "theorem",
        "analyse",
        "analyze",
        "analysis",
        "compare",
        "evaluate",
        "critique",
        "tradeoff",
        "tradeoffs",
        "design",
        "optimise",
        "optimize",
        "refactor",
        "debug",
        "justify",
        "strategy",
        "implication",
        "implications",
        "diagnose",
        "diagnosis",
        "architecture",
        "beweise",
        "analysiere",
    ]
)
_DEEP_PHRASES: Final = ("step by step", "trade-off")
_MATHS: Final = frozenset(
    [
        "integral",
        "equation",
        "matrix",
        "probability",
        "polynomial",
        "eigenvalue",
        "eigenvalues",
        "modulo",
        "logarithm",
        "derivative",
        "percent",
    ]
)
_MATHS_PHRASES: Final = ("how many", "how much")
_CODE: Final = frozenset(["python", "javascript", "rust", "golang", "sql", "regex", "function", "algorithm"])
_CODE_PHRASES: Final = ("```", "def ", "unit test", "{\n", ";\n")


def visible(text: str) -> float:
    """What the text shows of its difficulty, from 0.15 to 1.4."""
    head = text[:_READ_CHARS].lower()
    words = set(_WORD.findall(head))
    deep = min(3, len(words & _DEEP) + sum(phrase in head for phrase in _DEEP_PHRASES))
    maths = words & _MATHS or any(phrase in head for phrase in _MATHS_PHRASES) or _SUM.search(head)
    code = words & _CODE or any(phrase in head for phrase in _CODE_PHRASES)
    return (
        0.15
        + 0.3 * min(1.0, len(text) / _READ_CHARS)
        + 0.2 * deep
        + (0.15 if maths else 0.0)
        + (0.15 if code else 0.0)
        + (0.05 if head.count("?") > 1 else 0.0)
    )


def hidden(text: str, *, draw: float) -> float:
    """The true difficulty, 0 to 1. ``draw`` is uniform in [0, 1) and must come from the text's hash.

    One query in ten looks easier than it is by a whole rung: nobody can route those right.
    """
    noise = 0.3 * (draw - 0.5) + (0.25 if draw >= 0.9 else 0.0)
    return min(1.0, max(0.0, visible(text) + noise))
