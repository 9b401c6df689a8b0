"""The choice of the grader for a workload, by the queries' expectations or by the shape of the reference answers."""

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from evaluation.graders.final_answer import final_answer, final_choice, json_value, words_of
from evaluation.graders.text_graders import GraderKind
from routing.query import Expectation

Item = TypeVar("Item")

MOST: Final = 0.8
"""A shape counts if this share of the reference answers has it."""

HALF: Final = 0.5
"""If most final answers contain a number, and this share ends on it, the workload asks for numbers."""

SHORT_WORDS: Final = 40
"""Maximum median words for which two equivalent answers can be expected to use the same words."""

LABEL_WORDS: Final = 4
"""Maximum words of a label or name, which another model writes in the same way if it agrees."""

_ENDS_ON_NUMBER: Final = re.compile(r"\d[,.]*[^\d\n]{0,20}$")
_CODE: Final = re.compile(r"^\s*(?:```|def |class |import |from \w+ import |select\b|with\b|insert\b|update\b)", re.I)
_SAYS_LETTER: Final = re.compile(r"answer\W{0,3}(?:is|:)?\W{0,6}[A-Z]\b|^\W*[A-Z]\W*$", re.IGNORECASE)


def choose_grader(
    references: Sequence[str], *, expects: Sequence[Expectation] = (), has_judge: bool = False
) -> GraderKind:
    """Return the kind for a workload with these ``references``, or `GraderKind.JUDGE` if the texts alone do not decide.

    ``expects`` are those of the same queries; an expectation that most of them share decides first. ``has_judge``: the
    judge also grades short free text. Without a judge it must have the same words.
    """
    if expects and _share(expects, lambda own: bool(own.choices)) >= MOST:
        return GraderKind.EXACT
    if expects and _share(expects, lambda own: own.json_object or own.json_schema is not None) >= MOST:
        return GraderKind.FINAL if _share(references, _has_answer_field) >= MOST else GraderKind.JSON
    texts = [text for text in references if text.strip()]
    if not texts:
        return GraderKind.JUDGE
    if _share(texts, _has_answer_field) >= MOST:
        return GraderKind.FINAL
    if _share(texts, lambda text: isinstance(json_value(text), dict | list)) >= MOST:
        return GraderKind.JSON
    if _share(texts, lambda text: bool(_CODE.match(text))) >= MOST:
        return GraderKind.EXACT
    if _share(texts, lambda text: bool(_SAYS_LETTER.search(text)) and final_choice(text) is not None) >= MOST:
        return GraderKind.CHOICE
    finals = [final_answer(text) for text in texts]
    ends = _share(finals, lambda text: bool(_ENDS_ON_NUMBER.search(text)))
    if ends >= HALF and _share(finals, lambda text: any(map(str.isdigit, text))) >= MOST:
        return GraderKind.NUMBER
    lengths = sorted(len(words_of(text)) for text in texts)
    # A judge is asked only where answers differ; sentences between labels would never be the same word for word.
    is_short = (
        _share(lengths, lambda words: words <= LABEL_WORDS) >= MOST
        if has_judge
        else lengths[len(lengths) // 2] <= SHORT_WORDS
    )
    return GraderKind.EXACT if is_short else GraderKind.JUDGE


def _has_answer_field(text: str) -> bool:
    value = json_value(text)
    if isinstance(value, dict):
        return any(str(key).casefold() in {"answer", "final_answer"} for key in value)
    return value is None and '"answer"' in text


def _share(items: Sequence[Item], holds: Callable[[Item], bool]) -> float:
    return sum(map(holds, items)) / len(items) if items else 0.0
