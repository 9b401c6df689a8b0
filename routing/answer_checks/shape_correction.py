"""Corrections: free and certain changes of an answer's shape that never change its value.

A correction removes what surrounds the value (a code fence, text), removes the comma after the last entry of an array
or an object, or spells a choice as the query does. An answer with more than one possible reading is not corrected. The
result has the shape that the query expects. The work is linear in the length of the text.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from routing.answer_checks.json_schema import NotJsonError, read_json
from routing.answer_checks.judge import MAX_JSON_CHARS, has_shape
from routing.answer_checks.refusal_detection import is_refusal
from routing.large_response import with_members
from routing.outcome import Completion
from routing.query import Expectation, Query
from routing.reason import Reason, ReasonCode

CODE_FENCE: Final = "code fence"
SURROUNDING_TEXT: Final = "surrounding text"
TRAILING_COMMA: Final = "trailing comma"
OTHER_CASE: Final = "other case"
FULL_STOP: Final = "full stop"
QUOTATION: Final = "quotation marks"

RESPONSE_KEY: Final = "pointsman"
"""The key of the stored ``chat.completion`` object that holds the correction: its rules, and the original text."""

# Possessive: else a fence with a row of blanks behind it takes hours.
_FENCED: Final = re.compile(r"\A(?:```|~~~)[ \t]*+[\w+.-]*+[ \t]*+\n(.*)\n[ \t]*+(?:```|~~~)\Z", re.DOTALL)
_FENCE: Final = re.compile(r"^[ \t]*+(?:```|~~~)[ \t]*+[\w+.-]*+[ \t]*+$", re.MULTILINE)
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*+(?P<end>"?)|(?P<open>[\[{])|(?P<close>[\]}])|,(?=\s*[\]}])', re.DOTALL)
"""A string (up to the end of the text if it is not closed), a bracket, or a comma before a closing bracket."""
_MAX_DEPTH: Final = 1_000
"""Deeper values are not read."""
_BRACKET: Final = re.compile(r"[\[\]{}]")
_PART_OF_MORE: Final = re.compile(r"(?:[\"']\s*:|,)\s*\Z")
"""A text with this ending continues in the value: the value belongs to a key, or is an entry of an array."""
_GOES_ON: Final = re.compile(r"\A\s*[,:]")
MAX_CHOICES: Final = 10_000
"""More choices are not compared. Comparing one takes 2 µs."""
_WRAPPERS: Final = ("**", "`", '"', "'", "“”", "‘’", "«»")
_STOPS: Final = (".", "。")


class Correction(NamedTuple):
    """A text of the expected shape, and the rules that changed it."""

    text: str
    rules: tuple[str, ...]

    @property
    def reason(self) -> Reason:
        return Reason(ReasonCode.CORRECTED, f"corrected: {', '.join(self.rules)}")


def corrected(completion: Completion, query: Query) -> tuple[Completion, Correction] | None:
    """Return ``completion`` with its text in the shape that ``query`` expects, or None if no correction is certain.

    The original text stays in its response, under ``pointsman.correction``.
    """
    if completion.has_tool_calls or completion.finish_reason == "content_filter" or is_refusal(completion.text):
        return None
    found = correction_of(completion.text, query.expects)
    choices = completion.response.get("choices")
    if found is None or not choices:
        return None
    message = {**choices[0]["message"], "content": found.text}
    changed = {
        "choices": [{**choices[0], "message": message}, *choices[1:]],
        RESPONSE_KEY: {"correction": {"rules": list(found.rules), "original": completion.text}},
    }
    return completion._replace(text=found.text, response=with_members(completion.response, changed)), found


def correction_of(text: str, expects: Expectation) -> Correction | None:
    """Return the correction of ``text``, which does not have the expected shape, or None if none is certain."""
    text = text.strip()
    if expects.choices:
        found = _choice(text, expects.choices)
    elif (expects.json_object or expects.json_schema is not None) and len(text) <= MAX_JSON_CHARS:
        found = _json(text)
    else:
        return None
    return found if found is not None and has_shape(found.text, expects) else None


def _choice(text: str, choices: Sequence[str]) -> Correction | None:
    """Return the one choice that ``text`` equals apart from case, a full stop, and surrounding marks."""
    if len(choices) > MAX_CHOICES:
        return None
    body, rules = unfenced(text)
    body, marks = _bare(body)
    meant = {choice.strip() for choice in choices if _same_but_for_case(_bare(choice.strip())[0], body)}
    if len(meant) != 1:
        return None
    choice = meant.pop()
    bare_choice, its_marks = _bare(choice)
    if bare_choice != body:
        rules.append(OTHER_CASE)
    return Correction(choice, (*rules, *sorted(set(marks) ^ set(its_marks))))


def _same_but_for_case(first: str, second: str) -> bool:
    # In upper case as well: ı and i are both I there.
    return first.casefold() == second.casefold() or first.upper() == second.upper()


def _bare(text: str) -> tuple[str, list[str]]:
    """Return ``text`` without one full stop and without surrounding marks, in either order."""
    rules: list[str] = []
    for _ in range(2):
        if len(text) > 1 and text.endswith(_STOPS) and FULL_STOP not in rules:
            text = text[:-1].rstrip()
            rules.append(FULL_STOP)
        for wrapper in _WRAPPERS:
            first, last = (wrapper[0], wrapper[1]) if wrapper in ("“”", "‘’", "«»") else (wrapper, wrapper)
            if len(text) > len(first) + len(last) and text.startswith(first) and text.endswith(last):
                text = text[len(first) : -len(last)].strip()
                rules.append(QUOTATION)
                break
    return text, list(dict.fromkeys(rules))


def unfenced(text: str) -> tuple[str, list[str]]:
    """Return what is between the first and the last line of the stripped ``text`` if these form a code fence.

    Also returns the rules applied, which are empty if ``text`` is unchanged.
    """
    found = _FENCED.match(text)
    return (text, []) if found is None else (found.group(1).strip(), [CODE_FENCE])


def _json(text: str) -> Correction | None:
    if _is_json(text):
        return None  # it has a value, which is of another shape
    body, rules = unfenced(text)
    if rules and _is_json(body):
        return Correction(body, tuple(rules))
    if (place := _only_container(text)) is None:
        return None
    value, commas = place
    around = [text[: value.start], text[value.stop :]]
    rules = []
    if any(_FENCE.search(part) for part in around):
        rules.append(CODE_FENCE)
    if any(_FENCE.sub("", part).strip() for part in around):
        rules.append(SURROUNDING_TEXT)
    written = text[value]
    if not _is_json(written):
        written = _without(written, [at - value.start for at in commas])
        rules.append(TRAILING_COMMA)
    return Correction(written, tuple(rules)) if _is_json(written) else None


def _only_container(text: str) -> tuple[slice, list[int]] | None:
    """Return the position of the only array or object in ``text``, and of the commas after last entries in it.

    None if there is none, or if the surrounding text could be part of a larger value or contain another value.
    """
    if (first := _BRACKET.search(text)) is None or first.group() in "]}":
        return None
    start = first.start()
    if (scanned := _scan(text, start)) is None:
        return None
    stop, commas = scanned
    before, after = text[:start], text[stop:]
    if _BRACKET.search(after) or _PART_OF_MORE.search(before) or _GOES_ON.search(after):
        return None
    if any('\\"' in part or part.count('"') % 2 for part in (before, after)):
        return None  # it may stand in a string
    return slice(start, stop), commas


def _scan(text: str, start: int) -> tuple[int, list[int]] | None:
    """Return where the container at ``start`` ends, and the commas after last entries in it; None if it is broken."""
    depth, opened = 0, None
    commas: list[int] = []
    for token in _TOKEN.finditer(text, start):
        had, opened = opened, None
        if token["open"]:
            depth += 1
            if depth > _MAX_DEPTH:
                return None
            opened = token.end()
        elif token["close"]:
            depth -= 1
            if depth == 0:
                return token.end(), commas
        elif token["end"] == "":
            return None  # a string that is not closed
        elif token["end"] is None:
            if had is not None and not text[had : token.start()].strip():
                return None  # a comma after no entry
            commas.append(token.start())
    return None


def _without(text: str, places: Sequence[int]) -> str:
    """Return ``text`` without the characters at ``places``, which are in rising order."""
    ends = [*places, len(text)]
    return "".join(text[start:end] for start, end in zip([0, *(at + 1 for at in places)], ends, strict=True))


def _is_json(text: str) -> bool:
    try:
        read_json(text)
    except NotJsonError:
        return False
    return True
