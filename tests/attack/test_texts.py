"""Texts of tenants and models: whatever reads them takes time linear in them."""

from collections.abc import Callable
from typing import Any

import pytest

from evaluation.models.answer_features import answer_shape
from evaluation.models.query_features import query_shape
from evaluation.models.tokenizer import tokens_of
from routing.answer_checks.refusal_detection import is_refusal
from routing.heuristics.heuristic_features import category_of, extract_features
from routing.heuristics.language_detection import language_of, words_of
from routing.heuristics.unicode_obfuscation import is_disguised, normalize_homoglyphs
from routing.policy.llm_router_prompt import normalised
from routing.prompt_size import size_of_body
from routing.query import Query
from tests.attack.conftest import within

CHARS = 200_000

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


@pytest.mark.parametrize("reader", READERS)
def test_a_text_is_read_in_linear_time(reader: str) -> None:
    for name, piece in PIECES.items():
        for end in ("", "!", "\u00e9x"):
            text = (piece * (CHARS // len(piece)))[:CHARS] + end
            with within(2.0, f"{reader} of {name}"):
                READERS[reader](text)
