"""Which grader compares a sample's answers, and what it gives."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from evaluation.graders.llm_judge import JudgePair, JudgeVerdict
from evaluation.graders.text_graders import GraderKind, grader
from routing.fleet import Fleet, Grading
from routing.pilot import GraderChoice, TierAnswer
from routing.query import NO_EXPECTATION, Expectation
from tasks.pilot.graded_sample import GradedSample
from tasks.pilot.grading import grade_sample, grader_kind, judge_pairs_of, judged_sample
from tasks.pilot.judging import JudgeReplies
from tasks.pilot.pilot_certification import grader_statement
from tasks.pilot.sample import SampledQuery
from tests.fleets import small_fleet

FLEET = small_fleet()
WITH_JUDGE = replace(FLEET, quality=Grading(judge="large"))
TEXT = "The committee discussed the budget at length, and then it adjourned until the following week. " * 4
SAID = "It talked about money, then went home."


def sampled(small: str, large: str, expects: Expectation = NO_EXPECTATION, *, gold: str | None = None) -> SampledQuery:
    answers = (TierAnswer("small", small, {}), TierAnswer("large", large, {}))
    return SampledQuery(1, "q", "What?", expects, answers, (0.1, 1.0), gold=gold)


def graded(sample: Sequence[SampledQuery], *, fleet: Fleet = FLEET, chosen: GraderChoice | None = None) -> GradedSample:
    kind = grader_kind(sample, chosen, fleet)
    context: Any = type("Context", (), {"fleet": fleet})
    return asyncio.run(grade_sample(sample, kind, known={}, batch_id=1, epoch=1, context=context))


def test_an_answer_that_no_validator_passed_has_grade_0_and_the_reference_1() -> None:
    found = graded([sampled("", "Paris"), sampled("paris.", "Paris"), sampled("Rome", "Paris")])
    assert found.grades == [[0.0, 1.0], [1.0, 1.0], [0.0, 1.0]]


def test_json_answers_are_compared_field_by_field() -> None:
    expects = Expectation(json_object=True)
    found = graded([sampled('{"a": 1, "b": 2}', '{"b": 2, "a": 1}', expects)] * 3)
    assert (found.grades, found.kind) == ([[1.0, 1.0]] * 3, GraderKind.JSON)


def test_without_a_judge_long_free_text_is_graded_by_common_words() -> None:
    found = graded([sampled("It was about money.", TEXT), sampled(TEXT, TEXT)])
    assert found.grades[0][0] < 0.5
    assert found.grades[1][0] == 1.0


@pytest.mark.parametrize(
    ("small", "large", "chosen", "kind"),
    [
        (SAID, TEXT, None, GraderKind.JUDGE),
        ("He was born in Vienna, in 1797.", "He was born in the city of Vienna.", None, GraderKind.JUDGE),
        ("Paris", "Paris", None, GraderKind.EXACT),
        ("#### 12", "The answer is 12", None, GraderKind.NUMBER),
        (SAID, TEXT, GraderChoice.AGREEMENT, GraderKind.TOKEN_F1),
        ("Paris", "Paris", GraderChoice.JUDGE, GraderKind.JUDGE),
        ("Paris", "Paris", GraderChoice.COMMAND, GraderKind.COMMAND),
    ],
)
def test_a_judge_grades_free_text_where_the_fleet_names_one_and_what_the_user_says(
    small: str, large: str, chosen: GraderChoice | None, kind: GraderKind
) -> None:
    assert grader_kind([sampled(small, large)] * 3, chosen, WITH_JUDGE) is kind


def test_an_expected_answer_is_the_reference_of_every_tier() -> None:
    found = graded([sampled("Paris", "Rome", gold="Paris"), sampled("Rome", "Paris", gold="Paris")])
    assert found.grades == [[1.0, 0.0], [0.0, 1.0]]


def test_the_judge_is_not_asked_about_what_is_empty_or_says_the_same() -> None:
    assert judge_pairs_of(sampled("", TEXT)) == []
    assert judge_pairs_of(sampled(TEXT.upper(), TEXT)) == []
    assert judge_pairs_of(sampled(SAID, TEXT)) == [JudgePair("What?", SAID, TEXT)]
    assert len(judge_pairs_of(sampled(SAID, TEXT, gold="Gold"))) == 2


FIRST, SECOND, SAME = JudgeVerdict.FIRST, JudgeVerdict.SECOND, JudgeVerdict.SAME


@pytest.mark.parametrize(
    ("reference_first", "reference_second", "grade", "inconsistency"),
    [
        (FIRST, SECOND, 0.0, 0.0),
        (SECOND, FIRST, 2.0, 0.0),
        (SAME, SAME, 1.0, 0.0),
        (FIRST, FIRST, 1.0, 1.0),
        (FIRST, SAME, 0.5, 0.75),
    ],
)
def test_each_order_counts_half(
    reference_first: JudgeVerdict, reference_second: JudgeVerdict, grade: float, inconsistency: float
) -> None:
    query = sampled(SAID, TEXT)
    digest = judge_pairs_of(query)[0].digest
    found = judged_sample([query], JudgeReplies({(digest, True): reference_first, (digest, False): reference_second}))
    assert (found.grades, found.inconsistencies) == ([[grade, 1.0]], [inconsistency])


def test_an_abstention_counts_as_a_loss_and_is_stated() -> None:
    query = sampled(SAID, TEXT)
    found = judged_sample([query], JudgeReplies({(judge_pairs_of(query)[0].digest, True): SAME}))
    assert (found.grades, found.abstained) == ([[0.0, 1.0]], 1)
    assert found.notes["judge"]["abstained"] == 1
    assert found.unreached, "an audit waits for no judge that is out of reach"
    refused = frozenset({judge_pairs_of(query)[0].digest})
    assert not judged_sample([query], JudgeReplies({}, refused)).unreached


def test_a_pair_that_the_budget_does_not_cover_is_no_abstention() -> None:
    query = sampled(SAID, TEXT)
    pair = frozenset({judge_pairs_of(query)[0].digest})
    found = judged_sample([query], JudgeReplies({}, unpaid=pair))
    assert (found.abstained, found.notes["judge"]["unpaid"]) == (0, 1)
    assert "the budget does not cover the judge's calls about 1 of the sampled answers" in str(found.failure)


def test_an_abstention_about_the_top_tier_counts_as_a_loss_of_the_others() -> None:
    query = sampled(SAID, TEXT, gold="Gold")
    assert judged_sample([query], JudgeReplies({})).grades == [[0.0, 1.0]]
    fleet = replace(FLEET, quality=Grading(command=("false",), command_timeout_s=20.0))
    found = graded([query], fleet=fleet, chosen=GraderChoice.COMMAND)
    assert (found.grades, found.abstained) == ([[0.0, 1.0]], 2)


def test_no_answer_is_better_than_an_expected_one() -> None:
    query = sampled(SAID, TEXT, gold="Gold")
    verdicts = {
        (pair.digest, first): SECOND if first else FIRST for pair in judge_pairs_of(query) for first in (True, False)
    }
    assert judged_sample([query], JudgeReplies(verdicts)).grades == [[1.0, 1.0]]


def test_what_a_judge_may_miss_grows_with_how_often_it_contradicts_itself() -> None:
    def missed(disagreeing: int) -> float:
        found = GradedSample(
            GraderKind.JUDGE, [[1.0, 1.0]] * 200, inconsistencies=[1.0] * disagreeing + [0.0] * (200 - disagreeing)
        )
        statement = grader_statement(found, known_at=0.995)
        assert statement.missed_known_at == 0.995
        return statement.missed

    assert 0.0 < missed(0) < missed(10) < missed(40) < 1.0
    assert missed(40) > 1 - (1 - 2 * 0.2) ** 0.5
    assert missed(120) == 1.0


def test_one_answer_is_graded_as_the_sample_of_its_batch_was() -> None:
    assert grader(GraderKind.NUMBER)("#### 12", "The answer is 12") == 1.0
    assert grader(GraderKind.NUMBER)("13", "The answer is 12") == 0.0
    assert grader(GraderKind.TOKEN_F1)("the red house", "a red house") > 0.0
