"""What a simulated model says depends on the seed, the model and the text, and on nothing else."""

import json
from collections.abc import Iterator
from math import exp
from pathlib import Path
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.chat_types import ChatReply, ChatRequest, spread_logprobs
from simulator.model_behavior import reply
from simulator.model_strength import LEVELS, Strength, strength_of
from simulator.query_difficulty import hidden, visible
from simulator.seeded_random import seed_key, seeded_random, text_digest
from tests.unit.simulator_fixtures import EASY, HARD, Simulated, running, text_of

ROUTER = "POINTSMAN-ROUTER v1\nTIERS: small, medium, large, special\nAnswer with a JSON array."


def answer(text: str, *, model: str = "gpt-5-nano", seed: int = 0, system: str = "") -> ChatReply:
    ask = ChatRequest(model, text, system, len(text) + len(system))
    return reply(ask, strength=LEVELS[strength_of(model)], seed=seed_key(seed), digest=text_digest(text))


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulated]:
    with running(tmp_path_factory.mktemp("simulator"), seed=3) as simulated:
        yield simulated


@pytest.mark.parametrize(
    ("model", "strength"),
    [
        ("gpt-5-nano", Strength.SMALL),
        ("gemini-2.5-flash-lite", Strength.SMALL),
        ("claude-haiku-4-5", Strength.SMALL),
        ("mixtral-8x7b-instruct-v0.1", Strength.SMALL),
        ("mistral-small-latest", Strength.SMALL),
        ("gpt-5-mini", Strength.MEDIUM),
        ("gemini-2.5-flash", Strength.MEDIUM),
        ("claude-sonnet-4-5", Strength.MEDIUM),
        ("gemini-2.5-pro", Strength.LARGE),
        ("gpt-4-1106-preview", Strength.LARGE),
        ("gpt-5", Strength.LARGE),
    ],
)
def test_a_models_name_tells_its_strength_by_whole_words(model: str, strength: Strength) -> None:
    assert strength_of(model) == strength


def test_the_same_question_gets_the_same_answer_whatever_came_before(simulated: Simulated) -> None:
    first = [simulated.ask(text, extra={"logprobs": True}).json() for text in (EASY, HARD, "Hello")]
    again = [simulated.ask(text, extra={"logprobs": True}).json() for text in ("Hello", HARD, EASY)]
    for one, other in zip(first, reversed(again), strict=True):
        assert one["choices"] == other["choices"]
        assert one["usage"] == other["usage"]


def test_the_same_seed_gives_the_same_answers_in_another_process(simulated: Simulated, tmp_path: Path) -> None:
    texts = [f"Question {number}: why?" for number in range(20)]
    with running(tmp_path, seed=3) as other:
        assert [text_of("openai", other.ask(text).json()) for text in texts] == [
            text_of("openai", simulated.ask(text).json()) for text in texts
        ]


def test_another_seed_gives_other_answers() -> None:
    texts = [f"Question {number}: why?" for number in range(50)]
    assert [answer(text, seed=1).mean_logprob for text in texts] != [
        answer(text, seed=2).mean_logprob for text in texts
    ]


@given(st.text(max_size=3000), st.floats(0, 1, exclude_max=True))
def test_difficulty_is_between_0_and_1_for_any_text(text: str, draw: float) -> None:
    assert 0 <= hidden(text, draw=draw) <= 1


def test_analysis_mathematics_code_and_length_make_a_query_harder() -> None:
    plain = visible(EASY)
    assert visible(HARD) > plain
    assert visible("What is 3 * 4 + 5, and how many are left?") > plain
    assert visible("Write a python function with unit tests.") > plain
    assert visible("word " * 500) > plain


def test_a_strong_model_is_sure_more_often_than_a_weak_one_and_the_weak_one_knows_it() -> None:
    texts = [f"Prove the equation, then compare it with case {number}." for number in range(200)]
    weak = [exp(answer(text).mean_logprob) for text in texts]
    strong = [exp(answer(text, model="gpt-5").mean_logprob) for text in texts]
    assert mean(weak) < 0.6 < 0.75 < mean(strong)
    assert any(confidence > 0.8 for confidence in weak), "some are confidently wrong"


def test_an_easy_query_is_answered_well_by_the_small_model() -> None:
    confidences = [exp(answer(f"What is the capital of country {number}?").mean_logprob) for number in range(100)]
    assert sum(confidence > 0.7 for confidence in confidences) > 70


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("Is Oslo in Norway? Answer yes or no.", {"yes", "no"}),
        ("Classify the review. Answer with one of: positive, negative, neutral.", {"positive", "negative", "neutral"}),
    ],
)
def test_a_closed_list_of_choices_is_kept_to(text: str, allowed: set[str]) -> None:
    assert answer(text, model="gpt-5").text in allowed


def test_json_asked_for_in_words_has_the_named_keys() -> None:
    said = answer("Return JSON with the keys name, age and city. The text: Ann, 41, from Oslo.", model="gpt-5").text
    assert set(json.loads(said)) == {"name", "age", "city"}


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Warum ist der Himmel blau und nicht die Erde?", "Antwort"),
        ("Pourquoi le ciel est bleu et que dit la science dans les livres?", "réponse"),
        ("Translate “good morning” into Spanish.", "respuesta"),
    ],
)
def test_an_answer_is_in_the_language_of_the_question(text: str, word: str) -> None:
    replies = [answer(f"{text} ({number})", model="gpt-5").text for number in range(5)]
    assert any(word in said for said in replies)


@given(st.text(min_size=1, max_size=500), st.floats(-3, -0.01))
def test_pseudo_tokens_join_to_the_text_and_keep_the_mean(text: str, log_probability: float) -> None:
    tokens = spread_logprobs(text, log_probability)
    assert "".join(chunk for chunk, _ in tokens) == text
    assert len(tokens) <= 16
    assert mean(each for _, each in tokens) == pytest.approx(log_probability, abs=1e-5)


def test_a_router_prompt_gets_one_tier_per_query_from_the_closed_list() -> None:
    blocks = [f'<query id="{number}">{text}</query>' for number, text in enumerate((EASY, HARD, "See the attachment."))]
    rows = json.loads(answer("\n".join(blocks), system=ROUTER).text)
    assert [row["id"] for row in rows] == [0, 1, 2]
    assert [row["tier"] for row in rows] == ["small", "large", "special"]
    assert all(0 <= row["confidence"] <= 1 for row in rows)


def test_a_router_keeps_to_two_tiers_if_there_are_two_and_reads_escaped_text() -> None:
    system = ROUTER.replace("small, medium, large, special", "cheap, dear")
    escaped = "Prove this &amp; derive it: &lt;query&gt; step by step, and analyse the implications."
    blocks = f'<query id="7">{EASY}</query><query id="8">{escaped}</query>'
    rows = json.loads(answer(blocks, system=system).text)
    assert [(row["id"], row["tier"]) for row in rows] == [(7, "cheap"), (8, "dear")]


def test_draws_are_uniform_enough_and_depend_on_where_one_part_ends() -> None:
    values = [seeded_random(b"seed", str(number).encode())[0] for number in range(2000)]
    assert 0.45 < mean(values) < 0.55
    assert min(values) >= 0
    assert max(values) < 1
    assert seeded_random(b"", b"ab", b"c").digest != seeded_random(b"", b"a", b"bc").digest
