"""Matching a user's regular expression without letting it take for ever.

Python's engine backtracks and has no time limit, so what might explode is not run at all:

* the pattern has at most ``MAX_PATTERN_CHARS`` characters and no back-reference;
* no open-ended repetition stands inside a repeated group (``(a+)*``), nor an alternative inside an
  open-ended one (``(a|ab)*``): these take exponential time;
* k open-ended repetitions side by side take a time of up to the text's length to the power of k,
  so the text may have at most ``MAX_STEPS ** (1 / k)`` characters.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

MAX_PATTERN_CHARS: Final = 500
MAX_TEXT_CHARS: Final = 100_000
MAX_STEPS: Final = 4e6
"""Some tens of milliseconds in the worst case."""

OPEN_ENDED_FROM: Final = 16
"""A repetition that may come so often, or without end, counts as open-ended."""

_REPEAT: Final = re.compile(r"[*+?]|\{(\d*)(,?)(\d*)\}")


class Unchecked(Exception):
    """The pattern is not run; the message says why."""


@dataclass(slots=True)
class _Group:
    open_ended: bool = False
    alternatives: bool = False


def matches(pattern: str, text: str, *, whole: bool = True) -> bool:
    """Whether ``pattern`` matches the whole of ``text`` (or anywhere in it).

    Raises `Unchecked` where the pattern is invalid, or may take too long on this text.
    """
    compiled, repetitions = _compiled(pattern)
    bound = MAX_TEXT_CHARS if repetitions == 0 else min(MAX_TEXT_CHARS, int(MAX_STEPS ** (1 / repetitions)))
    if not whole:
        # A search starts anew at each character: one more factor of the length.
        bound = min(bound, int(MAX_STEPS ** (1 / (repetitions + 1))))
    if len(text) > bound:
        raise Unchecked(f"the text is longer than the {bound} characters to which this pattern is safely applied")
    return (compiled.fullmatch(text) if whole else compiled.search(text)) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> tuple[re.Pattern[str], int]:
    if len(pattern) > MAX_PATTERN_CHARS:
        raise Unchecked(f"the pattern is longer than {MAX_PATTERN_CHARS} characters")
    repetitions = open_ended_repetitions(pattern)
    try:
        return re.compile(pattern), repetitions
    except (re.error, RecursionError, OverflowError) as error:
        raise Unchecked("the pattern is not a valid regular expression") from error


def open_ended_repetitions(pattern: str) -> int:
    """How many open-ended repetitions ``pattern`` has.

    Raises `Unchecked` for back-references and for repetitions that may take exponential time.
    """
    groups = [_Group()]
    total = 0
    place = 0
    closed: _Group | None = None
    while place < len(pattern):
        char = pattern[place]
        if repeat := _REPEAT.match(pattern, place):
            if _is_open_ended(repeat):
                if closed is not None and (closed.open_ended or closed.alternatives):
                    raise Unchecked("it repeats a group that itself repeats or branches")
                groups[-1].open_ended = True
                total += 1
            elif closed is not None and closed.open_ended and repeat.group(0) != "?":
                raise Unchecked("it repeats a group that itself repeats")
            place = repeat.end()
            # A lazy or possessive mark belongs to the repetition.
            place += pattern[place : place + 1] in ("?", "+")
            closed = None
            continue
        closed = None
        match char:
            case "\\":
                if pattern[place + 1 : place + 2].isdigit() and pattern[place + 1] != "0":
                    raise Unchecked("it has a back-reference")
                place += 2
            case "[":
                place = _class_end(pattern, place)
            case "(":
                if pattern.startswith("(?P=", place):
                    raise Unchecked("it has a back-reference")
                groups.append(_Group())
                place = _group_start(pattern, place)
            case ")":
                if len(groups) > 1:
                    closed = groups.pop()
                    groups[-1].open_ended |= closed.open_ended
                    groups[-1].alternatives |= closed.alternatives
                place += 1
            case "|":
                groups[-1].alternatives = True
                place += 1
            case _:
                place += 1
    return total


def _is_open_ended(repeat: re.Match[str]) -> bool:
    mark = repeat.group(0)
    if mark in "*+":
        return True
    if mark == "?":
        return False
    low, comma, high = repeat.groups()
    most = high if comma else low
    return not most or int(most[:9]) >= OPEN_ENDED_FROM


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
    end = place + 2
    while end < len(pattern) and pattern[end] not in ":=!>)":
        end += 1
    return end if pattern[end : end + 1] == ")" else end + 1
