"""The quick readings of a text find what the patterns find that they stand in for."""

import random
import string

import pytest

from simulator.chat_types import ChatRequest
from simulator.model_behavior import reply
from simulator.query_difficulty import visible, words_of
from simulator.seeded_random import text_digest

DOT = "·"
"""No letter, digit, sign or space, and not ASCII: with it a text is read by the patterns."""


def mixtures(alphabet: str) -> list[str]:
    chance = random.Random(11)
    return ["".join(chance.choices(alphabet, k=chance.randrange(40))) for _ in range(3000)]


@pytest.mark.parametrize("text", [*map(chr, range(128)), "it's 3rd_of May", ""])
def test_ascii_has_the_words_that_the_pattern_finds(text: str) -> None:
    assert words_of(f"a{text}b") == words_of(f"a{text}b{DOT}")


def test_mixtures_of_ascii_have_the_words_that_the_pattern_finds() -> None:
    for text in mixtures(string.ascii_lowercase + string.digits + "_ '-\n\x1c"):
        assert words_of(text) == words_of(text + DOT)


def test_a_sum_is_seen_in_ascii_as_by_the_pattern() -> None:
    assert visible("7 + 7.") > visible("7 a 7.")
    for text in mixtures("07ax+-*/^= \t\n\x1c\x1f"):
        assert visible(f"{text}.") == visible(f"{text}{DOT}"), repr(text)


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("Is it so, yes or no?", {"yes", "no"}),
        ("Is it so, TRUE or FALſE?", {"true", "falſe"}),
        ("Pıc\u212a from: red, green", {"red", "green"}),
        ("ONE OF THESE LABELS: x or y", {"x", "y"}),
        ("Chooſe FROM : up | down", {"up", "down"}),
    ],
)
def test_a_closed_list_is_found_in_any_case_of_its_words(text: str, answers: set[str]) -> None:
    assert reply(ChatRequest("gpt-5", text), strength=1.0, seed=b"", digest=text_digest(text)).text in answers
