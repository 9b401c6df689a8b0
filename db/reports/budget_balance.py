"""A batch's budget: the caps, what is spent and reserved of them, and what they have no room for."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from db.reports import run_report
from db.rows import from_row
from routing.answer_lengths import LEAST_ANSWERS, AnswerLengths
from routing.budget.held_cost import HeldCost, TierCost, held_cost, lengths_of
from routing.price_list import PriceList


@dataclass(frozen=True, slots=True)
class BudgetBalance:
    """A budget's three amounts, in dollars; ``settled`` plus ``reserved`` never exceed ``cap``."""

    cap_usd: Decimal
    settled_usd: Decimal
    reserved_usd: Decimal

    @property
    def left_usd(self) -> Decimal:
        """What a further call may reserve."""
        return self.cap_usd - self.settled_usd - self.reserved_usd

    def as_json(self) -> Mapping[str, float]:
        """The amounts as numbers."""
        return {name: float(usd) for name, usd in asdict(self).items()} | {"left_usd": float(self.left_usd)}


@dataclass(frozen=True, slots=True)
class BatchBudget:
    """What a batch may spend. ``own`` and ``day`` (its tenant's of today) are None where there is no cap."""

    policy: str
    tenant: str
    own: BudgetBalance | None
    day: BudgetBalance | None
    held: int
    """How many queries no budget covers at present."""
    held_least_usd: Decimal | None
    """The smallest reservation of a held query's next call. If less is left, no held query continues."""
    held_most_usd: Decimal | None
    """The largest reservation of a held query's next call."""
    held_needs_usd: Decimal
    """The sum of the reservations of the held queries' next calls. If this much is left, all continue at once. The
    calls cost less, and later calls are not included."""
    held_cost: HeldCost | None
    """The expected cost of all further calls of the held queries, by queries of their workloads. None if there is no
    evidence."""

    def as_json(self) -> dict[str, Any]:
        """As an object; amounts in dollars."""
        return {
            "policy": self.policy,
            "tenant": self.tenant,
            "budget": None if self.own is None else self.own.as_json(),
            "today": None if self.day is None else self.day.as_json(),
            "held": self.held,
            "held_least_usd": None if self.held_least_usd is None else float(self.held_least_usd),
            "held_needs_usd": float(self.held_needs_usd),
            "held_likely_usd": None if self.held_cost is None else self.held_cost.likely_usd,
            "held_high_usd": None if self.held_cost is None else self.held_cost.high_usd,
            "held_climbing_usd": None if self.held_cost is None else self.held_cost.most_usd,
        }


async def batch_budget(engine: AsyncEngine, batch_id: int) -> BatchBudget:
    """What the batch may spend, and what is held of it."""
    (row,) = await run_report(engine, "batch_budget", batch_id=batch_id)
    cost: HeldCost | None = None
    if row.held:
        prices = PriceList.from_json(row.price_list)
        rows = await run_report(
            engine, "batch_held_cost", batch_id=batch_id, ladder=list(prices.ladder), least_answers=LEAST_ANSWERS
        )
        costs = [from_row(TierCost, one) for one in rows]
        cost = held_cost(costs, AnswerLengths.from_json(row.answer_lengths or (), lengths_of(costs)), prices)
    return BatchBudget(
        policy=row.policy,
        tenant=row.tenant,
        own=None if row.cap_usd is None else BudgetBalance(row.cap_usd, row.settled_usd, row.reserved_usd),
        day=None
        if row.day_cap_usd is None
        else BudgetBalance(row.day_cap_usd, row.day_settled_usd, row.day_reserved_usd),
        held=row.held,
        held_least_usd=row.held_least_usd,
        held_most_usd=row.held_most_usd,
        held_needs_usd=row.held_needs_usd,
        held_cost=cost,
    )
