"""A workload over batches: what it costs by day, how its answers are labeled, and how it was routed."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.reports import run_report
from db.reports.batch_quality import batch_quality, share_bounds
from db.spend import SpendBy, spend

MOST_POLICIES: Final = 12
"""How many of the newest certified policies are shown."""


async def workload_figures(
    engine: AsyncEngine, name: str, *, tenant: str, simulated: bool, days: int
) -> Mapping[str, Any]:
    """A tenant's workload as JSON: spend and grades of the last ``days`` UTC days, and how it was routed in them."""
    grades = await run_report(engine, "workload_grades", tenant=tenant, workload=name, days=days)
    return {
        "object": "workload",
        "workload": name,
        "spend": await spend(engine, by=SpendBy.DAY, days=days, simulated=simulated, tenant=tenant, workload=name),
        "grades": await asyncio.to_thread(_by_day_and_tier, grades),
        "versions": await _versions(engine, name, grades, tenant=tenant, simulated=simulated, days=days),
    }


def _by_day_and_tier(grades: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    return [
        {"day": day, "tier": tier} | _graded(rows)
        for (day, tier), rows in _grouped(grades, lambda row: (row.day, row.tier))
    ]


async def _versions(
    engine: AsyncEngine, name: str, grades: Sequence[Row[Any]], *, tenant: str, simulated: bool, days: int
) -> list[dict[str, Any]]:
    """The certified policies, the newest first, then trained routers and rules, those with the most answers first."""
    sums = await run_report(engine, "workload_versions", tenant=tenant, workload=name, simulated=simulated, days=days)
    labels = dict(_grouped(grades, lambda row: row.version or row.router))
    policies: list[dict[str, Any]] = []
    routers: list[dict[str, Any]] = []
    for (batch_id, version), rows in _grouped(
        sums, lambda row: (row.batch_id, None if row.batch_id else row.version or row.router)
    ):
        first = rows[0]
        figures: dict[str, Any] = {"made_at": first.made_at} | _came_to(rows)
        if batch_id is None:
            figures |= {"router": first.name or first.router, "version": first.version or None}
            # Not on the event loop: an interval takes 0.3 ms, and a tenant may have many routers and days.
            routers.append(figures | {"labels": await asyncio.to_thread(_graded, labels.get(version, ()))})
        elif len(policies) < MOST_POLICIES and (quality := await batch_quality(engine, batch_id, priced=False)):
            of = {"batch_id": first.public_id, "source": first.source, "ended_at": first.ended_at}
            sampled = next((one for one in quality.workloads if one["workload"] == name), None)
            policies.append(figures | of | {"quality": quality.summary(), "sampled": sampled})
    return policies + sorted(routers, key=lambda one: -one["answers"])


def _came_to(rows: Sequence[Row[Any]]) -> dict[str, Any]:
    """Answers, by tier too, cost and saving."""
    tiers = {tier: sum(row.answers for row in some) for tier, some in _grouped(rows, lambda row: str(row.tier))}
    cost_usd, baseline_usd = (float(sum(getattr(row, name) for row in rows)) for name in ("cost_usd", "baseline_usd"))
    return {
        "answers": sum(tiers.values()),
        "tiers": {tier: n for tier, n in tiers.items() if n},
        "cost_usd": cost_usd,
        "baseline_usd": baseline_usd,
        "saving_share": 1.0 - cost_usd / baseline_usd if baseline_usd else None,
    }


def _graded(rows: Iterable[Row[Any]]) -> dict[str, Any]:
    """How many labels, their mean grade, and its 95 % interval; None without labels."""
    counted = [(row.labels, row.grades) for row in rows]
    labels, grades = sum(n for n, _ in counted), sum(total for _, total in counted)
    if not labels:
        return {"labels": 0, "grade": None, "interval": None}
    return {"labels": labels, "grade": grades / labels, "interval": share_bounds(grades, labels)}


def _grouped(rows: Iterable[Row[Any]], key: Callable[[Row[Any]], Any]) -> list[tuple[Any, list[Row[Any]]]]:
    """``rows`` by key, in the order in which the keys come."""
    found: dict[Any, list[Row[Any]]] = {}
    for row in rows:
        found.setdefault(key(row), []).append(row)
    return list(found.items())
