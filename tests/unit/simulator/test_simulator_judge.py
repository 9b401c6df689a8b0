"""The simulated judge: asked in production's own words, right but for its stated error and its bias for an order."""

import json
from collections import Counter

import pytest

from evaluation.graders.llm_judge import INSTRUCTIONS, JudgePair, JudgeVerdict, judge_messages, read_verdicts
from simulator.chat_types import ChatRequest
from simulator.judge_reply import verdicts
from simulator.recordings import Recorded, Recordings
from simulator.seeded_random import seed_key

SEED = seed_key(7)
QUESTIONS = [f"How much is {n} + {n * 7}?" for n in range(800)]
RECORDINGS = {
    text: {"small": Recorded(False, f"wrong {text}"), "large": Recorded(True, f"right {text}")} for text in QUESTIONS
}


def said(
    *, reference_first: bool, error: float, order_bias: float = 0.0, recordings: Recordings = RECORDINGS
) -> Counter[JudgeVerdict]:
    found: Counter[JudgeVerdict] = Counter()
    for start in range(0, len(QUESTIONS), 8):
        pairs = [JudgePair(text, f"wrong {text}", f"right {text}") for text in QUESTIONS[start : start + 8]]
        system, user = judge_messages(pairs, reference_first=reference_first)
        request = ChatRequest("judge", user["content"], system["content"])
        reply = verdicts(request, seed=SEED, recordings=recordings, error=error, order_bias=order_bias)
        assert reply is not None
        read = read_verdicts(reply.text, len(pairs))
        assert read is not None
        found.update(read)
    return found


def test_it_knows_what_was_recorded_as_right() -> None:
    assert said(reference_first=True, error=0.0) == {JudgeVerdict.FIRST: 800}
    assert said(reference_first=False, error=0.0) == {JudgeVerdict.SECOND: 800}


def test_it_errs_as_often_as_it_is_stated_both_ways_alike() -> None:
    found = said(reference_first=True, error=0.1)
    assert found[JudgeVerdict.FIRST] / 800 == pytest.approx(0.9, abs=0.03)
    assert found[JudgeVerdict.SECOND] / 800 == pytest.approx(0.05, abs=0.025)


def test_its_bias_is_for_what_is_shown_first() -> None:
    assert said(reference_first=True, error=0.0, order_bias=0.2) == {JudgeVerdict.FIRST: 800}
    found = said(reference_first=False, error=0.0, order_bias=0.2)
    assert found[JudgeVerdict.FIRST] / 800 == pytest.approx(0.2, abs=0.04)


def test_what_is_no_request_of_a_judge_is_none() -> None:
    asked = {"seed": SEED, "recordings": RECORDINGS, "error": 0.0, "order_bias": 0.0}
    item = json.dumps([{"question": "q", "first": "a", "second": "b"}])
    assert verdicts(ChatRequest("judge", item), **asked) is None  # type: ignore[arg-type]
    assert verdicts(ChatRequest("judge", "What is JSON?", INSTRUCTIONS), **asked) is None  # type: ignore[arg-type]
    assert verdicts(ChatRequest("judge", "[1]", INSTRUCTIONS), **asked) is None  # type: ignore[arg-type]


def test_between_grades_it_names_the_better_one_as_often_as_they_differ() -> None:
    graded = {
        text: {"small": Recorded(True, f"wrong {text}", 0.6), "large": Recorded(True, f"right {text}", 0.9)}
        for text in QUESTIONS
    }
    both = [said(reference_first=first, error=0.0, recordings=graded) for first in (True, False)]
    assert both[0][JudgeVerdict.FIRST] == both[1][JudgeVerdict.SECOND], "whichever is shown first"
    assert both[0][JudgeVerdict.FIRST] / 800 == pytest.approx(0.3, abs=0.05)
    assert both[0][JudgeVerdict.SECOND] == 0
