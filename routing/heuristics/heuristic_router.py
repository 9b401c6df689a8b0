"""The heuristic gate: decides clear cases for free, and abstains otherwise.

Clear cases are tools, attachments, very long contexts, and greetings and thanks that are the *whole* text. A text that
addresses the router goes to the top tier, because nothing that it says about itself may save money. There are no rules
by words for instructions, subjects and languages: on 13,513 real questions none of them showed which questions a small
model gets wrong (docs/decisions/0006-routing-policy.md).
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
"""A word of a label is rarely more than one token. This figure allows for tokenizers that split words further."""

TEXT_TOKENS: Final = 75
"""Tokens of an answer if nothing is known about its length. The geometric mean over the workloads of eight public data
sets (GSM8K, MATH, MMLU-Pro, Spider, HumanEval and MBPP, ExtractGPT, QA-Eval, WMT 23; 24 to 306) is 70. Chats are
longer: the arithmetic mean of LMSYS-Chat-1M is 214 (Zheng et al. 2023)."""

PART_TOKENS: Final = 20
MOST_PARTS: Final = 8
"""Maximum number of list items in the query that add to the answer's length."""

PATTERN_TOKENS: Final = 16
"""Tokens of an answer that a pattern describes, which is a value and not prose."""

RED_TEAM_BOUND: Final = 0.0
"""Maximum share of the red-team set (tests/unit/routing/red_team.py) that the gate and policy may route lower than the
same queries without the attack. It covers known attacks, and not those that are still to be found."""


@dataclass(frozen=True, slots=True)
class LadderRoles:
    """The fleet's tiers that the gate refers to. ``special`` is None if every tier is on the ladder."""

    small: str
    large: str
    special: str | None

    @classmethod
    def of(cls, fleet: Fleet) -> "LadderRoles":
        """Return the ladder's first and last tier, and the first tier off the ladder."""
        ladder = fleet.ladder
        aside = [name for name in fleet.chat_tiers if name not in ladder]
        return cls(ladder[0], ladder[-1], aside[0] if aside else None)


def heuristic_vote(query: Query, features: Features, *, roles: LadderRoles) -> RouterVote:
    """Return the gate's vote on ``query``. Its confidence is set by construction and is not calibrated."""
    score = difficulty(features, query)
    if special := _special(features, query):
        return RouterVote(NAME, roles.special or roles.large, 0.97, max(score, 0.6), special)
    if features.addresses_router:
        return RouterVote(NAME, roles.large, 0.95, max(score, 0.5), "the text addresses the router")
    if query.turns <= 2 and is_small_talk(query.text):
        return RouterVote(NAME, roles.small, 0.98, min(score, 0.15), "small talk")
    return RouterVote(NAME, None, 0.0, score, f"not a clear case (difficulty {score:.2f})")


def difficulty(features: Features, query: Query) -> float:
    """Return the difficulty, 0 to 1: a sum of signs, none of which is negative."""
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
    """Return a rough size of the answer in tokens, for pricing. It never exceeds the query's own cap.

    One of given choices takes at most its bytes divided by `CHOICE_BYTES_PER_TOKEN`. Reasoning tokens are learned from
    earlier batches.
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
        return "the query has tools"
    if query.has_attachments:
        return "the query has attachments"
    if features.tokens >= LONG_CONTEXT_TOKENS:
        return f"the context is very long (about {features.tokens} tokens)"
    return None
