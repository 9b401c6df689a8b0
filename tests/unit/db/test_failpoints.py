"""Failpoints: every guard that tests switch off is still where they look for it."""

import pytest

from db import failpoints
from db.failpoints import GUARDS
from db.sql import statement


@pytest.mark.parametrize(("guard", "name"), [(guard, name) for guard, names in GUARDS.items() for name in names])
def test_each_guard_is_in_its_statement(guard: str, name: str) -> None:
    whole = statement(name).text
    assert failpoints.without_guards(name, whole, given={f"without_{guard}": ""}) != whole


def test_a_guard_that_is_not_found_is_told() -> None:
    with pytest.raises(ValueError, match="mend the guard"):
        failpoints.without_guards("rescue", "SELECT 1", given={"without_rescue": ""})


def test_without_failpoints_a_statement_stays_as_it_is() -> None:
    assert failpoints.without_guards("rescue", "SELECT 1", given={}) == "SELECT 1"


def test_an_unknown_guard_is_refused() -> None:
    with pytest.raises(ValueError, match="no guard 'fences'"):
        failpoints.read("without_fences")


def test_failpoints_may_have_values() -> None:
    assert failpoints.read("publish_thrice, die_for_custom_id=q-1") == {
        "publish_thrice": "",
        "die_for_custom_id": "q-1",
    }
