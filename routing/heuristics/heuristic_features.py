"""Cheap features of a query's text. They take about ten microseconds."""

import re
from typing import Final, NamedTuple

from routing.heuristics import signals
from routing.heuristics.language_detection import in_latin, is_beyond_latin, latin_words_of, words_of
from routing.heuristics.signal_words import Signs, tally
from routing.heuristics.unicode_obfuscation import is_disguised, normalize_homoglyphs
from routing.query import Query

SCAN_CHARS: Final = 4000
"""Only the head and the tail of a longer text are read, half of this each."""

SYSTEM_SCAN_CHARS: Final = 600

GENERAL: Final = "general"
"""The category of a query without any other category."""

LONG_TOKENS: Final = 2_000
"""Texts above this length count as equally difficult."""

LONG_CONTEXT_TOKENS: Final = 24_000
"""A query of at least this length has the category ``long_context``."""

MOST_OUTPUT_WORDS: Final = 2_000
"""A larger number is the length of a text that the query is about, because no model answers at such length."""

_LIST_MARK: Final = re.compile(r"^[ \t]*(?:[-*•]|\d{1,2}[.)]|\(?[a-h]\))[ \t]", re.MULTILINE)
_LATEX: Final = re.compile(r"\\(?:frac|sum|int|prod|sqrt|lim|alpha|beta|theta|mathbb|begin|left|cdot|le|ge|\(|\[)|\$\$")
_MATHS_SIGN: Final = re.compile("[∑∫√≤≥≠∞∂∇∈∀∃π×÷±²³]")
_LENGTH: Final = re.compile(
    r"(?<![\w.])(\d{1,5}|one|single|two|three)[- ]+\w{0,12} ?"
    r"(word|wört|wort(?!h)|mots|palabras|sentence|paragraph|page|seite)"
)
_LENGTH_NUMBERS: Final = {"one": 1, "single": 1, "two": 2, "three": 3}
_LENGTH_WORDS: Final = {"sentence": 20, "paragraph": 90, "page": 400, "seite": 400}
_LABEL: Final = re.compile(
    r"(?:label|letter|category)\W{0,3}only\b"
    r"|(?:only|answer with|reply with|respond with)(?: with)? (?:the |a |one )?(?:\w+ )?(?:label|letter|category)\b"
)
LABEL_WORDS: Final = 2
_CODE_SIGNS: Final = ("```", "=>", "();", "</", "&&", "};")
_CODE_WORDS: Final = ("def ", "#include", "function(", "console.", "select ", "import ", "public ", "return ", "const ")
_UNMARKED: Final = bytes(code for code in range(256) if chr(code) not in "`;>&<=^\\$[")
"""Every byte except those of characters that must be present in any sign of code, mathematics or a role."""
_ROLE_SIGNS: Final = ("<|", "[inst", "</query", "<query", "</system", "<system")
_ROLE_WORDS: Final = ("system:", "assistant:", '"tier"', "'tier'", '"role"', "system prompt")
_SELF_ASSESSMENT: Final = re.compile(
    r"\b(?:easy|trivial|simple|basic|einfache?|leichte?|facile|simple|fácil|sencilla)\s+"
    r"(?:question|query|task|request|prompt|problem|frage|anfrage|aufgabe|requête|tâche|pregunta|consulta|tarea)"
    r"|(?:question|query|task|request|prompt|frage|anfrage|aufgabe|requête|pregunta|consulta|tarea)\s+"
    r"(?:is|ist|est|es)\s+(?:very |really |sehr |très |muy )?(?:easy|trivial|simple|basic|einfach|leicht|facile|fácil)"
    r"|(?:ignore|disregard|forget|override|ignoriere|oublie|ignora)\b[^.]{0,40}"
    r"\b(?:instructions?|rules?|above|previous|anweisungen|instrucciones)"
)
_SELF_ASSESSMENT_STEMS: Final = (
    "easy", "trivial", "simple", "basic", "einfach", "leicht", "facile", "fácil", "sencilla",
    "ignor", "disregard", "forget", "override", "oublie",
)  # fmt: skip
"""Without one of these, `_SELF_ASSESSMENT` cannot match. It would take a third of the time that the gate may use."""


class Features(NamedTuple):
    """Features that are cheap to compute. Counts of words count each different word once.

    This is a named tuple because creating a frozen dataclass with this many fields takes 4 µs, a fifth of the gate's
    time limit.
    """

    tokens: int
    """Estimated tokens of the whole prompt."""
    words: tuple[str, ...]
    """The words that were read, in lower case and in order."""
    signs: Signs
    """The number of different words per `sign`, including the system text."""
    numbers: int
    parts: int
    """The number of list items in the text."""
    has_code: bool
    """The text contains code, or talks about code a lot."""
    has_maths: bool
    """The text contains mathematics beyond plain numbers."""
    output_words: int
    """The requested length of the answer, in words. 0 if the query states none."""
    addresses_router: bool
    """The text says how it should be routed, or imitates a role or an answer of the router."""
    disguised: bool
    """The text contains hidden, mixed or fancy letters. All other features describe the text without them."""

    def __repr__(self) -> str:
        """Return the features without the words, which belong to the user."""
        return f"Features(tokens={self.tokens}, signs={tuple(self.signs)})"


def extract_features(query: Query) -> Features:
    """Return the features of ``query``. Its system text counts for code, mathematics, and the requested length."""
    text = query.text
    if len(text) > SCAN_CHARS:
        text = _excerpt(text)
    # What most texts have nothing of is asked for once, and then looked for only where there is any of it.
    strange = is_beyond_latin(text)
    if disguised := strange and is_disguised(text):
        text = normalize_homoglyphs(text)
    lower = text.lower()
    letters = in_latin(text)
    marked = bool(letters.translate(None, _UNMARKED))

    words = tuple(words_of(text) if strange else latin_words_of(letters))
    own = tally(words)
    signs = own if not query.system else tally([*words, *words_of(query.system[:SYSTEM_SCAN_CHARS])])
    numbers = sum(map(str.isdigit, words))
    parts = len(_LIST_MARK.findall(text)) if "\n" in text else 0
    code_marks = _code_marks(lower, own) if marked or own[signals.KEYWORD] else 0
    has_code = code_marks + signs[signals.CODE] >= 2
    maths_marks = _maths_marks(text) if marked or strange else 0
    has_maths = maths_marks + signs[signals.MATHS] >= 2
    output_words = 0
    if signs[signals.LENGTH]:
        output_words = _output_words(f"{query.system[:SYSTEM_SCAN_CHARS].lower()}\n{lower}" if query.system else lower)
    addresses_router = (marked or own[signals.BAIT] > 0) and _addresses_router(lower, own)
    # By place, as keywords would take as long again as all of the conditions above.
    return Features(
        query.prompt_tokens, words, signs, numbers, parts, has_code, has_maths, output_words, addresses_router,
        disguised,
    )  # fmt: skip


def category_of(features: Features, query: Query) -> str:
    """Return the category for which a model may be preferred."""
    if query.has_tools:
        return "tool_use"
    if query.has_attachments:
        return "attachments"
    if features.tokens >= LONG_CONTEXT_TOKENS:
        return "long_context"
    if features.has_code:
        return "code"
    if features.has_maths:
        return "maths"
    return GENERAL


def _excerpt(text: str) -> str:
    half = SCAN_CHARS // 2
    return f"{text[:half]}\n{text[-half:]}"


def _code_marks(lower: str, signs: Signs) -> int:
    marks = sum(map(lower.__contains__, _CODE_SIGNS))
    return marks + sum(map(lower.__contains__, _CODE_WORDS)) if signs[signals.KEYWORD] else marks


def _maths_marks(text: str) -> int:
    marks = text.count("=") + text.count("^")
    if "\\" in text or "$$" in text:
        marks += 2 * len(_LATEX.findall(text))
    if not text.isascii():
        marks += 2 * len(_MATHS_SIGN.findall(text))
    return marks


def _output_words(lower: str) -> int:
    if _LABEL.search(lower) is not None:
        return LABEL_WORDS
    found = _LENGTH.search(lower)
    if found is None:
        return 0
    asked, unit = found.groups()
    if asked in _LENGTH_NUMBERS and unit in ("page", "seite"):
        return 0  # of a text that is spoken of
    number = _LENGTH_NUMBERS.get(asked) or int(asked)
    return min(number * _LENGTH_WORDS.get(unit, 1), MOST_OUTPUT_WORDS)


def _addresses_router(lower: str, signs: Signs) -> bool:
    if ("<" in lower or "[" in lower) and any(map(lower.__contains__, _ROLE_SIGNS)):
        return True
    bait = signs[signals.BAIT]
    if bait == 0:
        return False
    if (signs[signals.ROUTER] > 0 and bait >= 2) or any(map(lower.__contains__, _ROLE_WORDS)):
        return True
    return any(map(lower.__contains__, _SELF_ASSESSMENT_STEMS)) and _SELF_ASSESSMENT.search(lower) is not None
