"""A request of OpenAI's Embeddings API: checked, and stored unchanged.

Source: https://platform.openai.com/docs/api-reference/embeddings/create
"""

from collections.abc import Mapping
from typing import Any, Final

from endpoints.endpoint import InvalidField

MAX_INPUTS: Final = 2048
"""Maximum inputs of one request, as at OpenAI."""
MAX_DIMENSIONS: Final = 65_536
MAX_TOKEN: Final = 2**31 - 1

_USUAL_MOST_DIMENSIONS: Final = 3072
"""Dimensions of an embedding if the request names none: the maximum of the models in general use."""
_BYTES_EACH: Final = {"float": 24, "base64": 16 / 3}
"""Maximum JSON bytes of one number: 17 digits, sign, point, exponent and comma; or four bytes in base64."""
_INPUT_FIX: Final = 'Use text, or a list of texts: "input": ["...", "..."]'


def check_embeddings(body: Mapping[str, Any]) -> None:
    """Raise InvalidField for a value that no provider accepts. Fields that are not OpenAI's are left to the adapter."""
    if "messages" in body:
        raise InvalidField("messages", "belongs to chat completions", _INPUT_FIX)
    _check_input(body.get("input"))
    dimensions = body.get("dimensions")
    if dimensions is not None and not (type(dimensions) is int and 1 <= dimensions <= MAX_DIMENSIONS):
        raise InvalidField("dimensions", f"must be a whole number from 1 to {MAX_DIMENSIONS}", "Correct it, or omit it")
    if body.get("encoding_format") not in (None, *_BYTES_EACH):
        raise InvalidField("encoding_format", "unknown", 'Use "float" or "base64"')


def most_answer_bytes(body: Mapping[str, Any], inputs: int) -> int:
    """Return the maximum JSON bytes of the answer to ``inputs``. ``body`` is checked."""
    dimensions = body.get("dimensions") or _USUAL_MOST_DIMENSIONS
    return round(inputs * (dimensions * _BYTES_EACH[body.get("encoding_format") or "float"] + 100))


def _check_input(said: Any) -> None:
    if said is None or said == "":
        raise InvalidField("input", "missing" if said is None else "empty", _INPUT_FIX)
    if isinstance(said, str):
        return
    if not isinstance(said, list) or not said:
        raise InvalidField("input", "must be text, or a list that is not empty", _INPUT_FIX)
    if not isinstance(said[0], str | list):
        _check_tokens(said, "input")
        return
    if len(said) > MAX_INPUTS:
        raise InvalidField("input", f"has {len(said):,} inputs, but a request allows {MAX_INPUTS:,}", "Split the line")
    for index, each in enumerate(said):
        _check_one_of_many(each, f"input[{index}]", type(said[0]))


def _check_one_of_many(each: Any, path: str, kind: type) -> None:
    if type(each) is not kind:
        raise InvalidField(path, "must be of the same kind as the first", _INPUT_FIX)
    if not each:
        raise InvalidField(path, "empty", "Remove it, or write its text")
    if isinstance(each, list):
        _check_tokens(each, path)


def _check_tokens(tokens: list[Any], path: str) -> None:
    if set(map(type, tokens)) != {int} or min(tokens) < 0 or max(tokens) > MAX_TOKEN:
        raise InvalidField(path, "must contain texts, or numbers of tokens", _INPUT_FIX)
