"""Queries of which every text is different, so that each answer can be held against its question."""

import hashlib
from collections.abc import Iterator, Sequence

import orjson

from submission.input_line import InputLine

_ASKS = (
    "What is the capital of country number {n}?",
    "How much is {n} + {n}?",
    "Prove, step by step, that the sum of the first {n} odd numbers is a square, and analyse the proof.",
    "Write a Python function for task {n}; compare two designs and justify the trade-offs.",
    "Translate word {n} into German.",
)


def prompt_of(tag: str, n: int) -> str:
    """The text of query ``n``."""
    return f"[{tag}-{n}] " + _ASKS[n % len(_ASKS)].format(n=n)


def sha_of(prompt: str) -> str:
    """The digest by which the simulator's log names a text."""
    return hashlib.sha256(prompt.strip().encode()).hexdigest()[:16]


def lines(tag: str, count: int, *, max_tokens: int = 200, choices: Sequence[str] = ()) -> Iterator[InputLine]:
    """``count`` valid lines; each expects one of ``choices``, where there are some."""
    asked = f" Reply with one of: {', '.join(choices)}" if choices else ""
    options = orjson.dumps({"expects": {"choices": choices}}) if choices else None
    for n in range(count):
        content = prompt_of(tag, n) + asked
        body = {"model": "auto", "max_tokens": max_tokens, "messages": [{"role": "user", "content": content}]}
        yield InputLine(n + 1, f"{tag}-{n}", orjson.dumps(body), options)
