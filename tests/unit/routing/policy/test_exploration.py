"""The number by chance of a query."""

import numpy as np
import pytest

from routing.policy.exploration import exploration_draw

DRAWN = np.array([exploration_draw(id_) for id_ in range(1, 20_001)])


def test_a_query_has_the_same_number_whenever_it_is_asked_for() -> None:
    assert [exploration_draw(id_) for id_ in range(1, 20_001)] == DRAWN.tolist()


@pytest.mark.parametrize("id_", [0, 1, 2**31, 2**63 - 1])
def test_it_is_at_least_0_and_less_than_1(id_: int) -> None:
    assert 0.0 <= exploration_draw(id_) < 1.0


def test_it_falls_everywhere_alike() -> None:
    counts, _ = np.histogram(DRAWN, bins=20, range=(0.0, 1.0))
    assert counts.min() > 900
    assert counts.max() < 1100


@pytest.mark.parametrize("step", [1, 2, 10, 256])
def test_one_id_tells_nothing_of_the_next(step: int) -> None:
    assert abs(np.corrcoef(DRAWN[:-step], DRAWN[step:])[0, 1]) < 0.03
