"""Users' regular expressions, matched by RE2 in time linear in the text.

RE2 builds an automaton and never backtracks, so it supports neither lookaround nor back-references; a pattern with them
is refused. A match takes at most (instructions of the program) × (bytes of the text) steps, which `MAX_STEPS` bounds.
"""

from functools import lru_cache
from typing import Final

import re2

MAX_PATTERN_CHARS: Final = 500
MAX_STEPS: Final = 4_000_000
"""Takes tens of milliseconds if the automaton has too many states to be cached, and far less otherwise."""
_MAX_PROGRAM_BYTES: Final = 1 << 18
"""Maximum memory of RE2 for a program and its cached states. Compiling a program of this size takes milliseconds."""


class UnusablePattern(ValueError):
    """The pattern cannot be used. The message says why and quotes nothing of the pattern."""


def matches(pattern: str, text: str) -> bool:
    """Whether ``pattern`` matches the whole of ``text``.

    Raises `UnusablePattern` if RE2 cannot express the pattern, or if the text is too long for it.
    """
    program = _compiled(pattern)
    encoded = text.encode(errors="surrogatepass")
    longest = MAX_STEPS // program.programsize
    if len(encoded) > longest:
        raise UnusablePattern(f"the text is longer than the {longest} bytes to which this pattern is applied")
    return program.fullmatch(encoded) is not None


def find_pattern_error(pattern: str) -> str | None:
    """Return the error in ``pattern``, or None if it is valid."""
    try:
        _compiled(pattern)
    except UnusablePattern as error:
        return str(error)
    return None


def program_size(pattern: str) -> int | None:
    """Return the number of instructions of the program that RE2 compiles ``pattern`` to, or None if it does not
    compile."""
    try:
        return int(_compiled(pattern).programsize)
    except UnusablePattern:
        return None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re2._Regexp:
    if len(pattern) > MAX_PATTERN_CHARS:
        raise UnusablePattern(f"longer than {MAX_PATTERN_CHARS} characters")
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = _MAX_PROGRAM_BYTES
    try:
        return re2._Regexp(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        raise UnusablePattern(_reason(str(error))) from None


def _reason(error: str) -> str:
    """Return RE2's message without the part after the colon, which quotes the pattern."""
    if "(?=" in error or "(?!" in error or "(?<" in error:
        return "uses lookaround, which RE2 does not support"
    kind = error.strip("(),b'\"").partition(":")[0]
    return f"not a valid regular expression for RE2 ({kind})" if kind else "not a valid regular expression for RE2"
