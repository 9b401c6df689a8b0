"""Self-verification, P(true): a model states whether an answer is right (Kadavath et al. 2022).

The question and the answer are data between markers. Only a yes, a no or a number is read from the reply, whatever the
question or the answer says.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from routing.answer_checks.confidence_policy import ConfidenceSource
from routing.answer_checks.token_logprobs import Token, tokens_of
from routing.fleet import Model
from routing.outcome import Completion
from routing.query import Query

CHARS_PER_CONTEXT_TOKEN: Final = 1.5
"""Characters of the question, and of the answer, per token of the verifier's context. Together they fit into the
context."""

VERDICT_TOKENS: Final = 8
"""Tokens of a verdict by a model whose probabilities are read from its first token."""

REASONING_TOKENS: Final = 1024
"""Maximum tokens for a model that reasons first. Other models stop after one word."""

TOP_LOGPROBS: Final = 5
"""OpenAI and Google allow up to 20; llama.cpp, vLLM and most others at least 5."""

LEAST_MASS: Final = 0.05
"""A token counts as the verdict if yes and no together have at least this probability."""

_YES: Final = frozenset({"yes", "y", "true", "correct", "right"})
_NO: Final = frozenset({"no", "n", "false", "incorrect", "wrong"})
_WORD: Final = re.compile(r"[a-z]+")
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")

_ASKS: Final[Mapping[ConfidenceSource, str]] = {
    ConfidenceSource.SELF_VERIFICATION: "Is the proposed answer correct? Reply with one word: Yes or No.",
    ConfidenceSource.STATED: (
        "How likely is it, in percent, that the proposed answer is correct? Reply with one number from 0 to 100."
    ),
}


def verification_body(query: Query, answer: str, *, verifier: Model, source: ConfidenceSource) -> dict[str, Any]:
    """Return the chat body that asks ``verifier`` about ``answer``. ``source`` is self-verification or stated
    confidence."""
    chars = int(verifier.context_tokens * CHARS_PER_CONTEXT_TOKEN)
    rules = f"Instructions:\n{query.system[: chars // 4]}\n\n" if query.system else ""
    asked = (
        f"{rules}Question:\n<<<\n{query.text[:chars]}\n>>>\n\n"
        f"Proposed answer:\n<<<\n{answer[:chars]}\n>>>\n\n{_ASKS[source]}"
    )
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": asked}],
        "max_completion_tokens": REASONING_TOKENS,
    }
    if verifier.logprobs and source is ConfidenceSource.SELF_VERIFICATION:
        body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS, "max_completion_tokens": VERDICT_TOKENS}
    return body


def read_verdict(completion: Completion, source: ConfidenceSource) -> float | None:
    """Return the verdict, 0 to 1: P(yes) over yes and no if the reply has log-probabilities, else the stated answer.
    None without a verdict."""
    if source is ConfidenceSource.STATED:
        return _stated(completion.text)
    for token in tokens_of(completion.response):
        yes, no = _mass(token, _YES), _mass(token, _NO)
        if yes + no < LEAST_MASS:
            continue
        # Without alternatives the rest of the probability is the other verdict's, at most.
        return yes / (yes + no) if token.others else (yes or 1 - no)
    said = next((word for word in _WORD.findall(completion.text.casefold()) if word in _YES | _NO), None)
    return None if said is None else float(said in _YES)


def _mass(token: Token, words: frozenset[str]) -> float:
    variants = {token.text: token.logprob, **token.others}
    return sum(math.exp(logprob) for text, logprob in variants.items() if text.strip(" *\"'.\n").casefold() in words)


def _stated(text: str) -> float | None:
    found = _NUMBER.search(text)
    return None if found is None or float(found.group()) > 100 else float(found.group()) / 100
