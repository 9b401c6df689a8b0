"""Queries that have something in common, and what became of them."""

from dataclasses import dataclass
from typing import Any, Final

from evaluation.log.cells import RouteCell
from evaluation.share import wilson

DIGITS: Final = 4
"""Of shares, in what a program reads."""


@dataclass(slots=True)
class Count:
    """Queries that have something in common, and what became of them."""

    queries: int = 0
    answered: int = 0
    escalated: int = 0
    stood: int = 0
    """Answered where they went first, and the judge was content."""
    doubtful: int = 0
    """Answered by the best that was to be had."""
    open: int = 0
    cost_usd: float = 0.0

    def add(self, cell: RouteCell) -> None:
        """Counts ``cell`` in."""
        self.queries += cell.queries
        self.answered += cell.answered
        self.escalated += cell.escalated
        self.stood += cell.stood
        self.doubtful += cell.doubtful
        self.open += cell.open
        self.cost_usd += cell.cost_usd

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the rate of escalation and its 95 % interval."""
        rate = self.escalated / self.queries if self.queries else 0.0
        return {
            "queries": self.queries,
            "answered": self.answered,
            "stood": self.stood,
            "escalated": self.escalated,
            "escalation_rate": round(rate, DIGITS),
            "escalation_interval": [round(bound, DIGITS) for bound in wilson(rate, self.queries)],
            "doubtful": self.doubtful,
            "open": self.open,
            "cost_usd": round(self.cost_usd, 9),
        }
