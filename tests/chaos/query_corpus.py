"""Queries of which every text is different, or meant to be the same: each answer can be held against its question."""

import base64
import hashlib
import io
import wave
from collections.abc import Iterator, Sequence
from typing import Any, Final

import orjson

from submission.input_line import InputLine

_ASKS = (
    "What is the capital of country number {n}?",
    "How much is {n} + {n}?",
    "Prove, step by step, that the sum of the first {n} odd numbers is a square, and analyse the proof.",
    "Write a Python function for task {n}; compare two designs and justify the trade-offs.",
    "Translate word {n} into German.",
)


SHARED_PREFIX: Final = (
    "The contract states the duties of both sides, and what follows where one does not keep them. " * 60
)
"""Some 1,400 tokens: more than what a prompt cache takes."""


def prompt_of(tag: str, n: int) -> str:
    return f"[{tag}-{n}] " + _ASKS[n % len(_ASKS)].format(n=n)


def sha_of(prompt: str) -> str:
    """The digest by which the simulator's log names a text."""
    return hashlib.sha256(prompt.strip().encode()).hexdigest()[:16]


def lines(
    tag: str,
    count: int,
    *,
    max_tokens: int = 200,
    choices: Sequence[str] = (),
    repeated: float = 0.0,
    prefix: str = "",
    pin: str | None = None,
    priced_apart: bool = False,
) -> Iterator[InputLine]:
    """``count`` valid lines; each expects one of ``choices``, where there are some, and begins with ``prefix``; the
    model ``pin`` answers them.

    The share ``repeated`` of them asks at temperature 0 what an earlier one asks. ``priced_apart``: they have tokens at
    a price of their own, see `_price_apart`.
    """
    asked = f" Reply with one of: {', '.join(choices)}" if choices else ""
    usual = ({"expects": {"choices": choices}} if choices else {}) | ({"pin": pin} if pin else {})
    distinct = round(count * (1 - repeated))
    for n in range(count):
        content = prompt_of(tag, n % distinct) + asked
        messages = [{"role": "user", "content": content}]
        if prefix:
            messages.insert(0, {"role": "system", "content": f"[{tag}] {prefix}"})
        body: dict[str, Any] = {"model": "auto", "max_tokens": max_tokens, "messages": messages}
        options = usual
        if priced_apart:
            changed, model = _price_apart(n, content)
            body, options = body | changed, usual | {"pin": model}
        if repeated:
            body["temperature"] = 0
        yield InputLine(n + 1, f"{tag}-{n}", orjson.dumps(body), orjson.dumps(options) if options else None)


def question_of(body: Any) -> str:
    """The text that the user asks in a chat body."""
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content if "text" in part)


def _price_apart(n: int, content: str) -> tuple[dict[str, Any], str]:
    """Fields of the body of query ``n``, and the model that answers it.

    In turn: the service tier flex, sound, a cache of an hour, and a model at a low effort.
    """
    match n % 4:
        case 0:
            return {"service_tier": "flex"}, "gpt-5-mini"
        case 1:
            sound = {"type": "input_audio", "input_audio": {"data": _SOUND, "format": "wav"}}
            return {"messages": [{"role": "user", "content": [{"type": "text", "text": content}, sound]}]}, "gpt-4.1"
        case 2:
            mark = {"type": "ephemeral", "ttl": "1h"}
            prefix = {"type": "text", "text": f"For an hour. {SHARED_PREFIX}", "cache_control": mark}
            messages = [{"role": "system", "content": [prefix]}, {"role": "user", "content": content}]
            return {"messages": messages}, "claude-haiku-4-5"
        case _:
            return {}, "gpt-5.2-low"


def _silence(seconds: float) -> str:
    """A WAV in base64."""
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(round(32_000 * seconds)))
    return base64.b64encode(written.getvalue()).decode()


_SOUND: Final = _silence(0.5)
