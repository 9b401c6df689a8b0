"""The simulated verifier: mostly right about what the simulator itself knows, and asked in production's own words."""

from math import exp

import pytest

from routing.answer_checks.confidence_policy import ConfidenceSource
from routing.answer_checks.self_verification import verification_body
from routing.query import Query
from simulator.chat_types import ChatReply, ChatRequest
from simulator.model_behavior import reply
from simulator.model_strength import LEVELS, strength_of
from simulator.recordings import Recorded, Recordings
from simulator.seeded_random import seed_key, text_digest
from simulator.verifier_reply import ERROR, proposal_in, verdict
from tests.fleets import small_fleet

SEED = seed_key(7)
VERIFIER = small_fleet().models["mini"]
QUESTIONS = [f"How much is {n} + {n * 7}, and why?" for n in range(400)]


def asked(
    question: str,
    answer: str,
    *,
    source: ConfidenceSource = ConfidenceSource.SELF_VERIFICATION,
    recordings: Recordings | None = None,
) -> ChatReply:
    body = verification_body(Query(question), answer, verifier=VERIFIER, source=source)
    said = verdict(ChatRequest("gpt-5-mini", body["messages"][0]["content"]), seed=SEED, recordings=recordings or {})
    assert said is not None
    return said


def answer_of(model: str, question: str) -> str:
    level = LEVELS[strength_of(model)]
    return reply(ChatRequest(model, question), strength=level, seed=SEED, digest=text_digest(question)).text


def test_what_a_strong_model_says_is_mostly_taken_for_right_and_less_of_a_weak_one() -> None:
    strong, weak = (
        sum(asked(question, answer_of(model, question)).text == "Yes" for question in QUESTIONS) / len(QUESTIONS)
        for model in ("gpt-5", "gpt-5-nano")
    )
    assert strong > 1 - 2 * ERROR
    assert weak < strong - 0.1


def test_a_recorded_answer_is_judged_by_whether_it_was_right() -> None:
    def share(*, correct: bool) -> float:
        recordings = {text: {"small": Recorded(correct, f"answer to {text}")} for text in QUESTIONS}
        told = [asked(text, f"answer to {text}", recordings=recordings).text == "Yes" for text in QUESTIONS]
        return sum(told) / len(told)

    assert share(correct=True) == pytest.approx(1 - ERROR, abs=0.06)
    assert share(correct=False) == pytest.approx(ERROR, abs=0.06)


def test_a_percentage_is_stated_where_one_is_asked_for() -> None:
    said = asked("How much is 1 + 1?", answer_of("gpt-5", "How much is 1 + 1?"), source=ConfidenceSource.STATED)
    assert 0 <= int(said.text) <= 100


def test_a_verdict_has_a_probability_of_its_own() -> None:
    assert 0.5 < exp(asked("How much is 1 + 1?", "2").mean_logprob) < 1


def test_other_texts_are_no_verifications() -> None:
    assert proposal_in("Is the proposed answer correct?") is None
    assert verdict(ChatRequest("gpt-5", "Proposed answer: 4"), seed=SEED, recordings={}) is None
