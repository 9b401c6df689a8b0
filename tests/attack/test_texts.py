"""Texts of tenants and models: whatever reads them takes time linear in them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from evaluation.models.answer_features import answer_shape
from evaluation.models.arithmetic_checks import plain_sums
from evaluation.models.query_features import query_shape
from evaluation.models.tokenizer import tokens_of
from routing.answer_checks.judge import judge
from routing.answer_checks.refusal_detection import is_refusal
from routing.fleet import Tier
from routing.heuristics.heuristic_features import category_of, extract_features
from routing.heuristics.language_detection import language_of, words_of
from routing.heuristics.unicode_obfuscation import is_disguised, normalize_homoglyphs
from routing.outcome import Completion, Usage
from routing.policy.llm_router_prompt import normalised
from routing.prompt_size import size_of_body
from routing.query import Expectation, Query
from tests.attack.conftest import cpu_within

CHARS = 200_000
TIER = Tier("small", "small", 4, ("d",), None)

PIECES = {
    "letters": "a",
    "words": "word ",
    "sentences": "Is it? No. ",
    "blanks": " ",
    "lines": "\n",
    "lists": "1. a\n",
    "dashes": "-",
    "digits": "9",
    "sums": "1+1=",
    "brackets": "([{",
    "quotes": "\"'`",
    "code": "```\n",
    "slashes": "//\\",
    "tags": "<a ",
    "combining marks": "\u0315\u0300",
    "invisible": "\u200b\u00ad",
    "look-alikes": "а\u0435e",
    "half pairs": "\ud800",
    "ligatures": "ﷺ",
    "wide": "中文",
    "refusals": "I can't I'm sorry ",
    "commas": "a,",
}

READERS: dict[str, Callable[[str], Any]] = {
    "features": lambda text: category_of(extract_features(Query(text)), Query(text)),
    "refusal": is_refusal,
    "language": language_of,
    "words": words_of,
    "disguise": lambda text: (is_disguised(text), normalize_homoglyphs(text)),
    "cache key": normalised,
    "prompt size": lambda text: size_of_body({"messages": [{"role": "user", "content": text}]}),
    "question's shape": lambda text: query_shape([text], [tokens_of(text)]),
    "answer's shape": lambda text: answer_shape([text], [text]),
}


def judged(text: str, **expects: Any) -> None:
    answer = Completion(text, "stop", Usage(), {}, 1.0, "m", mean_logprob=-0.1)
    judge(answer, Query("What is it?", expects=Expectation(**expects)), tier=TIER)


@pytest.mark.long
@pytest.mark.parametrize(
    "expects",
    [
        {},
        {"context": "the word is of it " * 100},
        {"json_object": True},
        {"json_schema": {"items": {"type": "integer"}}},
        {"regex": "(.*)*x"},
    ],
    ids=lambda expects: ",".join(expects) or "nothing",
)
def test_the_longest_answer_of_a_model_is_judged_soon(expects: dict[str, Any]) -> None:
    for name, piece in PIECES.items():
        text = piece * (8_000_000 // len(piece.encode(errors="surrogatepass")))
        with cpu_within(1.5, f"8 MB of {name}, judged"):
            judged(text, **expects)
    numbers = json.dumps(list(range(900_000)))
    with cpu_within(1.5, "7 MB of JSON, judged"):
        judged(numbers, **expects)


def test_sums_in_a_row_of_digits_are_looked_for_soon() -> None:
    for text in ("9" * 5_000, "9," * 2_500, "(9" * 2_500, "9.9+" * 1_250, "1+1=" * 1_250, "$" * 5_000):
        with cpu_within(0.5, f"sums in {text[:4]}…"):
            plain_sums(text)
    assert [(found.left, found.holds) for found in plain_sums("so $3 * 60 = $180 and 1,200 + 5.5=1205.5")] == [
        ("$3 * 60", True),
        ("1,200 + 5.5", True),
    ]


@pytest.mark.parametrize("reader", READERS)
def test_a_text_is_read_in_linear_time(reader: str) -> None:
    for name, piece in PIECES.items():
        for end in ("", "!", "\u00e9x"):
            text = (piece * (CHARS // len(piece)))[:CHARS] + end
            with cpu_within(2.0, f"{reader} of {name}"):
                READERS[reader](text)
