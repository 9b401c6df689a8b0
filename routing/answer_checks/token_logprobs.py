"""Confidence from log-probabilities of tokens: of all tokens, of the least likely one, or of the decisive ones."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from routing.answer_checks.confidence_policy import ConfidenceSource
from routing.outcome import Completion

DECISIVE_SHARE: Final = 1 / 3
"""The share of least likely tokens that count as decisive if the answer has no number."""


class Token(NamedTuple):
    """One token of an answer. ``others`` are the alternatives at its position, which may include the token itself."""

    text: str
    logprob: float
    """Natural logarithm, at most 0."""
    others: Mapping[str, float]


def tokens_of(response: Mapping[str, Any]) -> list[Token]:
    """Return the tokens of a ``chat.completion`` object, or none if its choice has no ``logprobs``."""
    choices = response.get("choices")
    choice = choices[0] if isinstance(choices, Sequence) and choices and isinstance(choices[0], Mapping) else {}
    logprobs = choice.get("logprobs")
    content = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    return [token for entry in _list(content) if (token := _token(entry)) is not None]


def logprob_confidence(completion: Completion, source: ConfidenceSource) -> float | None:
    """Return the confidence, 0 to 1, or None if the answer lacks what ``source`` needs. ``source`` is one of
    `LOGPROB_SOURCES`."""
    if source is ConfidenceSource.LOGPROB:
        mean = completion.mean_logprob
        return None if mean is None or math.isnan(mean) else math.exp(min(mean, 0.0))
    tokens = [token for token in tokens_of(completion.response) if token.text.strip()]
    if not tokens:
        return None
    if source is ConfidenceSource.LOGPROB_MIN:
        return math.exp(min(token.logprob for token in tokens))
    decisive = _last_number(tokens) or _least_likely(tokens)
    return math.exp(sum(token.logprob for token in decisive) / len(decisive))


def _last_number(tokens: Sequence[Token]) -> list[Token]:
    """Return the tokens of the last number, which can be several consecutive tokens."""
    last = next((place for place in reversed(range(len(tokens))) if _has_digit(tokens[place])), None)
    if last is None:
        return []
    first = last
    while first > 0 and _has_digit(tokens[first - 1]):
        first -= 1
    return list(tokens[first : last + 1])


def _has_digit(token: Token) -> bool:
    return any(character.isdigit() for character in token.text)


def _least_likely(tokens: Sequence[Token]) -> list[Token]:
    return sorted(tokens, key=lambda token: token.logprob)[: max(1, round(len(tokens) * DECISIVE_SHARE))]


def _token(entry: object) -> Token | None:
    if not isinstance(entry, Mapping) or (logprob := _logprob(entry)) is None:
        return None
    others = {
        str(other.get("token", "")): found
        for other in _list(entry.get("top_logprobs"))
        if isinstance(other, Mapping) and (found := _logprob(other)) is not None
    }
    return Token(str(entry.get("token", "")), logprob, others)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _logprob(entry: Mapping[str, Any]) -> float | None:
    found = entry.get("logprob")
    if isinstance(found, bool) or not isinstance(found, int | float) or math.isnan(found):
        return None
    return min(float(found), 0.0)
