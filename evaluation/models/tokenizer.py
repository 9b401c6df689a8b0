"""Words of a text, as the classifier and the scorer read it.

Punctuation and line breaks are words too: on multiple-choice questions they tell of formulas,
blanks and the layout of the choices. A number counts by its number of digits, because no number
says much by itself.
"""

import re
from typing import Final

READ_CHARS: Final = 5_000
"""Of a longer text, only the first four fifths of this and the last fifth are read."""

# Chinese, Japanese and Korean put no spaces between words: each character counts as one.
_TOKEN: Final = re.compile(r"\n|####|<<|>>|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\d_]+|\d+|_+|[^\w\s]")
_NUMBERS: Final = ("", "#1", "#2", "#3", "#4")
_LONG_NUMBER: Final = "#5"


def excerpt(text: str) -> str:
    """What is read of ``text``: all of it, unless it is very long."""
    if len(text) <= READ_CHARS:
        return text
    head = READ_CHARS * 4 // 5
    return f"{text[:head]}\n{text[head - READ_CHARS :]}"


def tokens_of(text: str) -> list[str]:
    """The tokens of ``text``, lower case, in order."""
    return [
        token if not token[0].isdecimal() else (_NUMBERS[len(token)] if len(token) < 5 else _LONG_NUMBER)
        for token in _TOKEN.findall(excerpt(text).lower())
    ]
