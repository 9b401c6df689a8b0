"""Self-consistency: an answer that the model gives again is more likely to be right (Wang et al. 2022).

Agreement is measured on what the answers add to the question, because answers that repeat the question share its words
even if they disagree.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from routing.answer_checks.json_schema import NotJsonError, read_json
from routing.query import Query

WARM: Final = 0.7
"""The minimum temperature of the samples: at 0 a model repeats its answer whether it is sure or not."""

_TOKEN: Final = re.compile(r"-?\d[\d,]*(?:\.\d+)?|\w+")


def sample_body(body: Mapping[str, Any], *, number: int) -> Mapping[str, Any]:
    """Return the body of sample ``number``: the user's body with a temperature high enough for answers to differ.

    A temperature is sent only if the user sent one, because many models refuse it.
    """
    sent = {name: value for name, value in body.items() if name not in ("logprobs", "top_logprobs")}
    temperature = sent.get("temperature")
    if temperature is not None and temperature < WARM:
        sent["temperature"] = WARM
    if sent.get("seed") is not None:
        sent["seed"] = sent["seed"] + number
    return sent


def consistency(answer: str, samples: Sequence[str], query: Query) -> float | None:
    """Return the mean agreement of ``answer`` with ``samples``, 0 to 1. None without samples."""
    if not samples:
        return None
    return sum(agreement(answer, sample, query) for sample in samples) / len(samples)


def agreement(first: str, second: str, query: Query) -> float:
    """Return 1 or 0 for choices and JSON values that agree or differ, else the F1 (0 to 1) of the tokens that both
    answers add to the query."""
    first, second = first.strip(), second.strip()
    if first == second:
        return 1.0
    expects = query.expects
    if expects.choices:
        return 0.0
    if expects.json_object or expects.json_schema is not None:
        return float(_same_json(first, second))
    said = set(_tokens(query.text))
    ours, theirs = (Counter(_tokens(text)) for text in (first, second))
    new_ours, new_theirs = (Counter({t: n for t, n in all_of.items() if t not in said}) for all_of in (ours, theirs))
    if not new_ours and not new_theirs:
        return _f1(ours, theirs)
    return _f1(new_ours, new_theirs)


def _same_json(first: str, second: str) -> bool:
    try:
        # Written again, for in Python 1, 1.0 and True are equal.
        ours, theirs = (json.dumps(read_json(text), sort_keys=True) for text in (first, second))
    except NotJsonError:
        return False
    return ours == theirs


def _f1(first: Counter[str], second: Counter[str]) -> float:
    total = first.total() + second.total()
    return 2 * (first & second).total() / total if total else 0.0


def _tokens(text: str) -> list[str]:
    return [token.replace(",", "") if token[-1].isdigit() else token for token in _TOKEN.findall(text.casefold())]
