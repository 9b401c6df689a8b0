"""A router from a log: what was not asked is filled in."""

import numpy as np
import pytest

from evaluation.data.dataset_errors import EvaluationError
from evaluation.models.classifier import Classifier
from evaluation.production.labelled_log import LabelledLog
from evaluation.production.train_from_log import filled, train_from_log
from tests.unit.evaluation.synthetic_data import logged, outcome_lines

N = 400


@pytest.fixture(scope="module")
def book() -> LabelledLog:
    return logged(N)


def test_what_was_asked_stays_as_it_was_labelled(book: LabelledLog) -> None:
    told = filled(book)
    assert told[np.arange(N), book.chosen].tolist() == book.well.tolist()


def test_what_was_not_asked_is_a_probability_that_the_words_tell(book: LabelledLog) -> None:
    """The small model answers the easy questions nearly always, the hard ones one in five times."""
    told = filled(book)
    hard = np.array([line["domain"] == "maths" for line in outcome_lines(N, seed=3)])
    missing = book.chosen == 1
    small = told[:, 0]
    assert 0.0 < small[missing].min() < small[missing].max() < 1.0
    assert small[missing & hard].mean() < 0.4
    assert small[missing & ~hard].mean() > 0.7


def test_a_router_from_half_of_the_outcomes_knows_the_hard_ones(book: LabelledLog) -> None:
    model: Classifier = train_from_log(book, name="learned").classifier
    unseen = outcome_lines(200, seed=9)
    small = model([line["query"] for line in unseen])[:, 0]
    hard = np.array([line["domain"] == "maths" for line in unseen])
    # It answers 20 and 95 % of them well. What is filled in is shrunk towards the mean: held against that, the
    # probabilities would be 26 and 86 %.
    assert small[hard].mean() == pytest.approx(0.2, abs=0.06)
    assert small[~hard].mean() == pytest.approx(0.95, abs=0.04)


def test_the_same_log_makes_the_same_router(book: LabelledLog) -> None:
    one, other = (train_from_log(book, name="learned").classifier.parts() for _ in range(2))
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_tier_that_was_hardly_asked_is_reported() -> None:
    with pytest.raises(
        EvaluationError, match=r"has small 3\d\d, large \d+, and 400 texts\. fix: set router\.exploration"
    ):
        train_from_log(logged(N, large=0.05), name="learned")
