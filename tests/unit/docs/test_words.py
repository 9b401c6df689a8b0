"""What users read is plain US English: pages, CLI help, and the string literals of the product."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from cli.main import app
from settings import ROOT

BANNED = re.compile(
    r"\b(mend(?:s|ed|ing)?|reckon(?:s|ed|ing)?|dearer|dearest|nobody|told|whoever|whosever"
    r"|be had|had every|come to|of ours"
    r"|anew|neighbours?|by whatever|held against|(?:an)?other [a-z]+ than"
    r"|(?<!there )(?:is|are) no (?!longer|more|less|better|cheaper|other)[a-z]+)\b",
    re.IGNORECASE,
)

PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted(ROOT.glob("docs/**/*.md"))
TEMPLATES = [*sorted(ROOT.glob("report/*.jinja")), *sorted(ROOT.glob("api/static/**/*.html"))]
NOT_THE_PRODUCT = {"benchmarks", "migrations", "tests"}

EXEMPT = {
    # Instructions to a model, under a version of their own: other words may change what it answers.
    "routing/policy/llm_router_prompt.py",
}


def _sources() -> list[Path]:
    packages = sorted(path.parent for path in ROOT.glob("*/__init__.py") if path.parent.name not in NOT_THE_PRODUCT)
    sources = [path for package in packages for path in sorted(package.rglob("*.py"))]
    return [path for path in sources if str(path.relative_to(ROOT)) not in EXEMPT]


def _found(text: str, first_line: int = 1) -> Iterator[tuple[int, str]]:
    """Line and banned phrase; phrases that a line break divides included."""
    for match in BANNED.finditer(re.sub(r"\n", " ", text)):
        yield first_line + text.count("\n", 0, match.start()), match[0]


def _literals(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each string literal that is prose: no docstring, and no single word (a key, a name, data)."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in docstrings:
            continue
        if " " in node.value:
            yield node.lineno, node.value


def _commands(command: Any) -> Iterator[Any]:
    yield command
    for child in getattr(command, "commands", {}).values():
        yield from _commands(child)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('raise ValueError("mend it")', ["mend"]),
        ('log(f"{n} lines are told")', ["told"]),
        ('say("the cost would " "be had")', ["be had"]),
        ('say("it is no number, and there is no other")', ["is no number"]),
        ('"""A docstring: nobody."""', []),
        ('row["told"]', []),
        ('say("to recommend")', []),
    ],
)
def test_a_banned_phrase_is_found_in_prose_and_nowhere_else(source: str, found: list[str]) -> None:
    assert [phrase for _, text in _literals(source) for _, phrase in _found(text)] == found


def test_a_phrase_over_a_line_break_is_found_on_its_first_line() -> None:
    assert list(_found("one\ntwo come\nto four")) == [(2, "come to")]


def test_no_page_and_no_template_has_a_banned_phrase() -> None:
    assert len(PAGES) > 30
    assert TEMPLATES
    assert [
        f"{path.relative_to(ROOT)}:{line}: {phrase}"
        for path in (*PAGES, *TEMPLATES)
        for line, phrase in _found(path.read_text(encoding="utf-8"))
    ] == []


def test_no_string_literal_of_the_product_has_a_banned_phrase() -> None:
    sources = _sources()
    assert len(sources) > 250
    assert [
        f"{path.relative_to(ROOT)}:{line}: {phrase}"
        for path in sources
        for line, text in _literals(path.read_text(encoding="utf-8"))
        for _, phrase in _found(text)
    ] == []


def test_no_command_explains_itself_by_a_banned_phrase() -> None:
    commands = list(_commands(typer.main.get_command(app)))
    assert len(commands) > 25
    assert [
        f"{Path(inspect.getsourcefile(command.callback) or '').relative_to(ROOT)}:"
        f"{inspect.getsourcelines(command.callback)[1]}: {phrase}"
        for command in commands
        if command.callback is not None
        for _, phrase in _found(command.help or "")
    ] == []
