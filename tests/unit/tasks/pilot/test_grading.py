"""Which grader compares a sample's answers, and what it gives."""

from evaluation.graders.text_graders import GraderKind, grader
from routing.pilot import TierAnswer
from routing.query import NO_EXPECTATION, Expectation
from tasks.pilot.grading import grade_sample
from tasks.pilot.sample import SampledQuery


def sampled(small: str, large: str, expects: Expectation = NO_EXPECTATION) -> SampledQuery:
    answers = (TierAnswer("small", small, {}), TierAnswer("large", large, {}))
    return SampledQuery(1, "q", "What?", expects, answers, (0.1, 1.0))


def test_an_answer_that_no_validator_passed_has_grade_0_and_the_reference_1() -> None:
    grades, mix = grade_sample([sampled("", "Paris"), sampled("paris.", "Paris"), sampled("Rome", "Paris")])
    assert grades == [[0.0, 1.0], [1.0, 1.0], [0.0, 1.0]]
    assert sum(mix.values()) == 3


def test_json_answers_are_compared_field_by_field() -> None:
    expects = Expectation(json_object=True)
    grades, mix = grade_sample([sampled('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', expects)] * 3)
    assert (grades, mix) == ([[1.0, 1.0]] * 3, {"json": 3})


def test_long_free_text_is_graded_by_common_words_and_never_counts_as_the_same_by_luck() -> None:
    text = "The committee discussed the budget at length, and then it adjourned until the following week. " * 4
    grades, _ = grade_sample([sampled("It was about money.", text), sampled(text, text)])
    assert grades[0][0] < 0.5
    assert grades[1][0] == 1.0


def test_one_answer_is_graded_as_the_sample_of_its_batch_was() -> None:
    assert grader(GraderKind.NUMBER)("#### 12", "The answer is 12") == 1.0
    assert grader(GraderKind.NUMBER)("13", "The answer is 12") == 0.0
    assert grader(GraderKind.TOKEN_F1)("the red house", "a red house") > 0.0
