"""The decisions of a candidate router, beside the actual ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import fetch
from db.reports import run_report
from db.sql import statement


@dataclass(frozen=True, slots=True)
class ShadowDecision:
    """One decision of the candidate. ``stage`` is whose word it was: gate, classifier, prior."""

    query_id: int
    tier: str
    stage: str
    confidence: float | None


async def keep(engine: AsyncEngine, shadowed: Sequence[ShadowDecision], *, router: str) -> None:
    """Stores them; a query that is routed again has its newest. Raises DBAPIError."""
    rows = [
        {"query_id": shadow.query_id, "tier": shadow.tier, "stage": shadow.stage, "confidence": shadow.confidence}
        for shadow in shadowed
    ]
    await fetch(engine, statement("insert_shadow_decisions"), shadows=orjson.dumps(rows).decode(), router=router)


async def beside(engine: AsyncEngine, *, router: str | None, batch_id: int | None) -> Sequence[Row[Any]]:
    """How often, by ``router``, ``live`` tier and ``shadow`` tier: ``queries``, ``labelled``, ``grade`` (the mean)."""
    return await run_report(engine, "shadow_matrix", router=router, batch_id=batch_id)
