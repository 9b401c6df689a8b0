"""How a simulated model answers: well if it is strong enough, else vaguely and mostly unsure.

A weak answer has low log-probabilities, except that one in ten is confidently wrong; and one good answer in twelve is
unsure. So confidence is a useful but imperfect signal.
"""

import re
from collections.abc import Mapping
from math import log
from typing import Any, Final

import orjson

from simulator import answer_text, llm_router_reply
from simulator.chat_types import ChatReply, ChatRequest, Finish, SimulatedTool, SimulatedToolCall, tokens_in
from simulator.json_from_schema import generate_conforming
from simulator.query_difficulty import hidden
from simulator.recordings import Recorded
from simulator.seeded_random import SeededRandom, seeded_random

_HARDNESS, _TEXT, _SURPRISE, _CONFIDENCE, _SHAPE = 0, 0, 1, 2, 3
"""Indexes of the draws. The hardness is drawn from the text alone, the rest from the call."""

_CONFIDENTLY_WRONG: Final = 0.1
_MODESTLY_RIGHT: Final = 1 / 12

_CHOICES: Final = re.compile(
    r"\b(?:(yes|true) or (no|false)\b"
    r"|(?:(?:exactly |only )?one of(?: these| the following)?(?: labels| words| categories)?|choose from|pick from)"
    r"\s*:\s*([^\n.?;]{3,120}))",
    re.IGNORECASE,
)
_CHOICE_SIGNS: Final = (" or no", " or fal", "one of", " from")
"""Every match of `_CHOICES` contains one of these in lower case. None has i, k or s, which ı, K and ſ match too."""
_JSON_IN_WORDS: Final = re.compile(
    r"\b(?:as|in|return|reply with|answer with|output|respond with|valid|only)\s+(?:an? |only )?json\b", re.IGNORECASE
)
_KEYS: Final = re.compile(r"\b(?:keys?|fields?)\s*:?\s+([\w`\"', ]{2,120})", re.IGNORECASE)


def reply(
    request: ChatRequest, *, strength: float, seed: bytes, digest: bytes, recorded: Recorded | None = None
) -> ChatReply:
    """The reply of a model of ``strength`` (0 to 1) to ``request``, whose text has the SHA-256 ``digest``.

    Raises BadRequest for an invalid schema.
    """
    draws = seeded_random(seed, request.model.encode("utf-8", "surrogatepass"), digest)
    if llm_router_reply.is_router(request.system):
        return _spoken(
            request,
            llm_router_reply.answer(request.system, request.text, seed=seed, model=request.model),
            draws,
            sure=True,
        )
    if recorded is not None and recorded.answer is not None:
        return _recalled(request, recorded.answer, draws)
    hardness = hidden(request.text, draw=seeded_random(seed, digest)[_HARDNESS])
    good = recorded.correct if recorded is not None else strength >= hardness
    surprising = draws[_SURPRISE] < (_MODESTLY_RIGHT if good else _CONFIDENTLY_WRONG)
    sure = good != surprising
    if (tool := _tool_to_call(request)) is not None:
        return _tool_call(request, tool, draws, sure=sure)
    is_resampled = request.sample and not good
    words = seeded_random(seed, digest, str(request.sample).encode()) if is_resampled else draws
    return _spoken(request, _text(request, words, good=good, sure=sure), draws, sure=sure)


def _spoken(request: ChatRequest, text: str, draws: SeededRandom, *, sure: bool) -> ChatReply:
    finish = Finish.STOP
    longest = None if request.max_tokens is None else 4 * request.max_tokens
    if longest is not None and len(text) > longest:
        text, finish = text[:longest], Finish.LENGTH
    return ChatReply(text, finish, request.prompt_tokens, tokens_in(len(text)), _logprob(draws, sure=sure), draws.name)


def _recalled(request: ChatRequest, text: str, draws: SeededRandom) -> ChatReply:
    """A recorded answer. Its log-probabilities were not recorded: these are invented and uninformative."""
    return ChatReply(
        text,
        prompt_tokens=request.prompt_tokens,
        completion_tokens=tokens_in(len(text)),
        mean_logprob=round(log(0.75 + 0.2 * draws[_CONFIDENCE]), 6),
        recorded=True,
        name=draws.name,
    )


def _tool_call(request: ChatRequest, tool: SimulatedTool, draws: SeededRandom, *, sure: bool) -> ChatReply:
    arguments = generate_conforming(tool.schema, label=answer_text.label(request.model), draw=draws[_SHAPE])
    if not isinstance(arguments, Mapping):
        arguments = {}
    return ChatReply(
        "",
        finish=Finish.TOOL,
        prompt_tokens=request.prompt_tokens,
        completion_tokens=tokens_in(len(orjson.dumps(arguments)) + len(tool.name)),
        mean_logprob=_logprob(draws, sure=sure),
        tool_call=SimulatedToolCall(tool.name, arguments),
        name=draws.name,
    )


def _logprob(draws: SeededRandom, *, sure: bool) -> float:
    """The mean natural log-probability per token: of 0.82 to 0.97 where sure, else of 0.25 to 0.6."""
    low, high = (0.82, 0.97) if sure else (0.25, 0.6)
    return round(log(low + (high - low) * draws[_CONFIDENCE]), 6)


def _text(request: ChatRequest, draws: SeededRandom, *, good: bool, sure: bool) -> str:
    if request.wants_json or _wants_json_in_words(request.text) or _wants_json_in_words(request.system):
        return _json_text(request, draws, good=good)
    if choices := _choices(request.text) or _choices(request.system):
        right = int(seeded_random(b"", request.text.encode("utf-8", "surrogatepass"))[0] * len(choices))
        return choices[right if good else (right + 1) % len(choices)]
    return answer_text.sentence(request.model, request.text, sure=sure or good, draw=draws[_TEXT])


def _wants_json_in_words(text: str) -> bool:
    # The substring search first, as most texts then skip the slow pattern.
    return "json" in text.lower() and _JSON_IN_WORDS.search(text) is not None


def _json_text(request: ChatRequest, draws: SeededRandom, *, good: bool) -> str:
    """JSON of the requested shape; if the query is too hard, every second answer is prose around half of it."""
    label = answer_text.label(request.model)
    if request.schema is not None:
        value = generate_conforming(request.schema, label=label, draw=draws[_SHAPE])
    else:
        value = _plain_object(request, label, sure=good)
    text = orjson.dumps(value).decode()
    if not good and not request.is_repair and draws[_SHAPE] < 0.5:
        return f"{label} Sure! Here is something like it: {text[: len(text) // 2]}"
    return text


def _plain_object(request: ChatRequest, label: str, *, sure: bool) -> dict[str, Any]:
    named = _KEYS.search(request.text) or _KEYS.search(request.system)
    names = re.findall(r"[A-Za-z_]\w*", re.sub(r"\band\b", " ", named.group(1))) if named else []
    if not names:
        return {"simulated": True, "answer": answer_text.sentence(request.model, request.text, sure=sure, draw=0.0)}
    return dict.fromkeys(names[:8], f"{label} value")


def _choices(text: str) -> list[str]:
    """The closed list of answers in the prompt, or an empty list."""
    # Substring searches first, as above: every list has a colon or an “or”, and an introducing word.
    if ":" not in text and " or " not in text:
        return []
    lower = text.lower()
    if not any(sign in lower for sign in _CHOICE_SIGNS) or (found := _CHOICES.search(text)) is None:
        return []
    if found.group(1):
        return [found.group(1).lower(), found.group(2).lower()]
    parts = re.split(r",|\bor\b|\||/", found.group(3))
    return [part.strip(" `'\"()") for part in parts if part.strip(" `'\"()")]


def _tool_to_call(request: ChatRequest) -> SimulatedTool | None:
    """The tool that the model calls now: the required one, or one whose name occurs in the user's text."""
    if not request.tools or request.after_tool or request.tool_choice == "none":
        return None
    for tool in request.tools:
        if tool.name == request.tool_choice:
            return tool
    if request.tool_choice == "any":
        return request.tools[0]
    words = set(re.findall(r"[a-z]{3,}", request.text.lower()))
    return next((tool for tool in request.tools if words & set(re.split(r"[^a-z]+", tool.name.lower()))), None)
