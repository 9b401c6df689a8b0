"""How far a judge agrees with people, and what that leaves of a certificate."""

from dataclasses import replace

import pytest

from db.reports.batch_quality import QualityFigures, judge_agreement
from tests.unit.cli.test_batch_summary import CERTIFIED


def figures(pairs: list[tuple[float, float]], *, loss_bound: float = 0.1, missed: float = 0.0) -> QualityFigures:
    certificate = {"loss_bound": loss_bound, "grader": {"missed": missed}}
    return replace(CERTIFIED, certificate=certificate, judge_agreement=judge_agreement(pairs, offered=30))


def test_they_agree_where_both_find_the_answer_worse_as_good_or_better() -> None:
    found = judge_agreement([(1.0, 1.0), (0.5, 1.0), (0.0, 0.0), (-1.0, -1.0), (0.0, 1.0), (1.0, -1.0)], offered=30)
    assert found is not None
    assert (found.offered, found.labeled, found.agreed) == (30, 6, 4)
    assert found.interval[0] < 4 / 6 < found.interval[1]


def test_what_the_judge_misses_is_bounded_by_the_losses_that_people_see_alone() -> None:
    seen = judge_agreement([(1.0, 1.0)] * 10 + [(0.0, 0.0)] * 20, offered=30)
    half = judge_agreement([(0.5, 1.0)] * 10, offered=30)
    none = judge_agreement([(0.0, 0.0)] * 30, offered=30)
    assert seen is not None
    assert half is not None
    assert none is not None
    assert seen.missed == pytest.approx(1 - 0.05 ** (1 / 10))  # none of ten, exactly
    assert half.missed is not None
    assert 0.5 < half.missed < 0.9
    assert none.missed is None


def test_the_larger_share_of_missed_losses_counts_once() -> None:
    people = 1 - 0.05 ** (1 / 10)
    assert figures([(1.0, 1.0)] * 10).labeled_bound == pytest.approx(1 - 0.1 / (1 - people))
    assert figures([(1.0, 1.0)] * 10, missed=0.1).labeled_bound == pytest.approx(1 - 0.1 * 0.9 / (1 - people))
    assert figures([(1.0, 1.0)] * 10, missed=0.4).labeled_bound == pytest.approx(0.9)
    assert figures([(0.0, 1.0)] * 10).labeled_bound == 0.0
    assert figures([(0.0, 0.0)] * 10).labeled_bound is None
    assert figures([]).labeled_bound is None
