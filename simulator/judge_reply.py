"""The reply of a simulated judge: which of two answers is better, by what the simulator knows of each.

A request is taken for a judge's by its form: the system message asks for ``"verdicts"``, and the user message is a JSON
list of ``{"question", "first", "second"}``.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from simulator.chat_types import ChatReply, ChatRequest, tokens_in
from simulator.recordings import Recordings, recording_of
from simulator.seeded_random import seeded_random
from simulator.verifier_reply import ProposedAnswer, is_right

_SIGN: Final = '"verdicts"'
_FIRST, _SECOND, _SAME = "first", "second", "same"
_OTHERS: Final = {_FIRST: (_SECOND, _SAME), _SECOND: (_FIRST, _SAME), _SAME: (_FIRST, _SECOND)}


def verdicts(
    ask: ChatRequest, *, seed: bytes, recordings: Recordings, error: float, order_bias: float
) -> ChatReply | None:
    """One verdict for each item; None where ``ask`` is not a judge's request.

    ``error`` is the share of verdicts that are replaced by one of the two others, ``order_bias`` the share of the rest
    that name the first answer, whatever it says.
    """
    items = _items(ask) if _SIGN in ask.system else None
    if items is None:
        return None
    said = [_verdict(item, ask.model, seed, recordings, error, order_bias) for item in items]
    text = orjson.dumps({"verdicts": said}).decode()
    name = seeded_random(seed, b"judge", ask.model.encode("utf-8", "surrogatepass"), ask.text.encode()).name
    return ChatReply(text, prompt_tokens=ask.prompt_tokens, completion_tokens=tokens_in(len(text)), name=name)


def _items(ask: ChatRequest) -> list[Mapping[str, Any]] | None:
    try:
        items = orjson.loads(ask.text)
    except orjson.JSONDecodeError:
        return None
    known = isinstance(items, list) and all(
        isinstance(item, dict) and {"question", _FIRST, _SECOND} <= item.keys() for item in items
    )
    return items if known else None


def _verdict(
    item: Mapping[str, Any], model: str, seed: bytes, recordings: Recordings, error: float, order_bias: float
) -> str:
    question, first, second = (str(item[key]).strip() for key in ("question", _FIRST, _SECOND))
    parts = [text.encode("utf-8", "surrogatepass") for text in (model, question, first, second)]
    draws = seeded_random(seed, b"judge", *parts)
    verdict = _true_verdict(question, first, second, seed=seed, recordings=recordings)
    if draws[0] < error:
        return _OTHERS[verdict][draws.pick(1, 2)]
    return _FIRST if draws[2] < order_bias else verdict


def _true_verdict(question: str, first: str, second: str, *, seed: bytes, recordings: Recordings) -> str:
    """The better one; between grades with the chance of their difference, so that verdicts lose what grades do.

    It is the same for both orders.
    """
    if first == second:
        return _SAME
    one, other = (_quality(question, text, seed=seed, recordings=recordings) for text in (first, second))
    if one is None or other is None:
        return _SAME
    parts = [text.encode("utf-8", "surrogatepass") for text in (question, *sorted((first, second)))]
    if seeded_random(seed, b"pair", *parts)[0] >= abs(one - other):
        return _SAME
    return _FIRST if one > other else _SECOND


def _quality(question: str, answer: str, *, seed: bytes, recordings: Recordings) -> float | None:
    recorded = recording_of(question, answer, recordings)
    if recorded is not None:
        return recorded.quality
    right = is_right(ProposedAnswer(question, answer), seed=seed, recordings=recordings)
    return None if right is None else float(right)
