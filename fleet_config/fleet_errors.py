"""What is wrong in a fleet file, in words that say the mend."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Final

_SECRET: Final = re.compile(
    r"\b(?:sk|rk|pk|gsk|xai|key)[-_][\w-]{8,}|\bAIza[\w-]{20,}|(?i:\bbearer\s+\S{8,})|\b(?=\w*\d)(?=\w*[a-z])\w{32,}"
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where, and what to write instead. Never holds a value that may be a secret."""

    key: str
    wrong: str
    fix: str

    def __str__(self) -> str:
        return f"{self.key}: {self.wrong} {self.fix}"


class FleetError(ValueError):
    """A fleet file that cannot be used. ``problems`` has all of them; the message shows each on its line."""

    def __init__(self, path: Path, problems: Iterable[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__("\n".join([f"{path}: {count}", *(f"  {problem}" for problem in self.problems)]))


def closest(given: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that was likely meant."""
    return next(iter(get_close_matches(given, list(known), n=1)), None)


def choice(given: str, known: Iterable[str]) -> str:
    """The mend for a name that is none of ``known``: the one that was meant, or all of them."""
    names = list(known)
    close = closest(given, names)
    if close:
        return f"Did you mean {close}?"
    return f"Write one of: {', '.join(names)}." if names else "There is none yet."


def looks_secret(value: str) -> bool:
    """Whether ``value`` has the look of a vendor's key or token."""
    return _SECRET.search(value) is not None


def key(*path: object) -> str:
    """A key path as TOML writes it: ``models."gpt-4.1".price``. A secret that was pasted there is hidden."""
    return ".".join(_part(part) for part in path)


def _part(part: object) -> str:
    text = str(part)
    if looks_secret(text):
        return "***"
    if text.replace("_", "").replace("-", "").isalnum() and text.isascii():
        return text
    return json.dumps(text, ensure_ascii=False)  # a TOML string escapes what JSON's does
