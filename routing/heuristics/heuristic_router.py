"""The heuristic gate: decides plain cases for free, and abstains or goes up in doubt.

It reads the user's text as an opponent would write it. Signs of difficulty only ever add up; what
makes a query plainly easy must hold of the *whole* text, so that nothing that is put before or
behind a hard question makes it an easy one; and a text that speaks to the router is never easy.
"""

from dataclasses import dataclass
from typing import Final

from routing.fleet import Fleet
from routing.heuristics import signals
from routing.heuristics.easy_queries import CONFIDENCE, match_easy
from routing.heuristics.language_detection import UNKNOWN
from routing.heuristics.signal_words import INSTRUCTION_LANGUAGES
from routing.heuristics.text_features import LONG_CONTEXT_TOKENS, LONG_TOKENS, Features, category_of, extract_features
from routing.policy.llm_router_prompt import RouterVote
from routing.query import Query

NAME: Final = "gate"

RED_TEAM_BOUND: Final = 0.0
"""The share of the red-team set (tests/unit/routing/red_team.py) that gate and policy may route lower than
the same queries without the attack. It bounds what is known, not what somebody has yet to find."""

_PROOF_VERB_WORDS: Final = """
    prove disprove derive beweise beweisen widerlege herleiten prouve prouver prouvez démontre démontrer démontrez
    demuestra demostrar demuestre
"""
_PROOF_VERBS: Final = frozenset(_PROOF_VERB_WORDS.split())


@dataclass(frozen=True, slots=True)
class LadderRoles:
    """The fleet's names for the gate's ideas. ``special`` is None where every tier is on the ladder."""

    small: str
    medium: str
    large: str
    special: str | None

    @classmethod
    def of(cls, fleet: Fleet) -> "LadderRoles":
        """The ladder's first, middle (the upper of two) and last tier, and the first tier off the ladder."""
        ladder = fleet.ladder
        aside = [name for name in fleet.tiers if name not in ladder]
        return cls(ladder[0], ladder[len(ladder) // 2], ladder[-1], aside[0] if aside else None)


def heuristic_vote(query: Query, *, rungs: LadderRoles, features: Features | None = None) -> RouterVote:
    """The gate's opinion of ``query``. Its confidence is a promise by construction, not a calibrated figure."""
    seen = features or extract_features(query)
    category = category_of(seen, query)
    score = difficulty(seen, query)
    if special := _special(seen, query):
        tier = rungs.special or rungs.large
        return RouterVote(NAME, tier, 0.97, max(score, 0.6), special, category)
    if hard := _hard(seen):
        return RouterVote(NAME, rungs.large, hard[0], max(score, 0.75), hard[1], category)
    if seen.wary:
        return RouterVote(
            NAME, None, 0.0, max(score, 0.5), "the text speaks to the router or hides something", category
        )
    if kind := match_easy(seen, query):
        return RouterVote(NAME, rungs.small, CONFIDENCE[kind], min(score, 0.15), f"plainly easy: {kind}", category)
    if seen.language not in INSTRUCTION_LANGUAGES and len(seen.words) > 3:
        script = "of unknown language" if seen.language == UNKNOWN else f"in {seen.language}"
        return RouterVote(NAME, None, 0.0, max(score, 0.5), f"a text {script}: the word lists do not help", category)
    if score >= 0.6:
        return RouterVote(NAME, rungs.large, 0.75, score, f"many signs of difficulty ({score:.2f})", category)
    return RouterVote(NAME, None, 0.0, score, f"no plain case (difficulty {score:.2f})", category)


def difficulty(features: Features, query: Query) -> float:
    """0 to 1: a sum of signs, none of which counts downwards."""
    signs = features.signs
    score = 0.2
    # Most of it is zero for most queries, and nothing is reckoned for what is not there.
    if signs[signals.PROOF]:
        score += 0.3
    if strong := signs[signals.STRONG]:
        score += 0.16 * min(strong, 3)
    if mild := signs[signals.MILD]:
        score += 0.08 * min(mild, 3)
    if features.phrases:
        score += 0.14 * min(features.phrases, 2)
    if features.has_code:
        score += 0.15
    if features.has_maths:
        score += 0.15
    if constraints := signs[signals.CONSTRAINT]:
        score += 0.03 * min(constraints, 5)
    if features.parts:
        score += 0.03 * min(features.parts, 5)
    if features.numbers:
        score += 0.02 * min(features.numbers, 5)
    if features.questions > 1:
        score += 0.04 * min(features.questions - 1, 3)
    if query.turns != 1:
        score += 0.04 * min(query.turns - 1, 3)
    score += 0.1 * (features.tokens / LONG_TOKENS) if features.tokens < LONG_TOKENS else 0.1
    if features.output_words >= 400:
        score += 0.1
    return score if score < 1.0 else 1.0


def expected_completion_tokens(features: Features, query: Query) -> int:
    """A rough size of the answer, for pricing; never above the query's own cap."""
    if features.output_words:
        tokens = round(features.output_words * 1.35)
    else:
        tokens = 200 + 60 * min(features.signs[signals.STRONG] + features.signs[signals.MILD] + features.parts, 8)
    return min(tokens, query.max_tokens) if query.max_tokens else tokens


def _special(features: Features, query: Query) -> str | None:
    if query.has_tools:
        return "the query brings tools"
    if query.has_attachments:
        return "the query has attachments"
    if features.tokens >= LONG_CONTEXT_TOKENS:
        return f"a very long context (about {features.tokens} tokens)"
    return None


def _hard(features: Features) -> tuple[float, str] | None:
    """Confidence and reason, where the text plainly asks for the largest tier."""
    signs = features.signs
    if signs[signals.PROOF] and (features.has_maths or features.phrases or signs[signals.PROOF] >= 2):
        return 0.95, "a proof or a derivation"
    if features.has_code and signs[signals.BUILD] and (signs[signals.STRONG] or features.tokens >= 250):
        return 0.93, "code to design or fix"
    asked = signs[signals.STRONG] + signs[signals.MILD]
    if signs[signals.STRONG] and asked >= 2 and (features.parts >= 3 or features.phrases or asked >= 4):
        return 0.92, "several steps of analysis"
    if signs[signals.PROOF]:
        return (0.93 if _PROOF_VERBS.intersection(features.words[:6]) else 0.8), "a word of proof or derivation"
    return None
