"""Where words go and where data goes: data to stdout; words too, unless stdout is to be read by a program."""

import sys
from typing import Any, Final

import orjson
from rich.console import Console

_WIDE: Final = 160
"""Columns where no terminal says how many there are, so that tables lose nothing in a log."""


def _console(*, stderr: bool = False) -> Console:
    # No markup: what users and models wrote (a custom_id, a reason) is shown as it is.
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _WIDE
    return console


out = _console()
err = _console(stderr=True)


def emit(told: Any) -> None:
    """One JSON object on a line of its own on stdout."""
    sys.stdout.buffer.write(orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS) + b"\n")
    sys.stdout.flush()


def plain(words: str) -> str:
    """``words`` without what would steer a terminal."""
    return "".join(char if char.isprintable() else " " for char in words)


def lines(count: int) -> str:
    """So many lines, in words."""
    return f"{count:,} {'line' if count == 1 else 'lines'}"


def queries(count: int) -> str:
    """So many queries, in words."""
    return f"{count:,} {'query' if count == 1 else 'queries'}"
