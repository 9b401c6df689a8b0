"""In which language a text is written: a light guess from scripts and stop words."""

import re
from collections.abc import Set
from typing import Final

from routing.lexicon import LANGUAGES, Signs, tally

UNKNOWN: Final = "unknown"

SAMPLE_CHARS: Final = 600
"""So many characters from the start decide the language."""

_WORD: Final = re.compile(r"\w+")
_ASCII_GAPS: Final = bytes(code if chr(code).isalnum() or chr(code) == "_" else 32 for code in range(128)).ljust(256)
_STOP_WORDS: Final = slice(LANGUAGES[0][0], LANGUAGES[-1][0] + 1)
"""Where the counts of stop words stand in `Signs`, in the order of `LANGUAGES`."""

_NON_LATIN: Final = re.compile("[\u0370-\u1fff\u3040-\ud7ff]")
_SCRIPTS: Final = (
    # Kana and Hangul come first: Japanese and Korean texts hold Chinese characters too.
    ("ja", re.compile("[\u3040-\u30ff]")),
    ("ko", re.compile("[\uac00-\ud7a3]")),
    ("zh", re.compile("[\u4e00-\u9fff]")),
    ("ru", re.compile("[\u0400-\u04ff]")),
    ("ar", re.compile("[\u0600-\u06ff]")),
    ("el", re.compile("[\u0370-\u03ff]")),
    ("he", re.compile("[\u0590-\u05ff]")),
    ("hi", re.compile("[\u0900-\u097f]")),
    ("th", re.compile("[\u0e00-\u0e7f]")),
)


def words_of(lower: str) -> list[str]:
    """The words of a text in lower case, in order: runs of letters, digits and underscores."""
    # For ASCII, translate and split are ten times as fast as the pattern, on bytes, whose table has an entry for each.
    return lower.encode().translate(_ASCII_GAPS).decode().split() if lower.isascii() else _WORD.findall(lower)


def language_of(text: str) -> str:
    """ISO 639-1 code of the language of ``text``, or ``unknown``."""
    sample = text[:SAMPLE_CHARS]
    words = set(words_of(sample.lower()))
    return guess(sample, words, tally(words))


def guess(sample: str, words: Set[str], signs: Signs) -> str:
    """The language of a text whose words are tallied already."""
    if not sample.isascii() and (found := script_language(sample)):
        return found
    return latin_language(len(words), signs)


def has_other_script(text: str) -> bool:
    """Whether some of ``text`` is in another script than Latin."""
    return _NON_LATIN.search(text) is not None


def script_language(text: str) -> str | None:
    """The language that the script of ``text`` tells, or None for Latin script or a mixture.

    Cyrillic counts as Russian and Han without kana as Chinese: it is the script that is told.
    """
    if not has_other_script(text):
        return None
    strange = len(_NON_LATIN.findall(text))
    letters = sum(map(str.isalpha, text))
    if strange * 3 < letters:
        return None
    for language, script in _SCRIPTS:
        # A tenth is enough for kana among Han; the others have a script of their own.
        if len(script.findall(text)) * 10 >= strange:
            return language
    return UNKNOWN


def latin_language(different_words: int, signs: Signs) -> str:
    """The language whose stop words are the most, if they are plainly the most."""
    counts = signs[_STOP_WORDS]
    second, most = sorted(counts)[-2:]
    if most < 2 or most * 3 < second * 4 or most * 12 < different_words:
        return UNKNOWN
    return LANGUAGES[counts.index(most)][1]
