"""Faults that change what is said: the reply before it is worded, or the worded body."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from simulator import answer_text
from simulator.chat_types import ChatReply, ChatRequest, Finish, tokens_in
from simulator.fault_rules import FaultKind

_ANSWER_KEYS = frozenset({"choices", "content", "candidates"})


def corrupt_reply(kind: FaultKind, ask: ChatRequest, reply: ChatReply) -> ChatReply:
    """The reply as the fault leaves it; the same one where the fault is of another sort."""
    match kind:
        case FaultKind.EMPTY:
            return _saying(reply, "", reply.finish)
        case FaultKind.REFUSAL:
            # The label goes last here: a refusal is recognised by how it begins.
            return _saying(reply, f"{answer_text.REFUSAL} {answer_text.label(ask.model)}", Finish.STOP)
        case FaultKind.LENGTH:
            return _saying(reply, reply.text[: len(reply.text) // 2], Finish.LENGTH)
        case FaultKind.WRONG_ANSWER_SHAPE:
            return _saying(reply, f"{answer_text.label(ask.model)} Here is the JSON: {{'answer': ", Finish.STOP)
        case _:
            return reply


def _saying(reply: ChatReply, text: str, finish: Finish) -> ChatReply:
    return replace(reply, text=text, finish=finish, completion_tokens=tokens_in(len(text)), tool_call=None)


def wrong_schema(body: Mapping[str, Any]) -> dict[str, Any]:
    """The same body without its answer, and with something else in its place."""
    return {key: value for key, value in body.items() if key not in _ANSWER_KEYS} | {"unexpected": [1, 2, 3]}
