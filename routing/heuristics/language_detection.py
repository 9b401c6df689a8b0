"""In which language a text is written: a light guess from scripts and stop words."""

import re
from collections.abc import Sequence
from typing import Final

from routing.heuristics.signal_words import LANGUAGES, tally_stop_words

UNKNOWN: Final = "unknown"

SAMPLE_CHARS: Final = 600
"""So many characters from the start decide the language."""

_WORD: Final = re.compile(r"\w+")
_LETTERS: Final = "".join(chr(code).lower() if _WORD.match(chr(code)) else " " for code in range(256)).encode("latin-1")
"""For each byte of Latin-1 its lower case, or a space where it is of no word."""
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
    """The words of ``text``, lower case, in order: runs of letters, digits and underscores."""
    return _WORD.findall(text.lower()) if is_beyond_latin(text) else latin_words_of(in_latin(text))


def in_latin(text: str) -> bytes:
    """A byte of Latin-1 for each character, a question mark for those that it has not."""
    return text.encode("latin-1", "replace")


def latin_words_of(letters: bytes) -> list[str]:
    """`words_of` a text that is not `is_beyond_latin`, by a table: much faster than by a pattern."""
    return letters.translate(_LETTERS).decode("latin-1").split()


def is_beyond_latin(text: str) -> bool:
    """Whether some of ``text`` is neither of Latin-1 nor a typographer's mark, or is a sign of mathematics."""
    return not text.isascii() and _BEYOND_LATIN.search(text) is not None


def language_of(text: str) -> str:
    """ISO 639-1 code of the language of ``text``, or ``unknown``."""
    sample = text[:SAMPLE_CHARS]
    if is_beyond_latin(sample):
        words = words_of(sample)
        return guess(sample, words, tally_stop_words(words))
    words = latin_words_of(in_latin(sample))
    return latin_language(words, tally_stop_words(words))


def guess(sample: str, words: Sequence[str], stop_words: bytes) -> str:
    """The language of a text in any script; for ``words`` and ``stop_words`` see `latin_language`."""
    return script_language(sample) or latin_language(words, stop_words)


def has_other_script(text: str) -> bool:
    """Whether some of ``text`` is in a script other than Latin."""
    return _NON_LATIN.search(text) is not None


def script_language(text: str) -> str | None:
    """The language of the script of ``text``, or None for Latin script or a mixture.

    Cyrillic counts as Russian and Han without kana as Chinese: it is the script that is detected.
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
    """The language whose stop words are the most, if plainly the most, and at least one in twelve different words.

    ``stop_words`` are those of each of `LANGUAGES` among ``words``, as `tally_stop_words` counts them.
    """
    second, most = sorted(stop_words)[-2:]
    if most < 2 or most * 3 < second * 4 or (most * 12 < len(words) and most * 12 < len(set(words))):
        return UNKNOWN
    return LANGUAGES[stop_words.index(most)][1]
