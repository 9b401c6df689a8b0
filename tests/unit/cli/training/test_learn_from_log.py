"""What `retrain` learns from, and what it examines on."""

from collections.abc import Iterable
from dataclasses import replace

import pytest

from cli.training.learn_from_log import _check_promoting_helps, _flattery, _split, _without
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


def texts_of(some: LabelledLog) -> set[str]:
    return {query.text for query in some.queries}


def test_a_text_stays_on_its_side_while_the_log_grows() -> None:
    """What was taught never examines a successor, which its author would win there."""
    old = [f"number {n}" for n in range(300)]
    taught, kept = _split(book(old), seed=0)
    taught_later, kept_later = _split(book([*(f"newer {n}" for n in range(200)), *old]), seed=0)
    assert texts_of(taught) < texts_of(taught_later)
    assert texts_of(kept) < texts_of(kept_later)
    assert 70 < len(kept) < 130
    assert texts_of(kept) != texts_of(_split(book(old), seed=1)[1])


def test_what_is_asked_in_the_exam_is_not_taught(capsys: pytest.CaptureFixture[str]) -> None:
    examples = tuple(Example(id=f"e-{n}", line=n, query=f" number {n}\n", ok={}) for n in range(5))
    sheet = Dataset("held-out.jsonl", Kind.OUTCOMES, ("small", "medium", "large"), examples, "")
    assert texts_of(_without(book(f"number {n}" for n in range(8)), sheet)) == {"number 5", "number 6", "number 7"}
    assert "5 labelled queries stand in held-out.jsonl too" in capsys.readouterr().err
    with pytest.raises(EvaluationError, match=r"all 4 labelled queries stand in held-out\.jsonl too"):
        _without(book(f"number {n}" for n in range(4)), sheet)


def test_figures_on_the_log_from_which_a_router_learned_are_said_to_flatter_it() -> None:
    assert _flattery(open_folder(DEFAULT)) is None
    assert "learned learned from this log" in (_flattery(train_from_log(logged(400), name="learned")) or "")


@pytest.mark.parametrize("router", [{"classifier": "v2"}, {"stages": ("gate",)}])
def test_where_a_promoted_router_would_not_serve_none_is_promoted(router: dict[str, object]) -> None:
    fleet = replace(FLEET, router=replace(FLEET.router, stages=("gate", "classifier"), classifier="default"))
    _check_promoting_helps(fleet)
    with pytest.raises(EvaluationError, match="would not serve this fleet"):
        _check_promoting_helps(replace(fleet, router=replace(fleet.router, **router)))  # type: ignore[arg-type]  # by case
