"""Shadow routing: a candidate decides in addition to the live router. Its decisions are logged and have no effect."""

from collections.abc import Mapping
from dataclasses import replace

import structlog

from db.shadow_decisions import ShadowDecision, keep
from routing.fleet import Fleet
from routing.policy.decision import ENDPOINT, Predictor, decide
from routing.query import Query
from tasks.worker_context import WorkerContext

log = structlog.get_logger()


def schedule_shadow_routing(queries: Mapping[int, Query], context: WorkerContext) -> None:
    """Have the shadow decide ``queries`` (by id) after the live decisions. Never raises."""
    shadow = context.trained.shadow
    if shadow is not None and queries:
        context.spawn_background(_cast(dict(queries), shadow, context))


async def _cast(queries: Mapping[int, Query], shadow: Predictor, context: WorkerContext) -> None:
    try:
        decisions = decide(list(queries.values()), fleet=shadow_fleet(context.fleet), predictor=shadow)
        await keep(
            context.engine,
            [
                ShadowDecision(query_id, decision.tier, decision.router, decision.confidence)
                for query_id, decision in zip(queries, decisions, strict=True)
                if decision.router != ENDPOINT
            ],
            router=shadow.name,
        )
    except Exception as error:
        # Whatever is wrong with a candidate, the live router goes on.
        log.warning("shadow_failed", router=shadow.name, queries=len(queries), error=type(error).__name__)


def shadow_fleet(fleet: Fleet) -> Fleet:
    """Return ``fleet`` without exploration and without an LLM router, which would cost money, for a candidate's
    decisions."""
    stages = tuple(stage for stage in fleet.router.stages if stage not in ("llm", "classifier"))
    return replace(fleet, router=replace(fleet.router, stages=(*stages, "classifier"), exploration=0.0))
