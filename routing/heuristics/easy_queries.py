"""Plain cases: queries that a small model surely answers well.

Whatever is looked for must hold of the whole text. A hard question with something easy put before
or behind it is no plain case, and neither is one with a single sign of difficulty anywhere.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from routing.heuristics import signals
from routing.heuristics.language_detection import UNKNOWN, words_of
from routing.heuristics.signal_words import INSTRUCTION_LANGUAGES, tally
from routing.heuristics.text_features import LONG_TOKENS, SYSTEM_SCAN_CHARS, Features
from routing.query import Query


class EasyKind(StrEnum):
    """The kinds of plain cases."""

    GREETING = "greeting"
    RECKON = "reckon"
    FACT = "fact"
    CLASSIFY = "classify"
    EXTRACT = "extract"
    FORMAT = "format"
    TRANSLATE = "translate"
    SUMMARISE = "summarise"


CONFIDENCE: Final = {
    EasyKind.GREETING: 0.98,
    EasyKind.RECKON: 0.93,
    EasyKind.FACT: 0.92,
    EasyKind.CLASSIFY: 0.93,
    EasyKind.EXTRACT: 0.92,
    EasyKind.FORMAT: 0.93,
    EasyKind.TRANSLATE: 0.91,
    EasyKind.SUMMARISE: 0.91,
}
"""How sure the gate is; judged by hand, not measured."""

_MOST_WORDS_OF_FACT: Final = 12
_MOST_WORDS: Final = {
    EasyKind.FACT: _MOST_WORDS_OF_FACT,
    EasyKind.CLASSIFY: 120,
    EasyKind.EXTRACT: 150,
    EasyKind.FORMAT: 150,
    EasyKind.TRANSLATE: 120,
    EasyKind.SUMMARISE: 250,
}
_CHARS_PER_WORD: Final = 9
"""Scripts without spaces would make one word of a whole page."""
_MOST_ITEMS: Final = 12
_LONGEST_WORD: Final = 45
_OPENING_WORDS_READ: Final = 6
_SHORT_CHARS: Final = 60

_GREETING: Final = re.compile(
    r"(?:hi|hello|hey|hiya|howdy|good (?:morning|afternoon|evening|night|day)|thanks?(?: you)?(?: (?:so|very) much)?"
    r"|cheers|bye|goodbye|ok|okay|ping|test|hallo|guten (?:tag|morgen|abend)|danke(?: schön)?|tschüss|servus|moin"
    r"|bonjour|bonsoir|salut|merci(?: beaucoup)?|au revoir|hola|buen(?:os|as) (?:días|tardes|noches)|gracias|adiós)"
    r"(?:[ ,!]+(?:there|all|everyone|you|how are you(?: today)?|wie geht(?:'s| es dir)|ça va|¿?qué tal|comment ça va))*"
    r"[\s!.?,]*",
    re.IGNORECASE,
)
_THANKS: Final = re.compile(
    r"(?:(?:great|perfect|ok|okay|super|ah)[ ,!.]+)?"
    r"(?:thanks?(?: you)?(?: (?:so much|very much|a lot))?|many thanks|(?:vielen )?danke?|merci|(?:muchas )?gracias)"
    r"[ ,!.–-]*"
    r"(?:for (?:your|the|all the|all your) (?:quick |kind )?(?:help|answer|reply|explanation|time)(?: today)?"
    r"|für (?:die|deine|ihre) (?:hilfe|antwort)|pour (?:ton|votre) aide|por (?:tu|su|la) ayuda"
    r"|(?:that|this|it|you|das|you've|c'est|ça) (?:was|were|been|is|has been|have been|war|hat mir|m'a|helped|works)?"
    r"(?: (?:very|really|so|just|exactly|a|an|of|great|big|me|sehr|bien|helpful|useful|perfect|good|lovely|kind|help"
    r"|all|it|what i (?:needed|wanted)|geholfen|alles|parfait|aidé))*)[\s!.]*",
    re.IGNORECASE,
)
"""Closed lists to the end: thanks with anything else behind them are no plain case."""
_NUMBER: Final = r"-?\d{1,4}(?:[.,]\d{1,2})?"
_OPERATION: Final = r"[-+*/×·÷−x]|plus|minus|times|divided by|mal|durch|fois|por|más|menos"
_SUM: Final = re.compile(
    r"(?:(?:what(?:'s| is)|how much is|compute|calculate|wie ?viel (?:ist|sind)|was (?:ist|sind)|combien font"
    r"|¿?cuánto es) )?"
    rf"(?:{_NUMBER}(?:\s*(?:{_OPERATION})\s*{_NUMBER}){{1,2}}"
    rf"|{_NUMBER}\s*(?:%|percent|per cent|prozent) (?:of|von) {_NUMBER}"
    rf"|the (?:square|cube) root of {_NUMBER}|{_NUMBER} squared)(?:\s*=)?[\s?.!]*",
    re.IGNORECASE,
)
_COURTESY_WORDS: Final = """
    please kindly can could would will you i want need me to let s bitte kannst könntest du mir s il te vous plaît
    peux pouvez tu puedes podrías por favor
"""
_COURTESY: Final = frozenset(_COURTESY_WORDS.split())
_VERB_WORDS: Final = {
    EasyKind.TRANSLATE: """
        translate übersetze übersetzen traduis traduire traduisez traduce traducir traduzca
    """,
    EasyKind.SUMMARISE: """
        summarise summarize tldr condense zusammenfassen fasse résume résumer résumez resume resumir
    """,
    EasyKind.CLASSIFY: """
        classify categorise categorize label tag sentiment klassifiziere klassifizieren kategorisiere
        classe classer classez classifie classifica clasifica clasificar clasifique categoriza
    """,
    EasyKind.EXTRACT: """
        extract list name extrahiere extrahieren nenne liste extrais extraire extrayez extrae extraer
    """,
    EasyKind.FORMAT: """
        format reformat convert correct shorten rephrase paraphrase round capitalise capitalize uppercase lowercase
        sort alphabetise alphabetize spell spellcheck proofread punctuate formatiere sortiere konvertiere
        korrigiere kürze trie convertis formatea ordena convierte
    """,
}
_VERBS: Final = {verb: kind for kind, verbs in _VERB_WORDS.items() for verb in verbs.split()}
_TRANSLATION_WORDS: Final = """
    into from in this the following sentence sentences text proverb phrase phrases word words paragraph message line
    mail email question below ins aus dem den diesen satz text folgenden en au du de la le cette ce phrase texte
    al del esta este frase texto siguiente
"""
_TRANSLATION: Final = _COURTESY | frozenset(_TRANSLATION_WORDS.split())
_OPENING_WORDS: Final = """
    who whose when where what which wer wann wo was welche welcher welches qui quand où quel quelle combien quién
    cuándo dónde cuál qué cuántos cuántas cuánto cuánta
"""
_OPENERS: Final = frozenset(_OPENING_WORDS.split())
_BEFORE_OPENERS: Final = frozenset(
    {"in", "on", "at", "from", "by", "to", "auf", "aus", "an", "en", "à", "dans", "de", "a"}
)
_HOW: Final = frozenset({"how", "wie"})
_MEASURE_WORDS: Final = """
    many much old far tall long big large deep high heavy fast often viele viel alt weit hoch lang groß tief schwer
    schnell oft
"""
_MEASURES: Final = frozenset(_MEASURE_WORDS.split())
# Spelt-out figures: what looks like a question of fact may be one of reckoning.
_RECKONING_WORDS: Final = """
    two three four five six seven eight nine ten eleven twelve dozen hundred thousand million half twice ways times
    zwei drei vier fünf sechs sieben acht neun zehn hundert tausend hälfte deux trois quatre cinq sept huit neuf dix
    cent mille moitié dos tres cuatro cinco seis siete ocho nueve diez cien mil mitad
"""
_RECKONING: Final = frozenset(_RECKONING_WORDS.split())
# A question of judgement or of explanation, however short: its first word only looks like one of fact.
_JUDGING_WORDS: Final = """
    cause causes reasons arguments might intuitively difference differences differ should would could best better worse
    good bad great advantages disadvantages ursachen gründe argumente unterschied unterschiede sollte soll beste besten
    besser vorteile raisons différence différences devrais meilleur meilleure mieux avantages diferencia diferencias
    debería mejor ventajas
"""
_JUDGING: Final = frozenset(_JUDGING_WORDS.split())
_SENTENCE_END: Final = re.compile(r"[.!?。？！]\s|\n")


def match_easy(features: Features, query: Query) -> EasyKind | None:
    """The plain case that ``query`` is, or None."""
    if query.turns > 2 or features.clipped or features.tokens >= LONG_TOKENS:
        return None
    if len(query.text) <= _SHORT_CHARS and (kind := _whole(query.text.strip(), features)):
        return kind
    kind = _kind(features, query)
    if kind is None or _has_hard_sign(features):
        return None
    most = _MOST_WORDS[kind]
    if len(features.words) > most or len(query.text) > most * _CHARS_PER_WORD or features.parts > _MOST_ITEMS:
        return None
    match kind:
        case EasyKind.TRANSLATE:
            # What is to be translated may be anything, if nothing but a translation is asked for.
            return kind if not features.questions or _asks_only_for_translation(query.text) else None
        case EasyKind.FACT:
            return kind if features.questions == 1 and _is_read(features) else None
        case _:
            judging = not _JUDGING.isdisjoint(features.words[:_OPENING_WORDS_READ])
            return kind if features.questions == 0 and not judging and _is_read(features) else None


def _whole(text: str, features: Features) -> EasyKind | None:
    """A greeting, thanks, or a sum that is done in one's head: a short text that is nothing else."""
    if not features.numbers and (_GREETING.fullmatch(text) or _THANKS.fullmatch(text)):
        return EasyKind.GREETING
    return EasyKind.RECKON if _SUM.fullmatch(text) else None


def _kind(features: Features, query: Query) -> EasyKind | None:
    """What the text's first words ask for; or the system text's, where they ask for nothing."""
    if kind := _instruction(features.words):
        return kind
    if _is_question_of_fact(features, query.text):
        return EasyKind.FACT
    return _instruction(words_of(query.system[:SYSTEM_SCAN_CHARS])) if query.system else None


def _instruction(words: Sequence[str]) -> EasyKind | None:
    for word in words[:8]:
        kind = _VERBS.get(word)
        if kind is not None:
            return kind
        if word not in _COURTESY:
            return None
    return None


def _is_question_of_fact(features: Features, text: str) -> bool:
    """A short single question that opens with who, when, how many and the like, without figures."""
    words = features.words
    if features.numbers or not 3 <= len(words) <= _MOST_WORDS_OF_FACT:
        return False
    first, second = words[0], words[1]
    opens = (
        first in _OPENERS
        or (first in _HOW and second in _MEASURES)
        or (first in _BEFORE_OPENERS and second in _OPENERS)
    )
    return (
        opens and _RECKONING.isdisjoint(words) and _JUDGING.isdisjoint(words) and not _SENTENCE_END.search(text.strip())
    )


def _asks_only_for_translation(text: str) -> bool:
    """Everything before the colon is about the translation itself."""
    order, colon, _ = text.partition(":")
    words = words_of(order)
    return bool(colon) and all(word in _TRANSLATION or tally({word})[signals.FOREIGN] for word in words)


def _is_read(features: Features) -> bool:
    """Whether the word lists see all of it. A short text may be of unknown language: its first word told."""
    known = features.language in INSTRUCTION_LANGUAGES or features.language == UNKNOWN
    return known and not features.other_script


def _has_hard_sign(features: Features) -> bool:
    signs = features.signs
    return bool(
        signs[signals.PROOF]
        or signs[signals.STRONG]
        or signs[signals.MILD]
        or signs[signals.MATHS]
        or signs[signals.CODE]
        or features.phrases
        or features.code_marks
        or features.maths_marks
        or signs[signals.CONSTRAINT] > 3
        or features.output_words >= 150
        or features.choices
        or len(max(features.words, key=len, default="")) > _LONGEST_WORD
    )
