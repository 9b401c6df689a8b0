"""Queries of which every text is different, or meant to be the same: each answer can be held against its question."""

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


def lines(
    tag: str, count: int, *, max_tokens: int = 200, choices: Sequence[str] = (), repeated: float = 0.0
) -> Iterator[InputLine]:
    """``count`` valid lines; each expects one of ``choices``, where there are some.

    The share ``repeated`` of them asks at temperature 0 what an earlier one asks.
    """
    asked = f" Reply with one of: {', '.join(choices)}" if choices else ""
    options = orjson.dumps({"expects": {"choices": choices}}) if choices else None
    distinct = round(count * (1 - repeated))
    for n in range(count):
        content = prompt_of(tag, n % distinct) + asked
        body = {"model": "auto", "max_tokens": max_tokens, "messages": [{"role": "user", "content": content}]}
        if repeated:
            body["temperature"] = 0
        yield InputLine(n + 1, f"{tag}-{n}", orjson.dumps(body), options)
