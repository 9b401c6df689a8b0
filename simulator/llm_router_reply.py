"""The reply of a simulated LLM router: a tier for each query, from a closed list.

A system message with `MARKER` identifies such a request. It lists the tiers, cheapest first, in a line
``TIERS: small, medium, large, special``; the user message holds the queries as ``<query id="n">…</query>`` blocks,
escaped as in HTML.
"""

import html
import re
from collections.abc import Sequence
from typing import Final

import orjson

from simulator.model_strength import LEVELS, Strength
from simulator.query_difficulty import visible
from simulator.seeded_random import seeded_random, text_digest

MARKER: Final = "POINTSMAN-ROUTER"

_TIERS: Final = re.compile(r"^\s*TIERS:\s*(.+)$", re.MULTILINE)
_QUERY: Final = re.compile(r"<query\s+id=[\"']?([^\"'>\s]+)[\"']?[^>]*>(.*?)</query>", re.DOTALL)
_ASIDE: Final = "special"
_NEEDS_SPECIAL: Final = re.compile(
    r"\b(?:image|photo|picture|screenshot|attachment|attached|web ?search|tool call)\b", re.IGNORECASE
)


def is_router(system: str) -> bool:
    """Whether this system message is that of a router."""
    return MARKER in system


def answer(system: str, text: str, *, seed: bytes, model: str) -> str:
    """A JSON array of ``{"id", "tier", "confidence"}``, one for each query in ``text``.

    It estimates from the text (`visible`) with an error of its own: like a real router it does not know the hidden
    difficulty. Without a list of tiers the array is empty.
    """
    found = _TIERS.search(system)
    tiers = [name.strip(" `'\".") for name in found.group(1).split(",")] if found else []
    ladder = [name for name in tiers if name != _ASIDE] or tiers
    if not ladder:
        return "[]"
    rows = [
        _row(number, html.unescape(words).strip(), tiers, ladder, seed=seed, model=model)
        for number, words in _QUERY.findall(text)
    ]
    return orjson.dumps(rows).decode()


def _row(
    number: str, words: str, tiers: Sequence[str], ladder: Sequence[str], *, seed: bytes, model: str
) -> dict[str, object]:
    draws = seeded_random(seed, b"router", model.encode(), text_digest(words))
    identity: int | str = int(number) if number.isdecimal() else number
    if _ASIDE in tiers and _NEEDS_SPECIAL.search(words):
        return {"id": identity, "tier": _ASIDE, "confidence": 0.8}
    seen = visible(words) + 0.16 * (draws[0] - 0.5)
    cuts = _cuts(len(ladder))
    rung = sum(seen > cut for cut in cuts)
    margin = min((abs(seen - cut) for cut in cuts), default=1.0)
    return {"id": identity, "tier": ladder[rung], "confidence": round(min(0.97, 0.6 + 2 * margin), 2)}


def _cuts(rungs: int) -> list[float]:
    """The thresholds between the rungs of the ladder, spread from small's level to medium's."""
    low, high = LEVELS[Strength.SMALL], LEVELS[Strength.MEDIUM]
    if rungs < 2:
        return []
    return [low + (high - low) * step / max(1, rungs - 2) for step in range(rungs - 1)]
