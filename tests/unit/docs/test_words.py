"""Prose that users read is plain US English: README, pages, CLI help and the product's string literals."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import typer.main

from cli.main import app
from settings import ROOT

BANNED = re.compile(
    r"\b(mend|mends|mended|mending|reckon|reckons|reckoned|dearer|dearest|nobody|told|whoever|whosever"
    r"|be had|had every|come to|of ours)\b",
    re.IGNORECASE,
)
PRODUCT = (
    "api",
    "cli",
    "db",
    "evaluation",
    "fleet_config",
    "model_registry",
    "providers",
    "report",
    "routing",
    "simulator",
    "submission",
    "tasks",
    "telemetry",
    "workers",
)
# Words that are data, not prose: what the router, the judge and the simulator look for in texts of users and models.
WORDS_AS_DATA: dict[str, str] = {}


def _lines_of(path: Path) -> Iterator[tuple[int, str]]:
    yield from enumerate(path.read_text(encoding="utf-8").splitlines(), 1)


def _docstrings(tree: ast.AST) -> set[int]:
    """The ids of constants that are statements by themselves: docstrings are for readers of the code."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def _literals(path: Path) -> Iterator[tuple[int, str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = _docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.lineno, node.value
