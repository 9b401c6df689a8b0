"""How a batch's cost is told beside its plan."""

import pytest

from cli.batch_summary import _apart


@pytest.mark.parametrize(("actual", "told"), [(0.171, "82.9 % less"), (1.5, "50.0 % more"), (1.0002, "just that")])
def test_what_a_batch_came_to_is_told_as_less_or_more_than_its_plan(actual: float, told: str) -> None:
    assert _apart(actual, 1.0) == told
