"""The sentences of simulated answers: generic, short, and labeled as simulated."""

import re
from typing import Final

from simulator.query_difficulty import words_of

_GERMAN, _FRENCH, _SPANISH, _ENGLISH = "de", "fr", "es", "en"

_MARKS: Final = {
    language: frozenset(words.split())
    for language, words in (
        (_GERMAN, "der die das und ist nicht wie warum welche ein eine bitte erkläre auf mit"),
        (_FRENCH, "le les des est une pour dans que quelle quel pourquoi comment avec et du"),
        (_SPANISH, "el los las es una para por qué cuál cómo que con del y en"),
    )
}
_NAMES: Final = {
    "german": _GERMAN,
    "deutsch": _GERMAN,
    "french": _FRENCH,
    "français": _FRENCH,
    "spanish": _SPANISH,
    "español": _SPANISH,
}
_TELLING: Final = frozenset(_NAMES).union(*_MARKS.values())
_ASKED_FOR: Final = re.compile(rf"\b(?:in|into|auf|en)\s+({'|'.join(_NAMES)})\b")

_SURE: Final = {
    _ENGLISH: (
        "The answer to “{topic}” follows directly from what is given, and checking it once more gives the same result.",
        "In short, “{topic}” has one clear answer; the steps are few and each of them holds.",
        "Taking “{topic}” step by step: first what is known, then what follows from it, and that settles it.",
        "For “{topic}” the usual approach works, and its result agrees with a quick check.",
    ),
    _GERMAN: (
        "Die Antwort auf „{topic}“ folgt unmittelbar aus den Angaben, und die Probe ergibt dasselbe.",
        "Kurz gesagt: „{topic}“ hat eine klare Antwort, und jeder Schritt dahin ist richtig.",
    ),
    _FRENCH: (
        "La réponse à « {topic} » découle directement des données, et la vérification donne le même résultat.",
        "En bref, « {topic} » a une réponse claire, et chaque étape est juste.",
    ),
    _SPANISH: (
        "La respuesta a «{topic}» se sigue directamente de los datos, y la comprobación da el mismo resultado.",
        "En resumen, «{topic}» tiene una respuesta clara y cada paso es correcto.",
    ),
}
_VAGUE: Final = {
    _ENGLISH: (
        "About “{topic}” it is hard to say; it may depend on several things, possibly on none of them.",
        "Perhaps “{topic}” works out the other way round, or not at all; several answers seem possible.",
        "There are many views on “{topic}”, and one of them is probably the right one.",
    ),
    _GERMAN: (
        "Zu „{topic}“ ist das schwer zu sagen; es kommt vielleicht auf manches an, und eine der Antworten ist es.",
    ),
    _FRENCH: ("Pour « {topic} », c'est difficile à dire ; la réponse dépend peut-être de plusieurs choses.",),
    _SPANISH: ("Sobre «{topic}» es difícil decirlo; la respuesta depende quizá de varias cosas.",),
}
REFUSAL: Final = "I'm sorry, but I can't help with that request."
_TOPIC_WORDS: Final = 9
_READ_CHARS: Final = 400


def label(model: str) -> str:
    """The prefix of every simulated text."""
    return f"[simulated {model}]"


def sentence(model: str, text: str, *, sure: bool, draw: float) -> str:
    """An answer to ``text`` in its language (English, German, French, Spanish), sure or vague, chosen by ``draw``."""
    language = _language(text[:_READ_CHARS])
    choices = (_SURE if sure else _VAGUE)[language]
    return f"{label(model)} {choices[int(draw * len(choices))].replace('{topic}', _topic(text))}"


def _topic(text: str) -> str:
    """The first words, without quotes and punctuation that would disturb the sentence."""
    words = text[:_READ_CHARS].split(maxsplit=_TOPIC_WORDS)[:_TOPIC_WORDS]
    return " ".join(words).strip(" .?!:“”\"'")


def _language(head: str) -> str:
    lower = head.lower()
    all_words = words_of(lower)
    if _TELLING.isdisjoint(all_words):
        return _ENGLISH
    words = set(all_words)
    if not words.isdisjoint(_NAMES) and (named := _ASKED_FOR.search(lower)) is not None:
        return _NAMES[named.group(1)]
    counts = {language: len(marks & words) for language, marks in _MARKS.items()}
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] >= 2 and 4 * counts[best] >= len(words) else _ENGLISH
