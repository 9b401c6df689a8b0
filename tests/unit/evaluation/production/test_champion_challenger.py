"""Whether a router may take over: seldom where it is no better, and only on enough that tells them apart."""

import numpy as np
import pytest

from evaluation.metrics.policy_choices import Choices
from evaluation.production.champion_challenger import LogExam, OutcomeExam, PromotionVerdict, run_promotion_test
from evaluation.production.labelled_log import LabelledLog
from routing.query import Query

TIERS = ("small", "medium", "large")
WEIGHT = 3.0
LOGS = 120


def exam_of(
    n: int, *, seed: int, exploration: float, copies: int = 1, better: float = 0.0
) -> tuple[LogExam, Choices, Choices]:
    """A log of an incumbent that sends everything to the small tier, and a candidate that sends half elsewhere.

    All tiers cost the same and are right seven times in ten, the more expensive ones by ``better`` more often.
    """
    random = np.random.default_rng(seed)
    text = np.repeat(np.arange(n // copies), copies)
    right = random.random((n // copies, 3)) < np.array([0.7, 0.7 + better, 0.7 + better])
    usual = np.zeros(n, dtype=np.int64)
    other = np.where(random.random(n // copies) < 0.5, random.integers(1, 3, n // copies), 0)[text]
    chosen = np.where(random.random(n) < exploration, random.integers(0, 3, n), usual)
    propensity = np.where(chosen == usual, 1 - exploration * 2 / 3, exploration / 3)
    grade = right[text, chosen].astype(float)
    queries = tuple(Query(f"number {each}") for each in text)
    book = LabelledLog(TIERS, queries, chosen, propensity, grade, grade, np.ones(n), np.zeros(n, dtype=np.bool_))
    candidate, incumbent = (Choices(np.eye(3)[policy], np.full((n, 3), 0.5)) for policy in (other, usual))
    return LogExam(book, book.log(), WEIGHT * (1.0 - grade)), candidate, incumbent


def wins(n: int, *, exploration: float, copies: int = 1) -> float:
    """The share of logs on which a candidate that is as good as the incumbent is called better than it."""
    won = 0
    for seed in range(LOGS):
        exam, candidate, incumbent = exam_of(n, seed=seed, exploration=exploration, copies=copies)
        told = run_promotion_test(exam, candidate=candidate, incumbent=incumbent, rules={}, tiers=TIERS, draws=200)
        won += told.comparisons[0].is_won
    return won / LOGS


@pytest.mark.parametrize(
    ("n", "exploration", "copies"),
    [
        pytest.param(900, 0.6, 1, id="much is explored"),
        pytest.param(700, 0.05, 1, id="little is explored"),
        pytest.param(1500, 0.6, 10, id="each text comes ten times"),
    ],
)
def test_what_is_no_better_is_seldom_called_better(n: int, exploration: float, copies: int) -> None:
    # 5 % of 120 are 6; more than 12 would come by chance once in 150 times.
    assert wins(n, exploration=exploration, copies=copies) <= 12 / LOGS


def test_what_is_better_is_called_so() -> None:
    exam, candidate, incumbent = exam_of(3000, seed=1, exploration=0.6, better=0.25)
    told = run_promotion_test(exam, candidate=candidate, incumbent=incumbent, rules={}, tiers=TIERS)
    assert told.comparisons[0].is_won
    assert told.comparisons[0].saved == pytest.approx(WEIGHT * 0.25 / 2, abs=0.15)


def counted(n: int) -> PromotionVerdict:
    """A candidate that is right on ``n`` of 500 queries on which the incumbent is wrong; else they do the same."""
    losses = np.zeros((500, 2))
    losses[:, 0] = 1.0
    policy = np.eye(2)[np.r_[np.ones(n, np.int64), np.zeros(500 - n, np.int64)]]
    ever = np.eye(2)[np.zeros(500, np.int64)]
    beliefs = np.full((500, 2), 0.5)
    exam = OutcomeExam([Query(f"number {each}") for each in range(500)], losses)
    return run_promotion_test(
        exam, candidate=Choices(policy, beliefs), incumbent=Choices(ever, beliefs), rules={}, tiers=("small", "large")
    )


@pytest.mark.parametrize(("n", "is_won"), [(49, False), (50, True)])
def test_too_few_queries_that_tell_them_apart_leave_a_doubt(n: int, is_won: bool) -> None:
    told = counted(n)
    assert told.comparisons[0].low > 0
    assert told.comparisons[0].is_won is is_won
    assert ("evidence worth only 49 of 50 queries" in told.words) is not is_won
