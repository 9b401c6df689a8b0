"""Obfuscated text: characters that are invisible or look like others, and their plain forms.

Obfuscation is used to get words past filters. Here it makes a text suspect, and it is removed before the text is read.
"""

import re
from typing import Final

from routing.unicode_normalization import PIECE_CHARS, normalize

INVISIBLE: Final = "\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\U000e0000-\U000e007f"
"""Invisible characters, as the inside of a regular expression's class."""

# Invisible ones, Latin letters next to Greek or Cyrillic ones, and letters in fancy dress.
_DISGUISE: Final = re.compile(
    f"[{INVISIBLE}]|[a-zA-Z][\u0370-\u052f]|[\u0370-\u052f][a-zA-Z]|[\uff21-\uff5a]|[\U0001d400-\U0001d7ff]"
)
_UNSEEN: Final = re.compile(f"[{INVISIBLE}]")
_MIXED_WORD: Final = re.compile("[\u0370-\u052f]*[a-zA-Z][a-zA-Z\u0370-\u052f]*")
_LOOK_ALIKES: Final = str.maketrans(
    "\u0430\u0432\u0435\u043a\u043c\u043d\u043e\u0440\u0441\u0442\u0443\u0445\u0456\u0458\u0455\u0501\u04bb"
    "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0406"
    "\u03b1\u03bf\u03c1\u03bd\u03c5\u03b9\u03ba\u03c4\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7",
    "abekmhopctyxijsdhABEKMHOPCTYXIaopvuiktABEZHIKMNOPTYX",
)
"""Cyrillic and Greek letters that look like Latin letters (Unicode TR 39 lists them all)."""


def is_disguised(text: str) -> bool:
    """Whether ``text`` contains hidden, mixed or fancy letters."""
    return _DISGUISE.search(text) is not None


def normalize_homoglyphs(text: str) -> str:
    """Return ``text`` in plain letters with nothing hidden, cut if it would be longer than before."""
    seen = _UNSEEN.sub("", text)
    read, chars = [], 0
    # Ligatures that become eighteen letters take thirty times as long as other texts, to normalize and to read.
    for start in range(0, len(seen), PIECE_CHARS):
        if chars >= len(text):
            break
        read.append(normalize("NFKC", seen[start : start + PIECE_CHARS]))
        chars += len(read[-1])
    seen = "".join(read)[: len(text)]
    return _MIXED_WORD.sub(lambda word: word.group(0).translate(_LOOK_ALIKES), seen)
