"""Spend: what calls cost, by day, tenant, API key, workload and tier, summed beside the queue and never by it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import transaction
from db.reports import run_report
from db.sql import statement

_LOCK: Final = 727_102
"""The key of the advisory lock. The feeders' key is 727101."""

MAX_DAYS: Final = 366
MOST_ROWS: Final = 1000
"""How many of the costliest tenants, keys or workloads are shown."""


class SpendBy(StrEnum):
    """The dimensions by which spend is split."""

    TENANT = "tenant"
    KEY = "key"
    WORKLOAD = "workload"
    TIER = "tier"
    DAY = "day"


async def sum_spend(engine: AsyncEngine) -> int:
    """Sums the days anew on which a call got its result since the last time. Returns how many days.

    The same calls give the same sums, however often; all days are summed, or none. Of two at once, one waits: its sums
    would else be older than those that it replaces.
    """
    async with transaction(engine) as connection:
        # A worker's session has settings for a few rows by key (`db.engine.KEY_LOOKUP_SETTINGS`); here it is many.
        for setting in (
            "enable_seqscan = on",
            "enable_mergejoin = on",
            "plan_cache_mode = force_custom_plan",
            "lock_timeout = '5min'",
        ):
            await connection.execute(text(f"SET LOCAL {setting}"))
        await connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _LOCK})
        days = (await connection.execute(statement("spend_days"))).all()
        for day in days:
            await connection.execute(statement("sum_spend"), day._asdict())
    return len(days)


async def spend(
    engine: AsyncEngine,
    *,
    by: SpendBy,
    days: int,
    simulated: bool,
    tenant: str | None,
    workload: str | None = None,
) -> Mapping[str, Any]:
    """Spend of the last ``days`` UTC days as JSON, of real or of simulated batches; ``tenant`` None: of all tenants.

    `sum_spend` has summed it as of ``summed_at``; a day without a call is not in ``data``.
    """
    rows = await run_report(
        engine,
        "spend",
        by=by.value,
        days=days,
        simulated=simulated,
        tenant=tenant,
        workload=workload,
        rows=None if by is SpendBy.DAY else MOST_ROWS,
    )
    today = datetime.now(UTC).date()
    return {
        "object": "list",
        "by": by.value,
        "from": today - timedelta(days=days - 1),
        "to": today,
        "simulated": simulated,
        "tenant": tenant,
        "summed_at": rows[0].summed_at if rows else None,
        "calls": rows[0].all_calls if rows else 0,
        "cost_usd": float(rows[0].all_usd) if rows else 0.0,
        "data": _by_day(rows) if by is SpendBy.DAY else [_row(row, by) for row in rows],
    }


def _row(row: Row[Any], by: SpendBy) -> dict[str, Any]:
    match by:
        case SpendBy.TENANT:
            named = {"tenant": row.tenant}
        case SpendBy.KEY:
            named = {"key": row.key or None, "name": row.name, "tenant": row.tenant}
        case SpendBy.WORKLOAD:
            named = {"workload": row.workload or None, "tenant": row.tenant}
        case _:
            named = {"tier": row.tier}
    return named | _figures([row])


def _by_day(rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    days = [(day, list(tiers)) for day, tiers in groupby(rows, key=lambda row: row.day)]
    return [
        {"day": day, **_figures(tiers), "tiers": {row.tier: float(row.cost_usd) for row in tiers}}
        for day, tiers in days
    ]


def _figures(rows: Sequence[Row[Any]]) -> dict[str, Any]:
    counts = {name: sum(getattr(row, name) for row in rows) for name in ("calls", "prompt_tokens", "completion_tokens")}
    return counts | {"cost_usd": float(sum(row.cost_usd for row in rows))}
