"""Faults that change the content of an answer: the reply, or its encoded body."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from simulator import answer_text
from simulator.chat_types import ChatReply, ChatRequest, Finish, tokens_in
from simulator.fault_rules import FaultKind

_ANSWER_KEYS = frozenset({"choices", "content", "candidates"})


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
        case _:
            return reply


def _with_text(reply: ChatReply, text: str, finish: Finish) -> ChatReply:
    return replace(reply, text=text, finish=finish, completion_tokens=tokens_in(len(text)), tool_call=None)


def wrong_schema(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body with its answer replaced by an unexpected key."""
    return {key: value for key, value in body.items() if key not in _ANSWER_KEYS} | {"unexpected": [1, 2, 3]}
