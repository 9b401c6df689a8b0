"""What is wrong in a fleet file, in words that say the mend."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where, and what to write instead. Never holds a value that may be a secret."""

    key: str
    wrong: str
    mend: str

    def __str__(self) -> str:
        return f"{self.key}: {self.wrong} {self.mend}"


class FleetError(ValueError):
    """A fleet file that cannot be used. ``problems`` has all of them; the message shows each on its line."""

    def __init__(self, path: Path, problems: Iterable[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{path}: {count}", *(f"  {problem}" for problem in self.problems)]))


def choice(given: str, known: Iterable[str]) -> str:
    """The mend for a name that is none of ``known``: the one that was meant, or all of them."""
    names = list(known)
    close = get_close_matches(given, names, n=1)
    if close:
        return f"Did you mean {close[0]}?"
    return f"Write one of: {', '.join(names)}." if names else "There is none yet."


def key(*path: object) -> str:
    """A key path as TOML writes it: ``models."gpt-4.1".price``."""
    return ".".join(_part(part) for part in path)


def _part(part: object) -> str:
    text = str(part)
    return text if text.replace("_", "").replace("-", "").isalnum() and text.isascii() else f'"{text}"'
