"""Two real models, where there are any: LLAMA_SERVER (or llama-server on the PATH), SMALL_GGUF and LARGE_GGUF."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from benchmarks.real_models import Question, Trial, choose, is_right, questions
from settings import ROOT

HERE = shutil.which(os.environ.get("LLAMA_SERVER") or "llama-server") is not None and all(
    os.environ.get(name) for name in ("SMALL_GGUF", "LARGE_GGUF")
)


def test_a_few_questions_are_answered_by_two_real_models() -> None:
    if not HERE:
        why = "NOT RUN: no real models here; set LLAMA_SERVER, SMALL_GGUF and LARGE_GGUF"
        print(f"\n{why}", file=sys.stderr)
        pytest.skip(why)
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.real_models", "--limit", "10", "--cascade"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    told = json.loads(done.stdout[done.stdout.index("{") :])
    assert told["simulated"] is False
    assert told["questions"] == 10
    assert told["stayed_small"] + told["answered_large"] + told["failed"] == 10
    assert told["cost_usd"] > 0


def asked(*gold: object, **expects: object) -> Question:
    return Question({"custom_id": "q", "expects": expects or None}, gold)


@pytest.mark.parametrize(
    ("text", "question", "right"),
    [
        ("The capital of France is Paris.", asked("Paris"), True),
        ("Parisian cafés are in Lyon.", asked("Paris"), False),
        ("7 + 5 equals 12.", asked("12"), True),
        ("12 is 7 + 6, so it is 13.", asked("12"), False),
        ("A spider has eight legs.", asked("8", "eight"), True),
        ("1,500 meters", asked("1500"), True),
        ("yes", asked("yes", choices=["yes", "no"]), True),
        ("Yes, it is.", asked("yes", choices=["yes", "no"]), False),
        ('{"age": 8, "name": "Tom"}', asked({"name": "Tom", "age": 8}, json_schema={}), True),
        ("Tom is 8", asked({"name": "Tom", "age": 8}, json_schema={}), False),
    ],
)
def test_an_answer_is_right_by_its_gold_answers(text: str, question: Question, right: bool) -> None:
    assert is_right(text, question) is right


def test_every_question_has_a_gold_answer_and_none_is_in_both_files() -> None:
    run, calibration = questions("questions"), questions("calibration")
    assert (len(run), len(calibration)) == (200, 96)
    texts = [json.dumps(question.line["body"]["messages"]) for question in (*run, *calibration)]
    assert len(set(texts)) == len(texts)
    assert all(question.gold for question in (*run, *calibration))


def trials(*, small_usd: float) -> list[Trial]:
    """The small model is right where it is sure, the large one two times in three."""
    return [
        Trial(raw=n / 60, small_right=n >= 30, large_right=n % 3 > 0, small_usd=small_usd, large_usd=1.0)
        for n in range(60)
    ]


def test_a_cheap_model_that_knows_what_it_knows_is_used() -> None:
    choice = choose(trials(small_usd=0.1))
    assert choice.threshold is not None
    assert choice.curve is not None
    assert choice.cost_share < 0.7
    assert choice.right_share >= choice.large_right_share


def test_where_the_small_model_costs_more_than_it_saves_it_is_not_used() -> None:
    choice = choose(trials(small_usd=0.9))
    assert choice.threshold is None
    assert "more than the large model alone" in choice.why


def test_a_confidence_that_says_nothing_saves_nothing() -> None:
    flat = [
        Trial(raw=n / 60, small_right=n % 4 == 0, large_right=True, small_usd=0.1, large_usd=1.0) for n in range(60)
    ]
    assert choose(flat).threshold is None
