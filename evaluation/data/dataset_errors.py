"""Errors in the input of training and evaluation. Messages never contain a query or an answer."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

SHOWN_FAULTS = 20
"""A message lists at most this many kinds of fault."""
_SHOWN_LINES: Final = 5


@dataclass(frozen=True, slots=True)
class DataFault:
    """A fault in a data file: what it is, where it is, and the fix."""

    line: int
    """The line number, from 1. 0 stands for the whole file."""
    field: str
    message: str
    fix: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        named = f"{self.field}: " if self.field else ""
        return f"{where}{named}{self.message}; {self.fix}"


class BrokenLine(Exception):
    """A line that cannot be used. ``fault`` says why."""

    def __init__(self, line: int, named: str, message: str, fix: str) -> None:
        self.fault = DataFault(line, named, message, fix)


def json_object(number: int, line: bytes) -> Mapping[str, Any]:
    """Return the object on line ``number``. Raises BrokenLine."""
    fix = "write one JSON object on each line"
    try:
        body = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise BrokenLine(number, "", "is not UTF-8", "save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        where = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise BrokenLine(number, "", f"is not JSON{where}", fix) from None
    if not isinstance(body, dict):
        raise BrokenLine(number, "", "is not a JSON object", fix)
    return body


def _as_one(alike: list[DataFault]) -> str:
    """Merge faults that differ only in their line."""
    first, *others = alike
    if not others or not first.line:
        return str(first)
    numbers = ", ".join(str(fault.line) for fault in alike[:_SHOWN_LINES])
    more = f" and {len(alike) - _SHOWN_LINES:,} more" if len(alike) > _SHOWN_LINES else ""
    return f"lines {numbers}{more}: {replace(first, line=0)}"


class EvaluationError(ValueError):
    """The base class of this package's errors."""


class DataError(EvaluationError):
    """A data file cannot be used. ``faults`` says where and why."""

    def __init__(self, path: str, faults: tuple[DataFault, ...]) -> None:
        self.path = path
        self.faults = faults
        alike: dict[tuple[str, str, str], list[DataFault]] = {}
        for fault in faults:
            alike.setdefault((fault.field, fault.message, fault.fix), []).append(fault)
        groups = list(alike.values())
        shown = [_as_one(group) for group in groups[:SHOWN_FAULTS]]
        if rest := sum(map(len, groups[SHOWN_FAULTS:])):
            shown.append(f"… and {rest} more")
        super().__init__("\n".join(f"{path}: {line}" for line in shown))


class ArtifactError(EvaluationError):
    """A trained router is missing, damaged or of another format."""


class RegistryError(EvaluationError):
    """No router of that name is registered, or the move is not possible."""


class TargetError(EvaluationError):
    """A target that the data cannot meet."""
