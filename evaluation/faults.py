"""What can be wrong with what is given to training and evaluation. Messages never hold a query or an answer."""

from dataclasses import dataclass

SHOWN_FAULTS = 20
"""A message lists no more faults than this."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a data file, where it is, and how to mend it."""

    line: int
    """1-based; 0 where the whole file is meant."""
    field: str
    message: str
    mend: str

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        named = f"{self.field}: " if self.field else ""
        return f"{where}{named}{self.message}; {self.mend}"


class EvaluationError(ValueError):
    """Base of what this package raises."""


class DataError(EvaluationError):
    """A data file cannot be used; ``faults`` says where and why."""

    def __init__(self, path: str, faults: tuple[Fault, ...]) -> None:
        self.path = path
        self.faults = faults
        shown = [str(fault) for fault in faults[:SHOWN_FAULTS]]
        if len(faults) > len(shown):
            shown.append(f"… and {len(faults) - len(shown)} more")
        super().__init__("\n".join(f"{path}: {line}" for line in shown))


class ArtefactError(EvaluationError):
    """A trained router is missing, damaged or of another format."""


class RegistryError(EvaluationError):
    """No router of that name is registered, or the move is not possible."""


class TargetError(EvaluationError):
    """A target that these data cannot meet."""
