"""Requests and replies, independent of a protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import cycle
from typing import Any

CHARS_PER_TOKEN = 4
SOUND_CHARS_PER_TOKEN = 4267
"""Base64 of a tenth of a second of 16 kHz, 16 bit, one channel."""


class BadRequest(Exception):
    """The body does not follow the protocol; the message says how."""


@dataclass(frozen=True, slots=True)
class SimulatedTool:
    """A function that the model may call; ``schema`` describes its arguments."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """What vectors are asked for."""

    texts: Sequence[str] = field(repr=False)
    tokens: int
    dimensions: int
    is_base64: bool


@dataclass(slots=True)
class ChatRequest:
    """A parsed request. Not frozen because that would double the cost of creating it."""

    model: str
    text: str = field(repr=False)
    """All texts of the user role, joined by newlines and stripped."""
    system: str = field(default="", repr=False)
    prompt_chars: int = 0
    max_tokens: int | None = None
    wants_logprobs: bool = False
    wants_json: bool = False
    schema: Mapping[str, Any] | None = None
    tools: tuple[SimulatedTool, ...] = ()
    tool_choice: str = "auto"
    """``auto``, ``any``, ``none`` or the name of the tool that must be called."""
    sample: int = 0
    """The body's ``seed``: a model that is not sure says something else with another one."""
    effort: str | None = None
    """The reasoning effort; None: the model's usual one."""
    is_repair: bool = False
    """Whether the request shows the model its own answer and asks for the same in the required form."""
    audio_tokens: int = 0
    """Tokens of the audio in the prompt."""
    is_flex: bool = False
    """Whether the request asks for the flex lane."""
    after_tool: bool = False
    """Whether the last turn is a tool's result, so that the model answers next."""
    embeddings: EmbeddingsRequest | None = None
    """Whether the request asks for embeddings instead of an answer."""

    @property
    def prompt_tokens(self) -> int:
        """⌈characters ÷ 4⌉ of every message's text, and those of sound."""
        return tokens_in(self.prompt_chars) + self.audio_tokens


class Finish(StrEnum):
    """Why the model stopped."""

    STOP = "stop"
    LENGTH = "length"
    TOOL = "tool"
    SAFETY = "safety"


@dataclass(frozen=True, slots=True)
class SimulatedToolCall:
    """A function that the model wants called."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(slots=True)
class ChatReply:
    """The model's answer with its usage. ``completion_tokens`` includes ``reasoning_tokens``."""

    text: str = field(repr=False)
    finish: Finish = Finish.STOP
    prompt_tokens: int = 0
    completion_tokens: int = 0
    mean_logprob: float = -0.1
    name: str = ""
    """Part of the reply's id; equal for equal questions."""
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    tool_call: SimulatedToolCall | None = None
    recorded: bool = False
    """Whether the text is a recording, returned verbatim and without a label."""


def tokens_in(chars: int) -> int:
    """⌈characters ÷ 4⌉, the usual estimate for English text."""
    return -(-chars // CHARS_PER_TOKEN)


def spread_logprobs(text: str, mean: float, *, most: int = 16) -> list[tuple[str, float]]:
    """The text in at most ``most`` pseudo tokens, each with a log-probability; their mean is ``mean``.

    Neighbours differ by ± 20 % of the mean, so that the values do not look constant.
    """
    size = max(CHARS_PER_TOKEN, -(-len(text) // most))
    chunks = [text[at : at + size] for at in range(0, len(text), size)]
    below, above = round(1.2 * mean, 6), round(0.8 * mean, 6)
    spread = list(zip(chunks, cycle((above, below)), strict=False))
    if len(spread) % 2:
        spread[-1] = (chunks[-1], mean)
    return spread
