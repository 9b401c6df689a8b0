"""Sums found in an answer, worked out again.

A small reader of ``+ - * / ( )`` and numbers; nothing is executed. Answers in the GSM8K manner
hold their sums as ``<<3*60=180>>``; others write ``3 x 60 = 180`` or ``$3 * 60 = $180``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_NUMBER: Final = re.compile(r"\d[\d,]*(?:\.\d+)?|\.\d+")
_MARKED: Final = re.compile(r"<<([^<>=]{1,80})=([^<>]{1,40})>>")
_PLAIN: Final = re.compile(
    r"([\d$(][\d$.,%]*+(?:[ \t]{0,2}[-+*/x×÷][ \t]{0,2}[\d$][\d$.,%]*+){1,12})[ \t]{0,2}="
    r"[ \t]{0,2}\$?(\d(?:[\d.,]*\d)?)"
)
"""Possessive where nothing that follows could begin with what repeats: else a row of digits takes seconds."""
_NOTES: Final = re.compile(r"<<[^>]{0,200}>>")
_SIGNS: Final = str.maketrans({"x": "*", "×": "*", "÷": "/", "−": "-", "$": None, ",": None, " ": None, "\\": None})
_TOKEN: Final = re.compile(r"\d+(?:\.\d+)?|\.\d+|[-+*/()%]")

DEEPEST: Final = 12
LARGEST: Final = 1e15

TOLERANCE: Final = 0.011
"""Relative tolerance: a result may be rounded to the cent or to two decimals."""


@dataclass(frozen=True, slots=True)
class Sum:
    """``left = right`` as it stands in a text; ``holds`` is None where it cannot be read."""

    left: str
    right: str
    holds: bool | None


def numbers_in(text: str) -> list[float]:
    """The numbers of ``text`` without their signs, in order; ``1,200`` is one number. None is above `LARGEST`."""
    return [number_of(found) for found in _NUMBER.findall(text)]


def number_of(digits: str) -> float:
    """A number as it is written, at most `LARGEST`: a long row of digits would be infinite."""
    return min(float(digits.replace(",", "")), LARGEST)


def without_notes(text: str) -> str:
    return _NOTES.sub("", text)


def marked_sums(text: str) -> list[Sum]:
    return list(_checked(_MARKED.findall(text)))


def plain_sums(text: str) -> list[Sum]:
    return list(_checked(_PLAIN.findall(without_notes(text))))


def value_of(expression: str) -> float | None:
    """What ``expression`` comes to, or None where it cannot be read or is not finite."""
    written = expression.translate(_SIGNS)
    tokens = _TOKEN.findall(written)
    if not tokens or "".join(tokens) != written:
        return None
    try:
        value = _ExpressionParser(tokens).whole()
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    return value if abs(value) < 1e15 else None


def _checked(pairs: list[tuple[str, str]]) -> Iterator[Sum]:
    for left, right in pairs:
        a, b = value_of(left), value_of(right)
        holds = None if a is None or b is None else abs(a - b) <= TOLERANCE * max(1.0, abs(a))
        yield Sum(left, right, holds)


class _ExpressionParser:
    """Recursive descent: sum → product → sign → atom. Raises ValueError where it does not fit."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0
        self.depth = 0

    def whole(self) -> float:
        value = self._sum()
        if self.at != len(self.tokens):
            raise ValueError
        return value

    def _next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def _take(self) -> str:
        token = self._next()
        self.at += 1
        return token

    def _sum(self) -> float:
        value = self._product()
        while self._next() in ("+", "-"):
            value = value + self._product() if self._take() == "+" else value - self._product()
        return value

    def _product(self) -> float:
        value = self._signed()
        while self._next() in ("*", "/"):
            value = value * self._signed() if self._take() == "*" else value / self._signed()
        return value

    def _signed(self) -> float:
        if self._next() == "-":
            self._take()
            return -self._atom()
        return self._atom()

    def _atom(self) -> float:
        part = self._take()
        if part == "(":
            self.depth += 1
            if self.depth > DEEPEST:
                raise ValueError
            value = self._sum()
            self.depth -= 1
            if self._take() != ")":
                raise ValueError
        else:
            value = float(part)
        while self._next() == "%":
            self._take()
            value /= 100.0
        return value
