"""Simulated days with a deadline: the production planner against all-standard, all-batch and a clairvoyant.

    python -m benchmarks.lanes [--days 500] [--lines 2000] [--seed 1] [--json] [--picture FILE.png]

Each day has its queries, a deadline from one to 24 hours, the pace of direct calls, and a provider whose batches take
as long as one of five families says (`benchmarks/lane_world.py`): the planner's prior, and four that it does not know.
Each family has a log of its own, which grows from day to day. Provider batches hang, expire in part, end while they
are cancelled, lose the reply to their creation; direct calls have outages; results come twice, in another order, and
with keys that no call has. Days are the same for every policy.

``late``: queries late by the plan that all-standard answers in time. ``lost``, ``twice``: without an answer, with more
than one. ``ledger_minus_bill``: the ledger's costs less the provider's own bill, in dollars, absolute by day and
policy; ``calls_miscounted``: calls where they differ. ``regret``: a day's cost over that of a clairvoyant, less 1,
which knows how long each provider batch and five repetitions of it would take, and gets direct calls without a queue:
a lower bound that no planner reaches. Exits with 1 where one of the first three or ``calls_miscounted`` is not 0.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, product
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.lane_pipeline import AllBatch, AllStandard, DayResult, LanePipeline, Planned
from benchmarks.lane_world import FAMILIES, LATENCY_S, NANO_PER_TOKEN, NEVER, TIERS, UPLOAD_S, LaneDay
from routing.lanes.lane import BatchAge

LOG: Final = 200
"""Newest provider batches that the planner is given."""
REPETITIONS: Final = 6
DEADLINES_H: Final = ((1, 2), (2, 4), (4, 8), (8, 24))


@dataclass(frozen=True, slots=True)
class DayFigures:
    """One day, in US dollars and hours."""

    number: int
    family: str
    within_h: float
    has_flex: bool
    standard_usd: float
    batch_usd: float
    planned_usd: float
    clairvoyant_usd: float
    late: int
    batch_late: int
    """Of all-batch, where standard is in time."""
    lost: int
    twice: int
    paid_twice: int
    ledger_minus_bill: float
    miscounted: int
    finish_h: float

    @property
    def regret(self) -> float:
        """The plan's cost over the clairvoyant's, less 1."""
        return round(self.planned_usd / self.clairvoyant_usd - 1.0, 6) + 0.0


def simulate(family: str, *, days: int, lines: int, seed: int) -> list[DayFigures]:
    """The days of one family, with one log."""
    ages: list[BatchAge] = []
    found = []
    for number in range(list(FAMILIES).index(family), days, len(FAMILIES)):
        day = LaneDay.draw((seed, number), lines=lines, family=family, at=number / days)
        planned = LanePipeline(day, Planned(day, ages[-LOG:])).run()
        ages += planned.ages
        standard, batch = (LanePipeline(day, policy).run() for policy in (AllStandard(), AllBatch()))
        found.append(_figures(number, day, standard=standard, batch=batch, planned=planned))
    return found


def _figures(number: int, day: LaneDay, *, standard: DayResult, batch: DayResult, planned: DayResult) -> DayFigures:
    results = (standard, batch, planned)
    in_time = standard.done_s <= day.within_s
    return DayFigures(
        number=number,
        family=day.family,
        within_h=day.within_s / 3600,
        has_flex=day.has_flex,
        standard_usd=standard.ledger_usd,
        batch_usd=batch.ledger_usd,
        planned_usd=planned.ledger_usd,
        clairvoyant_usd=clairvoyant_usd(day),
        late=int((in_time & (planned.done_s > day.within_s)).sum()),
        batch_late=int((in_time & (batch.done_s > day.within_s)).sum()),
        lost=sum(int((result.done_s == NEVER).sum()) for result in results),
        twice=sum(int((result.answers > 1).sum()) for result in results),
        paid_twice=planned.paid_twice,
        ledger_minus_bill=sum(abs(result.ledger_usd - result.bill_usd) for result in results),
        miscounted=sum(result.miscounted for result in results),
        finish_h=float(planned.done_s.max()) / 3600,
    )


def clairvoyant_usd(day: LaneDay) -> float:
    """The least that a day can cost with every query in time: by tier of the first call the cheapest lanes that fit."""
    full = (day.tokens * NANO_PER_TOKEN).sum(axis=2)
    takes_s = [_fastest_s(day, tier) for tier in range(len(TIERS))]
    nano = 0.0
    for first in range(len(TIERS)):
        asked = day.first_tier == first
        costs = []
        for tier in range(first, len(TIERS)):
            costs.append(float(full[asked, tier].sum()))
            asked = asked & day.doubted[:, tier]
        nano += min(
            sum(cost * (0.5 if cheap else 1.0) for cost, cheap in zip(costs, lanes, strict=True))
            for lanes in product((True, False), repeat=len(costs))
            if day.has_flex or _needs_s(day, lanes, takes_s[first:], first) <= day.within_s
        )
    return nano / 1e9


def _needs_s(day: LaneDay, lanes: Sequence[bool], takes_s: Sequence[float], first: int) -> float:
    direct_s = (LATENCY_S * day.pace)[first:]
    return float(sum(batch if cheap else direct for cheap, batch, direct in zip(lanes, takes_s, direct_s, strict=True)))


def _fastest_s(day: LaneDay, tier: int) -> float:
    draws = (day.batch(tier, number) for number in range(REPETITIONS))
    return UPLOAD_S + min((draw.takes_s for draw in draws if draw.done_share == 1.0), default=NEVER)


def summary(days: Sequence[DayFigures]) -> dict[str, object]:
    """The promises and the money of these days."""
    regrets = np.array([day.regret for day in days])
    standard_usd = sum(day.standard_usd for day in days)
    return {
        "days": len(days),
        "late": sum(day.late for day in days),
        "lost": sum(day.lost for day in days),
        "twice": sum(day.twice for day in days),
        "ledger_minus_bill": round(sum(day.ledger_minus_bill for day in days), 6),
        "calls_miscounted": sum(day.miscounted for day in days),
        "paid_twice": sum(day.paid_twice for day in days),
        "regret_median": round(float(np.median(regrets)), 4),
        "regret_mean": round(float(regrets.mean()), 4),
        "regret_p90": round(float(np.quantile(regrets, 0.9)), 4),
        "saving_over_standard": round(1 - sum(day.planned_usd for day in days) / standard_usd, 4),
        "saving_of_clairvoyant": round(1 - sum(day.clairvoyant_usd for day in days) / standard_usd, 4),
        "saving_of_all_batch": round(1 - sum(day.batch_usd for day in days) / standard_usd, 4),
        "late_all_batch": sum(day.batch_late for day in days),
        "days_late_all_batch": sum(day.batch_late > 0 for day in days),
        "finish_h_median": round(float(np.median([day.finish_h for day in days])), 2),
    }


def show(days: Sequence[DayFigures], console: Console) -> None:
    """Prints a row for each family and each range of deadlines."""
    grid = Table(box=None, pad_edge=False)
    grid.add_column("days with")
    for name in (
        "days",
        "saving",
        "clairvoyant",
        "all-batch",
        "late",
        "late all-batch",
        "regret",
        "p90",
        "ends",
    ):
        grid.add_column(name, justify="right")
    for label, part in _parts(days):
        row = summary(part)
        grid.add_row(
            label,
            f"{row['days']:,}",
            *(f"{100 * float(str(row[name])):.1f} %" for name in SAVINGS),
            f"{row['late']:,}",
            f"{row['late_all_batch']:,}",
            f"{100 * float(str(row['regret_median'])):.1f} %",
            f"{100 * float(str(row['regret_p90'])):.1f} %",
            f"{row['finish_h_median']} h",
        )
    console.print(grid)


SAVINGS: Final = ("saving_over_standard", "saving_of_clairvoyant", "saving_of_all_batch")


def _parts(days: Sequence[DayFigures]) -> Iterator[tuple[str, list[DayFigures]]]:
    parts = [(family, [day for day in days if day.family == family]) for family in FAMILIES]
    for low, high in DEADLINES_H:
        parts.append((f"{low} to {high} h", [day for day in days if low <= day.within_h < high]))
    parts.append(("no flex", [day for day in days if not day.has_flex]))
    parts.append(("all", list(days)))
    return ((label, part) for label, part in parts if part)


def main() -> int:
    """Returns 1 where a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=500)
    parser.add_argument("--lines", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="also print, last, one object")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="also draw cost and lateness by deadline")
    given = parser.parse_args()
    if given.days < 1 or given.lines < 1:
        parser.error("--days and --lines are at least 1.")
    began = time.monotonic()
    run = partial(simulate, days=given.days, lines=given.lines, seed=given.seed)
    with ProcessPoolExecutor(min(len(FAMILIES), os.cpu_count() or 1)) as pool:
        days = sorted(chain.from_iterable(pool.map(run, FAMILIES)), key=lambda day: day.number)
    show(days, Console(highlight=False, width=None if sys.stdout.isatty() else 120))
    figures = {"seed": given.seed, "lines": given.lines, **summary(days), "took_s": round(time.monotonic() - began)}
    if given.picture is not None:
        from benchmarks.lanes_picture import draw_deadlines

        draw_deadlines([asdict(day) for day in days], given.picture)
    if given.json:
        print(json.dumps(figures))
    broken = [name for name in ("late", "lost", "twice", "calls_miscounted") if figures[name]]
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
