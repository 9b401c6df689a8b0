"""The queries that `retrain` trains and tests on."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from cli.training.learn_from_log import _check_promotion_serves, _split, _training_overlap, _without
from evaluation.data.dataset import Dataset, Example, Kind
from evaluation.data.dataset_errors import EvaluationError
from evaluation.models.artifact_cache import DEFAULT, open_folder
from evaluation.production.labelled_log import LabelledDecision, LabelledLog, log_book
from evaluation.production.train_from_log import train_from_log
from routing.query import Query
from tests.fleets import small_fleet
from tests.unit.evaluation.synthetic_data import logged

FLEET = small_fleet()


def book(texts: Iterable[str]) -> LabelledLog:
    rows = [LabelledDecision(at, Query(text), "small", 0.5, "small", 1.0, 1.0, 0.1) for at, text in enumerate(texts)]
    return log_book(rows, FLEET)


def texts_of(log: LabelledLog) -> set[str]:
    return {query.text for query in log.queries}


def test_a_text_stays_on_its_side_while_the_log_grows() -> None:
    """Training queries of a router never test its successor: the router would win there."""
    old = [f"number {n}" for n in range(300)]
    train, test = _split(book(old), seed=0)
    train_later, test_later = _split(book([*(f"newer {n}" for n in range(200)), *old]), seed=0)
    assert texts_of(train) < texts_of(train_later)
    assert texts_of(test) < texts_of(test_later)
    assert 70 < len(test) < 130
    assert texts_of(test) != texts_of(_split(book(old), seed=1)[1])


def test_held_out_questions_are_not_trained_on(capsys: pytest.CaptureFixture[str]) -> None:
    examples = tuple(Example(id=f"e-{n}", line=n, query=f" number {n}\n", ok={}) for n in range(5))
    test_data = Dataset("held-out.jsonl", Kind.OUTCOMES, ("small", "medium", "large"), examples, "")
    assert texts_of(_without(book(f"number {n}" for n in range(8)), test_data)) == {"number 5", "number 6", "number 7"}
    assert "5 labeled queries are in held-out.jsonl too" in capsys.readouterr().err
    with pytest.raises(EvaluationError, match=r"all 4 labeled queries are in held-out\.jsonl too"):
        _without(book(f"number {n}" for n in range(4)), test_data)


def test_figures_on_the_training_log_of_a_router_have_a_warning() -> None:
    assert _training_overlap(open_folder(DEFAULT)) is None
    assert "learned was trained on this log" in (_training_overlap(train_from_log(logged(400), name="learned")) or "")


@pytest.mark.parametrize("router", [{"classifier": "v2"}, {"stages": ("gate",)}])
def test_no_router_is_promoted_for_a_fleet_that_would_not_use_it(router: dict[str, object]) -> None:
    fleet = replace(FLEET, router=replace(FLEET.router, stages=("gate", "classifier"), classifier="default"))
    _check_promotion_serves(fleet)
    with pytest.raises(EvaluationError, match="would not serve this fleet"):
        _check_promotion_serves(replace(fleet, router=replace(fleet.router, **router)))  # type: ignore[arg-type]  # by case
