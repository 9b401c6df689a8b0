"""How a simulated model answers: well where it is strong enough, else vaguely and mostly unsure.

A weak answer has low log-probabilities, except that one in ten is confidently wrong; and one
good answer in twelve sounds unsure. So confidence is a useful signal and not an oracle.
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
"""Which draw decides what. The hardness is drawn from the text alone, the rest from the call."""

_CONFIDENTLY_WRONG: Final = 0.1
_MODESTLY_RIGHT: Final = 1 / 12

_CHOICES: Final = re.compile(
    r"\b(?:(yes|true) or (no|false)\b"
    r"|(?:(?:exactly |only )?one of(?: these| the following)?(?: labels| words| categories)?|choose from|pick from)"
    r"\s*:\s*([^\n.?;]{3,120}))",
    re.IGNORECASE,
)
_CHOICE_SIGNS: Final = (" or no", " or fal", "one of", " from")
"""One is in the lower case of all that `_CHOICES` finds. None has i, k or s: ı, K and ſ pass for those there."""
_JSON_IN_WORDS: Final = re.compile(
    r"\b(?:as|in|return|reply with|answer with|output|respond with|valid|only)\s+(?:an? |only )?json\b", re.IGNORECASE
)
_KEYS: Final = re.compile(r"\b(?:keys?|fields?)\s*:?\s+([\w`\"', ]{2,120})", re.IGNORECASE)


def reply(
    ask: ChatRequest, *, strength: float, seed: bytes, digest: bytes, recorded: Recorded | None = None
) -> ChatReply:
    """What a model of ``strength`` (0 to 1) says to ``ask``, whose text has the SHA-256 ``digest``.

    Raises BadRequest where a schema in it is none.
    """
    chance = seeded_random(seed, ask.model.encode("utf-8", "surrogatepass"), digest)
    if llm_router_reply.is_router(ask.system):
        return _spoken(
            ask, llm_router_reply.answer(ask.system, ask.text, seed=seed, model=ask.model), chance, sure=True
        )
    if recorded is not None and recorded.answer is not None:
        return _recalled(ask, recorded.answer, chance)
    hardness = hidden(ask.text, draw=seeded_random(seed, digest)[_HARDNESS])
    good = recorded.correct if recorded is not None else strength >= hardness
    surprising = chance[_SURPRISE] < (_MODESTLY_RIGHT if good else _CONFIDENTLY_WRONG)
    sure = good != surprising
    if (tool := _tool_to_call(ask)) is not None:
        return _tool_call(ask, tool, chance, sure=sure)
    words = seeded_random(seed, digest, str(ask.sample).encode()) if ask.sample and not good else chance
    return _spoken(ask, _text(ask, words, good=good, sure=sure), chance, sure=sure)


def _spoken(ask: ChatRequest, text: str, chance: SeededRandom, *, sure: bool) -> ChatReply:
    finish = Finish.STOP
    longest = None if ask.max_tokens is None else 4 * ask.max_tokens
    if longest is not None and len(text) > longest:
        text, finish = text[:longest], Finish.LENGTH
    return ChatReply(text, finish, ask.prompt_tokens, tokens_in(len(text)), _logprob(chance, sure=sure), chance.name)


def _recalled(ask: ChatRequest, text: str, chance: SeededRandom) -> ChatReply:
    """A recording. Its log-probabilities were not recorded: these are invented and say nothing about it."""
    return ChatReply(
        text,
        prompt_tokens=ask.prompt_tokens,
        completion_tokens=tokens_in(len(text)),
        mean_logprob=round(log(0.75 + 0.2 * chance[_CONFIDENCE]), 6),
        recorded=True,
        name=chance.name,
    )


def _tool_call(ask: ChatRequest, tool: SimulatedTool, chance: SeededRandom, *, sure: bool) -> ChatReply:
    arguments = generate_conforming(tool.schema, label=answer_text.label(ask.model), draw=chance[_SHAPE])
    if not isinstance(arguments, Mapping):
        arguments = {}
    return ChatReply(
        "",
        finish=Finish.TOOL,
        prompt_tokens=ask.prompt_tokens,
        completion_tokens=tokens_in(len(orjson.dumps(arguments)) + len(tool.name)),
        mean_logprob=_logprob(chance, sure=sure),
        tool_call=SimulatedToolCall(tool.name, arguments),
        name=chance.name,
    )


def _logprob(chance: SeededRandom, *, sure: bool) -> float:
    """The mean natural log-probability per token: of 0.82 to 0.97 where sure, else of 0.25 to 0.6."""
    low, high = (0.82, 0.97) if sure else (0.25, 0.6)
    return round(log(low + (high - low) * chance[_CONFIDENCE]), 6)


def _text(ask: ChatRequest, chance: SeededRandom, *, good: bool, sure: bool) -> str:
    if ask.wants_json or _wants_json_in_words(ask.text) or _wants_json_in_words(ask.system):
        return _json_text(ask, chance, good=good)
    if choices := _choices(ask.text) or _choices(ask.system):
        right = int(seeded_random(b"", ask.text.encode("utf-8", "surrogatepass"))[0] * len(choices))
        return choices[right if good else (right + 1) % len(choices)]
    return answer_text.sentence(ask.model, ask.text, sure=sure or good, draw=chance[_TEXT])


def _wants_json_in_words(text: str) -> bool:
    # The plain search first: it spares most texts the slow one.
    return "json" in text.lower() and _JSON_IN_WORDS.search(text) is not None


def _json_text(ask: ChatRequest, chance: SeededRandom, *, good: bool) -> str:
    """JSON of the asked shape; of a query too hard for the model every second one is prose around half of it."""
    label = answer_text.label(ask.model)
    if ask.schema is not None:
        value = generate_conforming(ask.schema, label=label, draw=chance[_SHAPE])
    else:
        value = _plain_object(ask, label, sure=good)
    text = orjson.dumps(value).decode()
    if not good and chance[_SHAPE] < 0.5:
        return f"{label} Sure! Here is something like it: {text[: len(text) // 2]}"
    return text


def _plain_object(ask: ChatRequest, label: str, *, sure: bool) -> dict[str, Any]:
    named = _KEYS.search(ask.text) or _KEYS.search(ask.system)
    names = re.findall(r"[A-Za-z_]\w*", re.sub(r"\band\b", " ", named.group(1))) if named else []
    if not names:
        return {"simulated": True, "answer": answer_text.sentence(ask.model, ask.text, sure=sure, draw=0.0)}
    return dict.fromkeys(names[:8], f"{label} value")


def _choices(text: str) -> list[str]:
    """The closed list of answers that the prompt names, or none. Only the list itself can be answered then."""
    # The plain searches first, as above: every list has a colon or an “or”, and a word that announces it.
    if ":" not in text and " or " not in text:
        return []
    lower = text.lower()
    if not any(sign in lower for sign in _CHOICE_SIGNS) or (found := _CHOICES.search(text)) is None:
        return []
    if found.group(1):
        return [found.group(1).lower(), found.group(2).lower()]
    parts = re.split(r",|\bor\b|\||/", found.group(3))
    return [part.strip(" `'\"()") for part in parts if part.strip(" `'\"()")]


def _tool_to_call(ask: ChatRequest) -> SimulatedTool | None:
    """The tool that a model would call now: the one it must, or one whose name the user's words contain."""
    if not ask.tools or ask.after_tool or ask.tool_choice == "none":
        return None
    for tool in ask.tools:
        if tool.name == ask.tool_choice:
            return tool
    if ask.tool_choice == "any":
        return ask.tools[0]
    words = set(re.findall(r"[a-z]{3,}", ask.text.lower()))
    return next((tool for tool in ask.tools if words & set(re.split(r"[^a-z]+", tool.name.lower()))), None)
