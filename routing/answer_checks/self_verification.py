"""Self-verification, P(true): a model is asked whether an answer is right (Kadavath et al. 2022).

What it is asked about is data between marks, and its verdict is closed: whatever the question or the answer
say, only a yes, a no or a number is read.
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
"""So much of question and answer each is shown: together they stay within the verifier's context."""

VERDICT_TOKENS: Final = 8
"""What a verdict needs of a model whose probabilities are read from its first token."""

REASONING_TOKENS: Final = 1024
"""What one may need that thinks first; a model that does not ends after a word."""

TOP_LOGPROBS: Final = 5
"""OpenAI and Google take up to 20; llama.cpp, vLLM and most others at least 5."""

LEAST_MASS: Final = 0.05
"""A token is read as the verdict where yes and no together have this much of the probability."""

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
    """The chat body that asks ``verifier`` about ``answer``. ``source`` is self-verification or stated confidence."""
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
    """0 to 1: P(yes) over yes and no where the reply has log-probabilities, else what it says; None: no verdict."""
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
