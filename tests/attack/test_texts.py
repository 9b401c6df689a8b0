"""Texts of tenants and models: whatever reads them takes time linear in them."""

import json
import tracemalloc
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest

from cli.result_table import parse_fields
from evaluation.graders.final_answer import final_answer, final_choice, final_number, json_value
from evaluation.graders.grader_choice import choose_grader
from evaluation.graders.llm_judge import read_verdicts
from evaluation.graders.text_graders import (
    exact_match,
    json_fields_f1,
    same_choice,
    same_final_answer,
    same_number,
    token_f1,
)
from evaluation.models.answer_features import answer_shape
from evaluation.models.arithmetic_checks import plain_sums
from evaluation.models.query_features import query_shape
from evaluation.models.tokenizer import tokens_of
from evaluation.production.answer_agreement import agree
from evaluation.quality_floor.text_features import answer_features, pair_features, query_features
from routing.answer_checks.judge import judge
from routing.answer_checks.refusal_detection import is_refusal
from routing.answer_checks.self_consistency import agreement
from routing.answer_checks.shape_correction import correction_of
from routing.fleet import Fleet, Tier
from routing.heuristics.heuristic_features import category_of, extract_features
from routing.heuristics.language_detection import language_of, words_of
from routing.heuristics.unicode_obfuscation import is_disguised, normalize_homoglyphs
from routing.outcome import Completion, Usage
from routing.policy.decision import _undisguised
from routing.policy.llm_router_prompt import normalised
from routing.policy.llm_router_prompt import read as read_opinions
from routing.policy.routing_case import RoutingContext
from routing.prompt_size import size_of_body
from routing.query import Expectation, Query
from tests.attack.conftest import cpu_within

CHARS = 200_000
PREFIXED_CHARS = 30_000
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

FLEET = Fleet("t", False, {}, {}, {"small": TIER})

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

ANSWER_READERS: dict[str, Callable[[str], Any]] = {
    "corrections": lambda text: [correction_of(text, expects) for expects in SHAPES],
    "final answer": lambda text: (final_answer(text), final_choice(text), final_number(text), json_value(text)),
    "grades": lambda text: [grade(text, f"{text} x") for grade in GRADERS],
    "grader": lambda text: choose_grader([text]),
    "policy's features": lambda text: (answer_features(text, text), query_features(text), pair_features(text, "x")),
    "agreement": lambda text: (agree(text, f"{text} x"), agreement(text, f"{text} x", Query("What is it?"))),
    "verdicts": lambda text: (read_verdicts(text, 2), read_opinions(text, [Query("q")], fleet=FLEET)),
    "columns": parse_fields,
}

SHAPES = (Expectation(choices=("a", "b")), Expectation(json_object=True))
GRADERS = (exact_match, json_fields_f1, same_choice, same_final_answer, same_number, token_f1)
STARTS = ("```", "~~~json", "answer", "The answer is", '"answer":', "#### ", "\\boxed{", "1", "a", "option", "def ")
ENDS = ("", "x" * 21, " x y", "```")
RUNS = ("a", "9", "9,", " ", "\n", "\t ", "`", "{", '"', "\\", "```\n")
"""What a pattern may repeat where it has found one of `STARTS`."""


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


def test_many_choices_are_compared_soon() -> None:
    with cpu_within(1.0, "a million choices"):
        judged("A.", choices=("a",) * 1_000_000)
        correction_of("A.", Expectation(choices=("a",) * 1_000_000))


@pytest.mark.parametrize("below", [[0] * 9_000, dict.fromkeys(map(str, range(9_000)))], ids=["items", "keys"])
def test_a_long_key_is_not_repeated_for_all_that_is_below_it(below: Any) -> None:
    """A sample is graded in a worker: 130 kB that a model repeated took gigabytes of its memory. Here 200 MB."""
    text = json.dumps({"k" * 20_000: below})
    tracemalloc.start()
    try:
        assert json_fields_f1(text, text) == 1.0
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_sums_in_a_row_of_digits_are_looked_for_soon() -> None:
    for text in ("9" * 5_000, "9," * 2_500, "(9" * 2_500, "9.9+" * 1_250, "1+1=" * 1_250, "$" * 5_000):
        with cpu_within(0.5, f"sums in {text[:4]}…"):
            plain_sums(text)
    assert [(found.left, found.holds) for found in plain_sums("so $3 * 60 = $180 and 1,200 + 5.5=1205.5")] == [
        ("$3 * 60", True),
        ("1,200 + 5.5", True),
    ]


@pytest.mark.parametrize("reader", [*READERS, *(pytest.param(name, marks=pytest.mark.long) for name in ANSWER_READERS)])
def test_a_text_is_read_in_linear_time(reader: str) -> None:
    read = (READERS | ANSWER_READERS)[reader]
    for name, piece in PIECES.items():
        for end in ("", "!", "\u00e9x"):
            text = (piece * (CHARS // len(piece)))[:CHARS] + end
            with cpu_within(2.0, f"{reader} of {name}"):
                read(text)


ROWS = (
    "```" + " " * 100_000 + "x y",
    "```" + "a" * 100_000,
    "```" + "\n" * 100_000 + "x",
    "answer" + "\n" * 100_000,
    "9" * 100_000 + "x" * 21,
)
"""Each of them kept a pattern of ours busy for half a minute, or for hours."""


@pytest.mark.parametrize("reader", READERS | ANSWER_READERS)
def test_a_long_row_behind_what_a_pattern_looks_for_is_read_soon(reader: str) -> None:
    for row in ROWS:
        with cpu_within(1.0, f"{reader} of {row[:8]!r}…"):
            (READERS | ANSWER_READERS)[reader](row)


@pytest.mark.long
@pytest.mark.parametrize("reader", READERS | ANSWER_READERS)
def test_what_a_pattern_waits_for_does_not_make_a_long_row_slow(reader: str) -> None:
    """A pattern that may split a row in two ways looks at each split, once it has found what it begins with."""
    read = (READERS | ANSWER_READERS)[reader]
    for start in STARTS:
        for run in RUNS:
            row = run * (PREFIXED_CHARS // len(run))
            with cpu_within(1.0, f"{reader} of {start!r} and a row of {run!r}"):
                for end in ENDS:
                    read(start + row + end)


@pytest.mark.parametrize("text", ["\ufdfa" * 16_384, ("\ufdfa" + "\u4e00" * 5) * 2_700, "\uff21" * 16_384])
def test_texts_that_grow_when_normalized_are_measured_soon_however_many_a_body_has(text: str) -> None:
    """A worker measures its queries on the loop of all its calls, which seemed slow by seconds for 8 MB of these."""
    body = {"messages": [{"role": "user", "content": text}] * 20}
    with cpu_within(0.25, f"20 messages of {len(text):,} characters"):
        assert size_of_body(body).text_bound >= 20 * len(unicodedata.normalize("NFKC", text).encode())


def test_a_disguise_of_ligatures_is_seen_through_as_soon_as_any_other(shipped_fleet: Fleet) -> None:
    """A worker decides 200 queries in one go, on the loop of all its calls, which stood still for three seconds."""
    short, long = ("\u200b" + "\ufdfa" * length for length in (4_000, 1_300_000))
    with cpu_within(0.4, "features of 100 short ones"):
        for _ in range(100):
            assert extract_features(Query(short)).disguised
    case = RoutingContext(shipped_fleet).analyze(Query(long))
    with cpu_within(0.1, "what a classifier is shown of 4 MB"):
        assert _undisguised(case)
