"""Faults that change the content of an answer: the reply, or its encoded body."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from simulator import answer_text
from simulator.chat_types import ChatReply, ChatRequest, Finish, tokens_in
from simulator.fault_rules import FaultKind

_ANSWER_KEYS = frozenset({"choices", "content", "candidates", "data"})


def corrupt_reply(kind: FaultKind, request: ChatRequest, reply: ChatReply) -> ChatReply:
    """The reply with the fault applied; unchanged for other kinds of faults."""
    match kind:
        case FaultKind.EMPTY:
            return _with_text(reply, "", reply.finish)
        case FaultKind.REFUSAL:
            # The label goes last: a refusal is recognized by its first words.
            return _with_text(reply, f"{answer_text.REFUSAL} {answer_text.label(request.model)}", Finish.STOP)
        case FaultKind.LENGTH:
            return _with_text(reply, reply.text[: len(reply.text) // 2], Finish.LENGTH)
        case FaultKind.WRONG_ANSWER_SHAPE:
            return _with_text(reply, f"{answer_text.label(request.model)} Here is the JSON: {{'answer': ", Finish.STOP)
        case _ if kind in FORMAT_FAULTS:
            return _with_text(reply, spoiled(kind, reply.text), reply.finish)
        case _:
            return reply


FORMAT_FAULTS: Final = frozenset(
    {
        FaultKind.CODE_FENCE,
        FaultKind.SURROUNDING_TEXT,
        FaultKind.TRAILING_COMMA,
        FaultKind.SINGLE_QUOTES,
        FaultKind.OTHER_CASE,
        FaultKind.FULL_STOP,
        FaultKind.IN_A_SENTENCE,
    }
)
"""Faults that change how an answer is written, and not what it says."""


def spoiled(kind: FaultKind, text: str) -> str:
    """``text`` with the format fault ``kind``."""
    match kind:
        case FaultKind.CODE_FENCE:
            return f"```{'json' if text.startswith(('{', '[')) else ''}\n{text}\n```"
        case FaultKind.SURROUNDING_TEXT:
            return f"Here is the result you asked for:\n\n{text}\n\nLet me know if you need anything else."
        case FaultKind.TRAILING_COMMA:
            whole = text.strip()
            return f"{whole[:-1].rstrip()},{whole[-1]}" if _entries(whole) else text
        case FaultKind.SINGLE_QUOTES:
            return text if (value := _entries(text)) is None else repr(value)
        case FaultKind.OTHER_CASE:
            return text.lower() if text.isupper() else text.upper()
        case FaultKind.FULL_STOP:
            return f"{text}."
        case FaultKind.IN_A_SENTENCE:
            return f"After some thought, the answer is {text}"
        case _:
            return text


def _entries(text: str) -> dict[str, Any] | list[Any] | None:
    """The array or object that ``text`` is as JSON; None where it is neither."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict | list) else None


def _with_text(reply: ChatReply, text: str, finish: Finish) -> ChatReply:
    return replace(reply, text=text, finish=finish, completion_tokens=tokens_in(len(text)), tool_call=None)


def wrong_schema(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body with its answer replaced by an unexpected key."""
    return {key: value for key, value in body.items() if key not in _ANSWER_KEYS} | {"unexpected": [1, 2, 3]}
