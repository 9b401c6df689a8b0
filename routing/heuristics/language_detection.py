"""The language of a text, guessed from scripts and stop words."""

import re
from collections.abc import Sequence
from typing import Final

from routing.heuristics.signal_words import LANGUAGES, tally_stop_words

UNKNOWN: Final = "unknown"

SAMPLE_CHARS: Final = 600
"""The number of characters from the start that decide the language."""

_WORD: Final = re.compile(r"\w+")
_LETTERS: Final = "".join(chr(code).lower() if _WORD.match(chr(code)) else " " for code in range(256)).encode("latin-1")
"""For each Latin-1 byte: its lower case, or a space if it is not part of a word."""
_BEYOND_LATIN: Final = re.compile("[^\x00-\xac\xae-\xb0\xb4-\xd6\xd8-\xf6\xf8-\xff‘’‚“”„•…–—€]")
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


def words_of(text: str) -> list[str]:
    """Return the words of ``text`` in lower case and in order. A word is a run of letters, digits and underscores."""
    return _WORD.findall(text.lower()) if is_beyond_latin(text) else latin_words_of(in_latin(text))


def in_latin(text: str) -> bytes:
    """Return one Latin-1 byte per character, and a question mark for characters outside Latin-1."""
    return text.encode("latin-1", "replace")


def latin_words_of(letters: bytes) -> list[str]:
    """Return `words_of` a text that is not `is_beyond_latin`. A table makes this much faster than a pattern."""
    return letters.translate(_LETTERS).decode("latin-1").split()


def is_beyond_latin(text: str) -> bool:
    """Whether ``text`` has a character outside Latin-1 and typographic marks, or a mathematical sign."""
    return not text.isascii() and _BEYOND_LATIN.search(text) is not None


def language_of(text: str) -> str:
    """Return the ISO 639-1 code of the language of ``text``, or ``unknown``."""
    sample = text[:SAMPLE_CHARS]
    if is_beyond_latin(sample):
        words = words_of(sample)
        return guess(sample, words, tally_stop_words(words))
    words = latin_words_of(in_latin(sample))
    return latin_language(words, tally_stop_words(words))


def guess(sample: str, words: Sequence[str], stop_words: bytes) -> str:
    """Return the language of a text in any script. For ``words`` and ``stop_words`` see `latin_language`."""
    return script_language(sample) or latin_language(words, stop_words)


def has_other_script(text: str) -> bool:
    """Whether ``text`` contains a script other than Latin."""
    return _NON_LATIN.search(text) is not None


def script_language(text: str) -> str | None:
    """Return the language of ``text`` by its script, or None for Latin script or a mixture.

    Cyrillic counts as Russian, and Han without kana as Chinese.
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


def latin_language(words: Sequence[str], stop_words: bytes) -> str:
    """Return the language with clearly the most stop words, and at least one among twelve different words.

    ``stop_words`` counts the words of each of `LANGUAGES` among ``words``, as `tally_stop_words` does.
    """
    second, most = sorted(stop_words)[-2:]
    if most < 2 or most * 3 < second * 4 or (most * 12 < len(words) and most * 12 < len(set(words))):
        return UNKNOWN
    return LANGUAGES[stop_words.index(most)][1]
