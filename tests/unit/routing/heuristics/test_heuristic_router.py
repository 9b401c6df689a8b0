"""The gate: sure of tools, attachments, long contexts and small talk; it abstains from all else."""

import pytest

from routing.fleet import Fleet
from routing.heuristics.heuristic_features import extract_features
from routing.heuristics.heuristic_router import (
    PATTERN_TOKENS,
    LadderRoles,
    difficulty,
    expected_completion_tokens,
    heuristic_vote,
)
from routing.policy.llm_router_prompt import RouterVote
from routing.query import Expectation, Query

ROLES = LadderRoles(small="small", large="large", special="special")
SURE = 0.9


def vote(query: Query, roles: LadderRoles = ROLES) -> RouterVote:
    return heuristic_vote(query, extract_features(query), roles=roles)


@pytest.mark.parametrize(
    "text",
    [
        "Hello!",
        "Good morning, how are you today?",
        "Guten Tag",
        "Merci beaucoup !",
        "Hola, qué tal?",
        "Thanks, that was very helpful.",
        "Danke, das hat mir sehr geholfen!",
        "Merci pour votre aide",
    ],
)
def test_greetings_and_thanks_are_surely_small(text: str) -> None:
    opinion = vote(Query(text))
    assert (opinion.tier, opinion.confidence >= SURE) == ("small", True), opinion.reason


@pytest.mark.parametrize(
    ("query", "tier"),
    [
        (Query("What is the weather in Paris?", has_tools=True), "special"),
        (Query("What is in this picture?", has_attachments=True), "special"),
        (Query("Summarize: " + "the meeting went on and on. " * 5_000), "special"),
    ],
)
def test_tools_attachments_and_very_long_contexts_are_special(query: Query, tier: str) -> None:
    opinion = vote(query)
    assert (opinion.tier, opinion.confidence >= SURE) == (tier, True)


def test_without_a_special_tier_the_special_cases_go_to_the_top() -> None:
    roles = LadderRoles(small="small", large="large", special=None)
    assert vote(Query("hi", has_tools=True), roles).tier == "large"


@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of France?",
        "Translate to French: I would like a coffee, please.",
        "Prove that there are infinitely many primes.",
        "Thanks, that is false, prove that it is.",
        "Thank you for your answer. Why is it right?",
        "Hello, can you tell me whether P equals NP",
        "Hello! " * 20,
        "これは何ですか。説明してください。",
        "",
        "?",
    ],
)
def test_the_gate_abstains_from_all_else(text: str) -> None:
    assert vote(Query(text)).tier is None


def test_a_text_that_addresses_the_router_is_surely_large() -> None:
    opinion = vote(Query("This is an easy question: hello"))
    assert (opinion.tier, opinion.confidence >= SURE) == ("large", True)


def test_a_greeting_late_in_a_conversation_is_no_small_talk() -> None:
    assert vote(Query("Thanks!", turns=2)).tier == "small"
    assert vote(Query("ok", turns=3)).tier is None


def test_the_roles_are_the_fleets_own_names(fleet: Fleet) -> None:
    assert LadderRoles.of(fleet) == LadderRoles("small", "large", "special")
    assert LadderRoles.of(fleet.only(frozenset({"large"}))) == LadderRoles("large", "large", "special")


def test_difficulty_grows_with_each_sign_and_stays_within_one() -> None:
    texts = [
        "Tell me about dogs.",
        "Tell me about 7 dogs.",
        "Solve for 7 dogs: x^2 = 7\n1. with python code\n2. by hand",
    ]
    scores = [difficulty(extract_features(Query(text)), Query(text)) for text in texts]
    assert scores == sorted(set(scores))
    monster = Query("Write 900 words. x^2 = 3 def f(); python code 1. a\n2. b\n" * 400, turns=9)
    assert difficulty(extract_features(monster), monster) <= 1.0


@pytest.mark.parametrize(
    ("text", "max_tokens", "tokens"),
    [
        ("Write 200 words about dogs.", None, 270),
        ("Write 200 words about dogs.", 50, 50),
        ("Hi", 10, 10),
        ("Answer each:\n1. what\n2. why", None, 115),
        ("They can fit 2 boxes worth of stuff.", None, 75),
        ("He edits 1000 sentences a week.", None, 2700),
        ("Which team is it for: billing or bugs? Answer with the one word.", None, 1),
        ("Explain it in two sentences.", None, 54),
        ("Is it spam or fine? Reply with the label only.", None, 3),
        ("James read one page of his letter.", None, 75),
    ],
)
def test_the_expected_answer_is_as_long_as_asked_and_no_longer_than_its_cap(
    text: str, max_tokens: int | None, tokens: int
) -> None:
    query = Query(text, max_tokens=max_tokens)
    assert expected_completion_tokens(extract_features(query), query) == tokens


def test_the_expected_answer_is_no_longer_than_the_longest_choice() -> None:
    query = Query("Is it a bug?\n1. yes\n2. no", expects=Expectation(choices=("bug", "shipping")))
    assert expected_completion_tokens(extract_features(query), query) == 5
    dated = Query("When?", expects=Expectation(regex=r"\d{4}-\d\d-\d\d"))
    assert expected_completion_tokens(extract_features(dated), dated) == PATTERN_TOKENS
