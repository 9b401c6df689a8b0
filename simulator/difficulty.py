"""How hard a query is: a hidden figure from 0 to 1 that its text alone decides.

`visible` is what anyone could see in the text (length, mathematics, code, words that ask for
analysis); `hidden` adds a noise that comes from the text's hash, which no router can see.
"""

import re
from typing import Final

_READ_CHARS: Final = 2000
"""Only so much of a prompt is read: a long one would cost more than the rest of the call."""

_DEEP: Final = re.compile(
    r"\b(?:prove|proof|derive|theorem|analy[sz]e|analysis|compare|evaluate|critique|trade-?offs?|design|optimi[sz]e"
    r"|refactor|debug|step by step|justify|strategy|implications?|diagnos\w+|architect\w*|beweise|analysiere)\b"
)
_MATHS: Final = re.compile(
    r"\b(?:integral|equation|matrix|probability|polynomial|eigenvalues?|modulo|logarithm|derivative|percent"
    r"|how (?:many|much))\b|\d\s*[-+*/^=]\s*\d|[∫∑√]"
)
_CODE: Final = re.compile(
    r"```|\bdef \w|\bclass \w+[:({]|[{};]\n"
    r"|\b(?:python|javascript|rust|golang|sql|regex|function|algorithm|unit tests?)\b"
)


def visible(text: str) -> float:
    """What the text shows of its difficulty, from 0 to 0.95."""
    head = text[:_READ_CHARS].lower()
    deep = min(3, len(set(_DEEP.findall(head))))
    return (
        0.15
        + 0.3 * min(1.0, len(text) / _READ_CHARS)
        + 0.2 * deep
        + (0.15 if _MATHS.search(head) else 0.0)
        + (0.15 if _CODE.search(head) else 0.0)
        + (0.05 if head.count("?") > 1 else 0.0)
    )


def hidden(text: str, *, draw: float) -> float:
    """The true difficulty, 0 to 1. ``draw`` is uniform in [0, 1) and must come from the text's hash."""
    return min(1.0, max(0.0, visible(text) + 0.3 * (draw - 0.5)))
