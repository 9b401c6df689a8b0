"""What can be wrong with what is given to training and evaluation. Messages never hold a query or an answer."""

from dataclasses import dataclass, replace
from typing import Final

SHOWN_FAULTS = 20
"""A message lists no more kinds of fault than this."""
_SHOWN_LINES: Final = 5


@dataclass(frozen=True, slots=True)
class DataFault:
    """One thing that is wrong in a data file, where it is, and how to mend it."""

    line: int
    """1-based; 0 where the whole file is meant."""
    field: str
    message: str
    fix: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        named = f"{self.field}: " if self.field else ""
        return f"{where}{named}{self.message}; {self.fix}"


def _told(alike: list[DataFault]) -> str:
    """Faults that differ by their line alone, as one."""
    first, *others = alike
    if not others or not first.line:
        return str(first)
    numbers = ", ".join(str(fault.line) for fault in alike[:_SHOWN_LINES])
    more = f" and {len(alike) - _SHOWN_LINES:,} more" if len(alike) > _SHOWN_LINES else ""
    return f"lines {numbers}{more}: {replace(first, line=0)}"


class EvaluationError(ValueError):
    """Base of what this package raises."""


class DataError(EvaluationError):
    """A data file cannot be used; ``faults`` says where and why."""

    def __init__(self, path: str, faults: tuple[DataFault, ...]) -> None:
        self.path = path
        self.faults = faults
        alike: dict[tuple[str, str, str], list[DataFault]] = {}
        for fault in faults:
            alike.setdefault((fault.field, fault.message, fault.fix), []).append(fault)
        groups = list(alike.values())
        shown = [_told(group) for group in groups[:SHOWN_FAULTS]]
        if rest := sum(map(len, groups[SHOWN_FAULTS:])):
            shown.append(f"… and {rest} more")
        super().__init__("\n".join(f"{path}: {line}" for line in shown))


class ArtifactError(EvaluationError):
    """A trained router is missing, damaged or of another format."""


class RegistryError(EvaluationError):
    """No router of that name is registered, or the move is not possible."""


class TargetError(EvaluationError):
    """A target that these data cannot meet."""
