"""Problems of a fleet file, each with its fix."""

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
    """One problem with its key and its fix. It never contains a value that may be a secret."""

    key: str
    wrong: str
    fix: str

    def __str__(self) -> str:
        return f"{self.key}: {self.wrong} {self.fix}"


class FleetError(ValueError):
    """An invalid fleet file. The message has one line per problem."""

    def __init__(self, path: Path, problems: Iterable[Problem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problem{'' if len(self.problems) == 1 else 's'}"
        super().__init__("\n".join([f"{path}: {count}", *(f"  {problem}" for problem in self.problems)]))


def closest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to a misspelled one."""
    return next(iter(get_close_matches(name, list(known), n=1)), None)


def choice(name: str, known: Iterable[str]) -> str:
    """Return the fix for an unknown name: a similar known name, or all known names."""
    names = list(known)
    if similar := closest(name, names):
        return f"Did you mean {similar}?"
    return f"Use one of: {', '.join(names)}." if names else "Define one first."


def looks_secret(value: str) -> bool:
    """Whether ``value`` looks like an API key or token."""
    return _SECRET.search(value) is not None


def key(*path: object) -> str:
    """Return a key path in TOML form: ``models."gpt-4.1".price``. A secret that was pasted as a key is hidden."""
    return ".".join(_part(part) for part in path)


def _part(part: object) -> str:
    text = str(part)
    if looks_secret(text):
        return "***"
    if text.replace("_", "").replace("-", "").isalnum() and text.isascii():
        return text
    return json.dumps(text, ensure_ascii=False)  # TOML strings have the escapes of JSON
