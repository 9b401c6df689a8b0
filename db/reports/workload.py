"""A workload over batches: what it costs by day, how its answers are labeled, what its batches' certificates say."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from db.reports import run_report
from db.reports.batch_quality import batch_quality
from db.spend import SpendBy, spend


async def workload_figures(
    engine: AsyncEngine, name: str, *, tenant: str, simulated: bool, days: int
) -> Mapping[str, Any]:
    """A tenant's workload as JSON: spend and grades of the last ``days`` UTC days, its batches' certificates."""
    grades = await run_report(engine, "workload_grades", tenant=tenant, workload=name, days=days)
    batches = await run_report(engine, "workload_pilots", tenant=tenant, workload=name)
    return {
        "object": "workload",
        "workload": name,
        "spend": await spend(engine, by=SpendBy.DAY, days=days, simulated=simulated, tenant=tenant, workload=name),
        "grades": [dict(row._mapping) for row in grades],
        "batches": [
            {
                "batch_id": row.public_id,
                "source": row.source,
                "created_at": row.created_at,
                "quality": None if (quality := await batch_quality(engine, row.id)) is None else quality.summary(),
            }
            for row in batches
        ],
    }
