"""Prints the installed packages that Pointsman does not need to run: those of its tests, and what only they need.

The image installs the whole of requirements.lock, with its hashes, and removes these again (Dockerfile).
"""

import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
EXTRAS = ("data", "otel")
KEPT = frozenset({"pip", "pointsman"})


def needed() -> set[str]:
    """The canonical names of what the project needs, and of what that needs in turn."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    roots = [*project["dependencies"], *(each for extra in EXTRAS for each in project["optional-dependencies"][extra])]
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    open_ = [Requirement(root) for root in roots]
    while open_:
        requirement = open_.pop()
        name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if (name, extras) not in seen:
            seen.add((name, extras))
            found.add(name)
            open_ += _requirements(name, extras)
    return found


def _requirements(name: str, extras: Iterable[str]) -> Iterator[Requirement]:
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in ("", *extras)):
            yield requirement


def unneeded() -> list[str]:
    """The canonical names of the others, sorted."""
    installed = {canonicalize_name(each.metadata["Name"]) for each in distributions()}
    return sorted(installed - needed() - KEPT)


if __name__ == "__main__":
    sys.stdout.write("".join(f"{name}\n" for name in unneeded()))
