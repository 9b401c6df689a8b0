"""Matching a user's regular expression without letting it take for ever.

Python's engine backtracks and has no time limit, so the worst case is reckoned first, from the
pattern's text, and what might be too long is not run at all:

* the pattern has at most ``MAX_PATTERN_CHARS`` characters and no back-reference;
* nothing that repeats without end, or branches, stands inside a group that repeats without end
  (``(a+)*``, ``(a|ab)*``): these take exponential time;
* each choice (``a?``, ``(a|b)``, ``a{2,4}``) multiplies the ways, and each of k repetitions
  without end multiplies them by the text's length: ways · length^k stays under ``MAX_STEPS``.

This turns down some patterns that would be quick; it is meant to, it only looks.
"""

import re
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

MAX_PATTERN_CHARS: Final = 500
MAX_TEXT_CHARS: Final = 100_000
MAX_STEPS: Final = 4e6
"""Some tens of milliseconds."""

ENDLESS_FROM: Final = 16
"""A repetition that may come so often counts as one without end."""

_REPEAT: Final = re.compile(r"[*+?]|\{(\d+)\}|\{(\d*),(\d*)\}")


class UnsafePattern(Exception):
    """The pattern is not run; the message says why."""


@dataclass(frozen=True, slots=True)
class WorstCase:
    """The worst case of a pattern: ``ways`` · length^``repetitions`` steps."""

    ways: float
    repetitions: int

    def longest(self, *, whole: bool) -> int:
        """The longest text to which it is safely applied; a search begins anew at each character."""
        power = self.repetitions if whole else self.repetitions + 1
        return MAX_TEXT_CHARS if power == 0 else min(MAX_TEXT_CHARS, int((MAX_STEPS / self.ways) ** (1 / power)))


@dataclass(slots=True)
class _Group:
    ways: float = 1.0
    branches: int = 1
    endless: bool = False


def matches(pattern: str, text: str, *, whole: bool = True) -> bool:
    """Whether ``pattern`` matches the whole of ``text`` (or, if not ``whole``, anywhere in it).

    Raises `UnsafePattern` where the pattern is invalid, or may take too long on this text.
    """
    compiled, reckoning = _compiled(pattern)
    longest = reckoning.longest(whole=whole)
    if len(text) > longest:
        raise UnsafePattern(f"the text is longer than the {longest} characters to which this pattern is safely applied")
    return (compiled.fullmatch(text) if whole else compiled.search(text)) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> tuple[re.Pattern[str], WorstCase]:
    reckoning = estimate_worst_case(pattern)
    try:
        with warnings.catch_warnings():
            # Python warns of sets that a later version may read otherwise; that is the user's to know.
            warnings.simplefilter("ignore", FutureWarning)
            return re.compile(pattern), reckoning
    except (re.error, RecursionError, OverflowError) as error:
        raise UnsafePattern("the pattern is not a valid regular expression") from error


def estimate_worst_case(pattern: str) -> WorstCase:
    """The worst case of ``pattern``, which need not be valid; raises `UnsafePattern` where it has no bound."""
    if len(pattern) > MAX_PATTERN_CHARS:
        raise UnsafePattern(f"the pattern is longer than {MAX_PATTERN_CHARS} characters")
    groups = [_Group()]
    repetitions = 0
    place = 0
    repeated = _Group()
    """What a repetition at this place would repeat: a group that was just closed, or one character."""
    while place < len(pattern):
        if repeat := _REPEAT.match(pattern, place):
            repetitions += _repeat(repeat, repeated, groups[-1])
            place = repeat.end()
            # A lazy or possessive mark belongs to the repetition.
            place += pattern[place : place + 1] in ("?", "+")
            repeated = _Group()
            continue
        repeated = _Group()
        match pattern[place]:
            case "\\":
                _refuse_back_reference(pattern[place + 1 : place + 2])
                place += 2
            case "[":
                place = _class_end(pattern, place)
            case "(":
                groups.append(_Group())
                place = _group_start(pattern, place)
            case ")":
                if len(groups) > 1:
                    repeated = _close(groups)
                place += 1
            case "|":
                groups[-1].branches += 1
                place += 1
            case _:
                place += 1
    ways = groups[0].ways
    for group in groups[1:]:
        ways *= group.ways * group.branches
    if ways > MAX_STEPS:
        raise UnsafePattern("it has too many choices")
    return WorstCase(ways, repetitions)


def _repeat(repeat: re.Match[str], repeated: _Group, inside: _Group) -> int:
    """Takes a repetition into account; 1 if it is one without end, else 0."""
    least, most = _bounds(repeat)
    if most is None or most >= ENDLESS_FROM:
        if repeated.endless or repeated.ways > 1:
            raise UnsafePattern("it repeats a group that itself repeats or branches")
        inside.endless = True
        return 1
    if repeated.endless and most > 1:
        raise UnsafePattern("it repeats a group that itself repeats")
    # The group counted once when it was closed.
    inside.ways = min(inside.ways * repeated.ways ** max(most - 1, 0) * (max(most - least, 0) + 1), 1e15)
    return 0


def _bounds(repeat: re.Match[str]) -> tuple[int, int | None]:
    exactly, least, most = repeat.groups()
    match repeat.group(0):
        case "*" | "+":
            return 0, None
        case "?":
            return 0, 1
        case _ if exactly is not None:
            return _number(exactly), _number(exactly)
        case _:
            return _number(least), _number(most) if most else None


def _number(digits: str) -> int:
    return int(digits[:9] or "0")


def _close(groups: list[_Group]) -> _Group:
    closed = groups.pop()
    closed.ways = min(closed.ways * closed.branches, 1e15)
    outer = groups[-1]
    outer.ways = min(outer.ways * closed.ways, 1e15)
    outer.endless |= closed.endless
    return closed


def _class_end(pattern: str, place: int) -> int:
    place += 1
    if pattern[place : place + 1] == "^":
        place += 1
    first = True
    while place < len(pattern) and (first or pattern[place] != "]"):
        place += 2 if pattern[place] == "\\" else 1
        first = False
    return place + 1


def _group_start(pattern: str, place: int) -> int:
    """Past ``(``, ``(?:``, ``(?=``, ``(?P<name>`` and the like."""
    if pattern[place + 1 : place + 2] != "?":
        return place + 1
    if pattern.startswith(("(?P=", "(?("), place):
        raise UnsafePattern("it has a back-reference")
    end = place + 2
    while end < len(pattern) and pattern[end] not in ":=!>)":
        end += 1
    return end if pattern[end : end + 1] == ")" else end + 1


def _refuse_back_reference(escaped: str) -> None:
    if escaped.isdigit() and escaped != "0":
        raise UnsafePattern("it has a back-reference")
