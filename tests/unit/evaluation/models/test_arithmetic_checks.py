"""Sums in answers are read and worked out again, and nothing is ever executed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.models.answer_features import NAMES, answer_shape
from evaluation.models.arithmetic_checks import marked_sums, numbers_in, plain_sums, value_of


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1+2*3", 7), ("(1+2)*3", 9), ("2 x 3", 6), ("7 ÷ 2", 3.5), ("-4+1", -3), ("$1,200 * 2", 2400),
        ("50% * 40", 20), ("10-2-3", 5), ("8/2/2", 2), (".5*4", 2), ("2*(3+(4-1))", 12), ("3 \\* 60", 180),
    ],
)  # fmt: skip
def test_an_expression_is_worked_out(expression: str, value: float) -> None:
    assert value_of(expression) == pytest.approx(value)


@pytest.mark.parametrize(
    "expression",
    [
        "", "1/0", "2**9999", "9" * 400, "(" * 50 + "1" + ")" * 50, "1 +", "a*b", "__import__('os')", "(1", "1)",
        "2 3 +", "1..2",
    ],
)  # fmt: skip
def test_what_is_no_plain_sum_has_no_value(expression: str) -> None:
    assert value_of(expression) is None


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    value_of(text)
    assert answer_shape([text], [text]).shape == (1, len(NAMES))


def test_marked_sums_are_checked() -> None:
    held = [(each.left, each.holds) for each in marked_sums("<<3*60=180>> then <<180+1=200>> and <<x=3>>")]
    assert held == [("3*60", True), ("180+1", False), ("x", None)]


def test_sums_in_the_running_text_are_checked_and_marked_ones_left_to_the_others() -> None:
    held = [(each.right, each.holds) for each in plain_sums("He runs 3 x 60 = <<3*60=180>>180 m, so $5 + $4 = $10.")]
    assert held == [("180", True), ("10", False)]


def test_a_rounded_result_holds() -> None:
    assert [each.holds for each in marked_sums("<<60/7=8.57>>")] == [True]


def test_numbers_are_read_with_their_thousands() -> None:
    assert numbers_in("1,200 people, 3.5 hours and .5 of it") == [1200, 3.5, 0.5]


def _shape(question: str, answer: str) -> dict[str, float]:
    return dict(zip(NAMES, answer_shape([question], [answer])[0].tolist(), strict=True))


def test_the_shape_of_an_answer_tells_what_is_doubtful_in_it() -> None:
    sound = _shape("Ann has 3 bags of 4 nuts. How many?", "3*4=<<3*4=12>>12\n#### 12")
    odd = _shape("Ann has 3 bags of 4 nuts. How many?", "But 3*5=<<3*5=16>>16, perhaps\n#### 2.5 nuts")
    assert (sound["marked sums fail"], odd["marked sums fail"]) == (0, 1)
    assert (sound["fraction"], odd["fraction"]) == (0, 1)
    assert (sound["new numbers"], odd["new numbers"]) == (0, 1)
    assert (sound["words after it"], odd["words after it"]) == (0, 1)
    assert sound["is last result"] == 1
    assert odd["hedges"] == 2


def test_a_result_that_no_later_sum_uses_is_counted() -> None:
    told = "<<2+3=5>> <<4+4=8>> <<8*2=16>>"
    assert _shape("2 3 4?", told)["unused results"] == 1
