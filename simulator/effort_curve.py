"""Effort curves: how well a model answers at a ``reasoning_effort``, and how many tokens it reasons."""

from dataclasses import dataclass
from typing import ClassVar, Final

from simulator.chat_types import CHARS_PER_TOKEN, ChatReply, Finish, tokens_in

USUAL_EFFORT: Final = "medium"
"""The effort of a request that names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EffortLevel:
    """A model at one effort."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    level: float
    """The model's strength, 0 to 1: the hardest query that it answers well."""
    reasoning_tokens: int
    """On average: an answer takes half to one and a half times as many."""

    def __post_init__(self) -> None:
        if not 0 <= self.level <= 1:
            raise ValueError("level must be from 0 to 1")
        if self.reasoning_tokens < 0:
            raise ValueError("reasoning_tokens must not be negative")


def reason(reply: ChatReply, effort: EffortLevel, *, draw: float, max_tokens: int | None) -> None:
    """Adds the reasoning of one answer to ``reply``; ``draw`` is uniform in [0, 1).

    Reasoning and text together stay within ``max_tokens``: what has no room is cut off, the text first.
    """
    wanted = round(effort.reasoning_tokens * (0.5 + draw))
    room = wanted if max_tokens is None else max_tokens
    reply.reasoning_tokens = min(wanted, room)
    if max_tokens is not None and reply.completion_tokens > (left := max_tokens - reply.reasoning_tokens):
        reply.text = reply.text[: CHARS_PER_TOKEN * left]
        reply.completion_tokens, reply.finish, reply.tool_call = tokens_in(len(reply.text)), Finish.LENGTH, None
    reply.completion_tokens += reply.reasoning_tokens
