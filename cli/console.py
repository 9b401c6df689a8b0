"""Console output: data on stdout, messages on stderr."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

_LOG_COLUMNS: Final = 160
"""The width without a terminal, so that tables in a log lose nothing."""


class _PlainConsole(Console):
    """A console that prints text without its control characters, because `rich` does not remove escape sequences."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment("\n".join(map(plain, segment.text.split("\n"))), segment.style)


def _console(*, stderr: bool = False) -> Console:
    # No markup: text of users and models (a custom_id, a reason) is data.
    console = _PlainConsole(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _LOG_COLUMNS
    return console


out = _console()
err = _console(stderr=True)


def notice(text: str) -> None:
    """Print progress of the command on stderr."""
    err.print(text, style="dim")


def warn(text: str) -> None:
    """Print a warning on stderr."""
    err.print(text, style="yellow")


def emit(value: Any) -> None:
    """Write one JSON object as one line on stdout."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS) + b"\n")
    sys.stdout.flush()


def plain(text: str) -> str:
    """Return ``text`` without characters that control a terminal."""
    return "".join(char if char.isprintable() else " " for char in text)


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """Return a text such as ``1 line`` or ``2,000 lines``."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def queries(count: int) -> str:
    """Return a text such as ``1 query`` or ``2,000 queries``."""
    return plural(count, "query", "queries")


def table(text_columns: Sequence[str], number_columns: Sequence[str] = ()) -> Table:
    """Return an empty table without borders. Numbers are right-aligned."""
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in text_columns:
        grid.add_column(name)
    for name in number_columns:
        grid.add_column(name, justify="right", no_wrap=True)
    return grid
