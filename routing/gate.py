"""The heuristic gate: decides plain cases for free, and abstains or goes up in doubt.

It reads the user's text as an opponent would write it. Signs of difficulty only ever add up; what
makes a query plainly easy must hold of the *whole* text, so that nothing that is put before or
behind a hard question makes it an easy one; and a text that speaks to the router is never easy.
"""

import re
from dataclasses import dataclass
from typing import Final

from routing.features import LONG_CONTEXT_TOKENS, LONG_TOKENS, Features, category_of, features_of
from routing.fleet import Fleet
from routing.language import UNKNOWN
from routing.lexicon import INSTRUCTION_LANGUAGES, Sign
from routing.opinion import Opinion
from routing.query import Query

NAME: Final = "gate"

RED_TEAM_BOUND: Final = 0.0
"""The share of the red-team set (tests/unit/routing/red_team.py) that gate and policy may route lower than
the same queries without the attack. It bounds what is known, not what somebody has yet to find."""

_GREETING: Final = re.compile(
    r"(?:hi|hello|hey|hiya|howdy|good (?:morning|afternoon|evening|night|day)|thanks?(?: you)?(?: (?:so|very) much)?"
    r"|cheers|bye|goodbye|ok|okay|ping|test|hallo|guten (?:tag|morgen|abend)|danke(?: schön)?|tschüss|servus|moin"
    r"|bonjour|bonsoir|salut|merci(?: beaucoup)?|au revoir|hola|buen(?:os|as) (?:días|tardes|noches)|gracias|adiós)"
    r"(?:[ ,]+(?:there|all|everyone|you|how are you(?: today)?|wie geht(?:'s| es dir)|ça va|qué tal|comment ça va))*"
    r"[\s!.?,]*",
    re.IGNORECASE,
)
_GREETING_CHARS: Final = 60

# What may stand before the verb of an instruction.
_COURTESY_WORDS: Final = """
    please kindly can could would will you i want need me to let s bitte kannst könntest du mir s il te vous plaît 
    peux pouvez tu puedes podrías por favor
"""
_COURTESY: Final = frozenset(_COURTESY_WORDS.split())
_VERBS: Final[dict[str, str]] = {
    verb: kind
    for kind, verbs in {
        "translate": "translate übersetze übersetzen traduis traduire traduisez traduce traducir traduzca",
        "summarise": "summarise summarize tldr condense zusammenfassen fasse résume résumer résumez resume resumir",
        "classify": "classify categorise categorize label tag sentiment klassifiziere klassifizieren kategorisiere "
        "classe classer classez classifie classifica clasifica clasificar clasifique categoriza",
        "extract": "extract list name extrahiere extrahieren nenne liste extrais extraire extrayez extrae extraer",
        "format": "format reformat convert capitalise capitalize uppercase lowercase sort alphabetise alphabetize "
        "spell spellcheck proofread punctuate formatiere sortiere konvertiere trie convertis formatea ordena convierte",
    }.items()
    for verb in verbs.split()
}
_SENTENCE_END: Final = re.compile(r"[.!?。？！]\s|\n")
_FACT_OPENING_WORDS: Final = """
    who when where what which capital wer wann wo was welche welcher welches qui quand où quel quelle quién cuándo 
    dónde cuál qué
"""
_FACT_OPENERS: Final = frozenset(_FACT_OPENING_WORDS.split())

_PROOF_VERB_WORDS: Final = """
    prove disprove derive beweise beweisen widerlege herleiten prouve prouver prouvez démontre démontrer démontrez
    demuestra demostrar demuestre
"""
_PROOF_VERBS: Final = frozenset(_PROOF_VERB_WORDS.split())
_LONGEST_WORD: Final = 45

_EASY_LIMITS: Final = {"translate": 120, "summarise": 250, "classify": 120, "extract": 150, "format": 150, "fact": 12}
"""The longest text, in words, for which a small tier surely does."""
_CHARS_PER_WORD: Final = 9
"""Scripts without spaces would make one word of a whole page."""

_EASY_CONFIDENCE: Final = {
    "greeting": 0.98,
    "fact": 0.92,
    "classify": 0.93,
    "extract": 0.92,
    "format": 0.93,
    "translate": 0.91,
    "summarise": 0.91,
}


@dataclass(frozen=True, slots=True)
class Rungs:
    """The fleet's names for the gate's ideas. ``special`` is None where every tier is on the ladder."""

    small: str
    medium: str
    large: str
    special: str | None

    @classmethod
    def of(cls, fleet: Fleet) -> "Rungs":
        """The ladder's first, middle (the upper of two) and last tier, and the first tier off the ladder."""
        ladder = fleet.ladder
        aside = [name for name in fleet.tiers if name not in ladder]
        return cls(ladder[0], ladder[len(ladder) // 2], ladder[-1], aside[0] if aside else None)


def review(query: Query, *, rungs: Rungs, features: Features | None = None) -> Opinion:
    """The gate's opinion of ``query``. Its confidence is a promise by construction, not a calibrated figure."""
    seen = features or features_of(query)
    category = category_of(seen, query)
    score = difficulty(seen, query)
    if special := _special(seen, query):
        tier = rungs.special or rungs.large
        return Opinion(NAME, tier, 0.97, max(score, 0.6), special, category)
    if hard := _hard(seen):
        return Opinion(NAME, rungs.large, hard[0], max(score, 0.75), hard[1], category)
    if seen.wary:
        return Opinion(NAME, None, 0.0, max(score, 0.5), "the text speaks to the router or hides something", category)
    if kind := _easy(seen, query):
        return Opinion(NAME, rungs.small, _EASY_CONFIDENCE[kind], min(score, 0.15), f"plainly easy: {kind}", category)
    if seen.language not in INSTRUCTION_LANGUAGES and len(seen.words) > 3:
        told = "of unknown language" if seen.language == UNKNOWN else f"in {seen.language}"
        return Opinion(NAME, None, 0.0, max(score, 0.5), f"a text {told}: the word lists do not help", category)
    if score >= 0.6:
        return Opinion(NAME, rungs.large, 0.75, score, f"many signs of difficulty ({score:.2f})", category)
    return Opinion(NAME, None, 0.0, score, f"no plain case (difficulty {score:.2f})", category)


def difficulty(features: Features, query: Query) -> float:
    """0 to 1: a sum of signs, none of which counts downwards."""
    signs = features.signs
    score = (
        0.2
        + 0.3 * (signs[Sign.PROOF] > 0)
        + 0.12 * min(signs[Sign.STRONG], 3)
        + 0.08 * min(signs[Sign.MILD], 3)
        + 0.1 * min(features.phrases, 2)
        + 0.15 * features.has_code
        + 0.12 * features.has_maths
        + 0.03 * min(signs[Sign.CONSTRAINT], 5)
        + 0.03 * min(features.parts, 5)
        + 0.02 * min(features.numbers, 5)
        + 0.04 * min(max(features.questions - 1, 0), 3)
        + 0.04 * min(query.turns - 1, 3)
        + 0.1 * min(features.tokens / LONG_TOKENS, 1.0)
        + 0.1 * (features.output_words >= 400)
    )
    return min(score, 1.0)


def expected_completion_tokens(features: Features, query: Query) -> int:
    """A rough size of the answer, for pricing; never above the query's own cap."""
    if features.output_words:
        tokens = round(features.output_words * 1.35)
    else:
        tokens = 200 + 60 * min(features.signs[Sign.STRONG] + features.signs[Sign.MILD] + features.parts, 8)
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
    if signs[Sign.PROOF] and (features.has_maths or features.phrases or signs[Sign.PROOF] >= 2):
        return 0.95, "a proof or a derivation"
    if features.has_code and signs[Sign.BUILD] and (signs[Sign.STRONG] or features.tokens >= 250):
        return 0.93, "code to be designed or mended"
    asked = signs[Sign.STRONG] + signs[Sign.MILD]
    if signs[Sign.STRONG] and asked >= 2 and (features.parts >= 3 or features.phrases or asked >= 4):
        return 0.92, "several steps of analysis"
    if signs[Sign.PROOF]:
        return (0.93 if _PROOF_VERBS.intersection(features.words[:6]) else 0.8), "a word of proof or derivation"
    return None


def _easy(features: Features, query: Query) -> str | None:
    """The plain case that the *whole* text is, or None."""
    words = len(features.words)
    if query.turns > 2 or features.clipped or features.tokens >= LONG_TOKENS:
        return None
    if len(query.text) <= _GREETING_CHARS and _GREETING.fullmatch(query.text.strip()):
        return "greeting"
    kind = _instruction(features.words) or _fact(features, query)
    if kind is None or _has_hard_sign(features):
        return None
    limit = _EASY_LIMITS[kind]
    if words > limit or len(query.text) > limit * _CHARS_PER_WORD or features.parts > 12:
        return None
    if features.questions != (kind == "fact"):
        return None
    return kind if kind == "translate" or _is_read(features) else None


def _is_read(features: Features) -> bool:
    """Whether the word lists see all of it. A short text may be of unknown language: its first word told."""
    return not features.other_script and (features.language in INSTRUCTION_LANGUAGES or features.language == UNKNOWN)


def _has_hard_sign(features: Features) -> bool:
    signs = features.signs
    return bool(
        signs[Sign.PROOF]
        or signs[Sign.STRONG]
        or signs[Sign.MILD]
        or signs[Sign.MATHS]
        or signs[Sign.CODE]
        or features.phrases
        or features.code_marks
        or features.maths_marks
        or signs[Sign.CONSTRAINT] > 3
        or features.output_words >= 150
        or features.choices
        or len(max(features.words, key=len, default="")) > _LONGEST_WORD
    )


def _instruction(words: tuple[str, ...]) -> str | None:
    for word in words[:8]:
        kind = _VERBS.get(word)
        if kind is not None:
            return kind
        if word not in _COURTESY:
            return None
    return None


def _fact(features: Features, query: Query) -> str | None:
    """A short single question that opens with who, when, where, which and the like."""
    words = features.words
    opens = 3 <= len(words) <= _EASY_LIMITS["fact"] and words[0] in _FACT_OPENERS
    return "fact" if opens and not features.numbers and not _SENTENCE_END.search(query.text.strip()) else None
