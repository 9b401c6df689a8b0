"""Failpoints: every guard that tests leave out is still in its statement, and only the tests can leave it out."""

import os
import subprocess
import sys
import tomllib

import pytest

from db import failpoints
from db.sql import statement
from settings import ROOT
from tests.failpoints import GUARDS, VARIABLE, read

LISTED = "publish_thrice,without_cap,without_submit_once"
PRINT = (
    "from db import failpoints; from db.sql import statement;"
    "print(sorted(failpoints.armed), '1e9' in statement('claim').text)"
)


@pytest.mark.parametrize(("guard", "name"), [(guard, name) for guard, names in GUARDS.items() for name in names])
def test_each_guard_is_in_its_statement(guard: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = statement(name).text
    monkeypatch.setitem(failpoints.replacements, name, list(GUARDS[guard][name]))
    assert failpoints.without_guards(name, whole) != whole


def test_a_guard_that_its_statement_lacks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(failpoints.replacements, "rescue", list(GUARDS["rescue"]["rescue"]))
    with pytest.raises(ValueError, match="Correct GUARDS"):
        failpoints.without_guards("rescue", "SELECT 1")


def test_without_failpoints_a_statement_stays_as_it_is() -> None:
    assert failpoints.without_guards("rescue", "SELECT 1") == "SELECT 1"


def test_an_unknown_guard_is_an_error() -> None:
    with pytest.raises(ValueError, match="no guard 'fences'"):
        read("without_fences")


def test_failpoints_may_have_values() -> None:
    assert read("publish_thrice, die_for_custom_id=q-1") == {"publish_thrice": "", "die_for_custom_id": "q-1"}


def printed_by(*argv: str) -> str:
    environ = {**os.environ, VARIABLE: LISTED}
    command = [sys.executable, *argv]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True).stdout.strip()


def test_the_environment_alone_switches_no_failpoint_on() -> None:
    assert printed_by("-c", PRINT) == "[] False"


def test_a_process_that_the_tests_start_has_the_failpoints_of_its_environment() -> None:
    assert printed_by("-c", f"from tests.failpoints import arm; arm(); {PRINT}") == f"{sorted(LISTED.split(','))} True"


def test_no_module_of_the_product_reads_the_variable() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    sources = [path for package in listed for path in (ROOT / package.replace(".", "/")).glob("*.py")]
    assert sources
    assert [path for path in sources if VARIABLE in path.read_text()] == []
