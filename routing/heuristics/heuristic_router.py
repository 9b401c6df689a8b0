"""The heuristic gate: decides for free what it is sure of, and abstains otherwise.

It is sure of tools, attachments, very long contexts, and greetings and thanks that are the *whole* text. A text that
addresses the router goes to the top tier: nothing that it says of itself may save money. There are no rules by words
for instructions, subjects and languages: on 13,513 real questions none of them showed which questions a small model
gets wrong (docs/decisions/0006-routing-policy.md).
"""

from dataclasses import dataclass
from typing import Final

from routing.fleet import Fleet
from routing.heuristics.heuristic_features import LONG_CONTEXT_TOKENS, LONG_TOKENS, Features
from routing.heuristics.small_talk import is_small_talk
from routing.policy.llm_router_prompt import RouterVote
from routing.query import Query

NAME: Final = "gate"

CHOICE_BYTES_PER_TOKEN: Final = 2
"""A word of a label is rarely more than one token. This is the bound for a tokenizer that splits words further."""

TEXT_TOKENS: Final = 75
"""Of an answer about which nothing is said. The geometric mean over the workloads of eight public data sets (GSM8K,
MATH, MMLU-Pro, Spider, HumanEval and MBPP, ExtractGPT, QA-Eval, WMT 23; 24 to 306) is 70. Chats are longer:
LMSYS-Chat-1M has 214 in the arithmetic mean (Zheng et al. 2023)."""

PART_TOKENS: Final = 20
MOST_PARTS: Final = 8
"""What each item of a list in the query adds, of the first ones."""

PATTERN_TOKENS: Final = 16
"""Of an answer that a pattern describes: a value, and no prose."""

RED_TEAM_BOUND: Final = 0.0
"""The share of the red-team set (tests/unit/routing/red_team.py) that gate and policy may route lower than
the same queries without the attack. It bounds what is known, not what somebody has yet to find."""


@dataclass(frozen=True, slots=True)
class LadderRoles:
    """The fleet's names for the gate's ideas. ``special`` is None where every tier is on the ladder."""

    small: str
    large: str
    special: str | None

    @classmethod
    def of(cls, fleet: Fleet) -> "LadderRoles":
        """The ladder's first and last tier, and the first tier off the ladder."""
        ladder = fleet.ladder
        aside = [name for name in fleet.chat_tiers if name not in ladder]
        return cls(ladder[0], ladder[-1], aside[0] if aside else None)


def heuristic_vote(query: Query, features: Features, *, roles: LadderRoles) -> RouterVote:
    """The gate's vote on ``query``. Its confidence is a promise by construction, not a calibrated figure."""
    score = difficulty(features, query)
    if special := _special(features, query):
        return RouterVote(NAME, roles.special or roles.large, 0.97, max(score, 0.6), special)
    if features.addresses_router:
        return RouterVote(NAME, roles.large, 0.95, max(score, 0.5), "the text addresses the router")
    if query.turns <= 2 and is_small_talk(query.text):
        return RouterVote(NAME, roles.small, 0.98, min(score, 0.15), "small talk")
    return RouterVote(NAME, None, 0.0, score, f"no plain case (difficulty {score:.2f})")


def difficulty(features: Features, query: Query) -> float:
    """0 to 1: a sum of signs, none of which counts downwards."""
    score = 0.2
    # Most of it is zero for most queries, and nothing is reckoned for what is not there.
    if features.has_code:
        score += 0.15
    if features.has_maths:
        score += 0.15
    if features.parts:
        score += 0.03 * min(features.parts, 5)
    if features.numbers:
        score += 0.02 * min(features.numbers, 5)
    if query.turns != 1:
        score += 0.04 * min(query.turns - 1, 3)
    score += 0.1 * (features.tokens / LONG_TOKENS) if features.tokens < LONG_TOKENS else 0.1
    if features.output_words >= 400:
        score += 0.1
    return score if score < 1.0 else 1.0


def expected_completion_tokens(features: Features, query: Query) -> int:
    """A rough size of the answer, for pricing; never above the query's own cap.

    One of given choices takes no more tokens than its bytes over `CHOICE_BYTES_PER_TOKEN`. What a model thinks before
    it answers is learned from earlier batches.
    """
    if choices := query.expects.choices:
        tokens = 1 + max(len(choice.encode()) for choice in choices) // CHOICE_BYTES_PER_TOKEN
    elif query.expects.regex:
        tokens = PATTERN_TOKENS
    else:
        tokens = round(features.output_words * 1.35) or TEXT_TOKENS + PART_TOKENS * min(features.parts, MOST_PARTS)
    return min(tokens, query.max_tokens) if query.max_tokens else tokens


def _special(features: Features, query: Query) -> str | None:
    if query.has_tools:
        return "the query brings tools"
    if query.has_attachments:
        return "the query has attachments"
    if features.tokens >= LONG_CONTEXT_TOKENS:
        return f"a very long context (about {features.tokens} tokens)"
    return None
