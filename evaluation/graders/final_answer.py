"""The part of an answer that a reader uses: its final choice, number, or short text.

The conventions of models in any workload are read, strongest first: a JSON object with an answer field, a boxed
formula, "the answer is …", "#### …", and else the last line.
"""

import json
import math
import re
from typing import Any, Final

# Written so that of what repeats nothing can be split in two ways, or by a possessive quantifier: all take linear time.
_FENCE: Final = re.compile(r"^\s*+```[\w+-]*+[ \t]*+\n?(.*?)\n?```\s*+$", re.DOTALL)
_ANSWER_KEYS: Final = ("answer", "final_answer", "finalanswer", "result", "label", "category")
_JSON_ANSWER: Final = re.compile(r'"(?:final_?)?answer"\s*:\s*("(?:[^"\\]|\\.)*"|[^,}\n]+)', re.IGNORECASE)
_BOXED: Final = re.compile(r"\\boxed\{")
_SAYS: Final = re.compile(
    r"(?:\banswer\b(?:\s++(?:is|would be|should be|must be))?\s*(?:[:=]\s*)?|####\s*)([^\n]+)", re.IGNORECASE
)
_CHOICE: Final = re.compile(r"^[\s(\[*_\"'$]*(?:option\s+|choice\s+)?\(?([A-Z])(?:[)\].:,*_\"'$\s]|$)")
_NUMBER: Final = re.compile(r"[-−]?\d[\d,]*(?:\.\d+)?|[-−]?\.\d+")
_WORD: Final = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """Return the words of ``text`` in order, case-folded, without punctuation."""
    return _WORD.findall(text.casefold())


def json_value(text: str) -> Any:
    """Return the JSON value in ``text``, whole or in one code fence, or None if it is not JSON."""
    fenced = _FENCE.match(text)
    try:
        return json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return None


def final_answer(text: str) -> str:
    """Return the final answer in ``text``, as written, or "" if ``text`` is blank."""
    value = json_value(text)
    if isinstance(value, dict):
        for key, content in value.items():
            if key.casefold().replace(" ", "_") in _ANSWER_KEYS and isinstance(content, str | int | float):
                return str(content).strip()
    quoted = _JSON_ANSWER.findall(text) if value is None else []
    if quoted:
        return str(quoted[-1]).strip().strip('"').strip()
    boxed = _boxed(text)
    if boxed is not None:
        return boxed
    said = _SAYS.findall(text)
    if said:
        return str(said[-1]).strip()
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


def final_choice(text: str) -> str | None:
    """Return the letter of the option at the end of ``text``, such as "C", or None."""
    found = _CHOICE.match(final_answer(text)) or _CHOICE.match(text.strip())
    return found[1] if found else None


def final_number(text: str) -> float | None:
    """Return the last number of the final answer in ``text``, else of the text, or None."""
    for part in (final_answer(text), text):
        found = _NUMBER.findall(part)
        if found:
            return as_number(found[-1])
    return None


def numbers_of(text: str) -> list[float]:
    """Return all the numbers in ``text``, in order."""
    return [value for value in map(as_number, _NUMBER.findall(text)) if value is not None]


def as_number(text: str) -> float | None:
    """Return ``text`` as a finite number, without thousands separators, or None if it is none (or too large)."""
    try:
        value = float(text.replace(",", "").replace("−", "-"))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def normal_form(text: str) -> str:
    r"""Return a short answer without decoration: case, spaces, "$", "\text{}", a final full stop, a unit of format."""
    bare = re.sub(r"\\(?:text|mathrm|mbox|left|right|,|;|!|\s)", "", text)
    bare = re.sub(r"\\[dt]frac", r"\\frac", bare)
    bare = re.sub(r"[\s${}\"'`*]", "", bare).rstrip(".").casefold()
    number = as_number(bare)
    return f"{number:.10g}" if number is not None else bare


def _boxed(text: str) -> str | None:
    starts = [found.end() for found in _BOXED.finditer(text)]
    if not starts:
        return None
    depth = 1
    for place in range(starts[-1], len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[starts[-1] : place].strip()
    return text[starts[-1] :].strip()
