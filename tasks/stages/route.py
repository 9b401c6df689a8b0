"""The route stage: decides a whole chunk of queries at once, and sends each query to its tier."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from db import failpoints
from db.ledger_types import DecisionRecord, QueuedQuery, Transition
from routing.budget.degradation import QueryBudget
from routing.fleet import Fleet
from routing.lifecycle import ROUTE, MoveKind, State
from routing.pilot import PilotStart
from routing.policy.decision import Decision, apply_llm_votes, decide, top_in_doubt
from routing.policy.exploration import exploration_draw
from routing.query import Query
from tasks.lanes.wave_wait import wave_wait_s
from tasks.pilot.pilot_routing import pilot_starts
from tasks.stages.budget_guard import fetch_budgets, spare_shares
from tasks.stages.llm_router import ask_llm_router
from tasks.stages.poison_isolation import isolate_poison_suspects
from tasks.stages.shadow_routing import schedule_shadow_routing
from tasks.worker_context import WorkerContext
from trained_routers.hot_reload import LoadedRouters

log = structlog.get_logger()

DECIDED_AT_ONCE = 200
"""The number of queries in about 20 ms of work, during which the loop does nothing else."""


async def route(
    ids: Sequence[int], context: WorkerContext, *, redelivered: bool = False
) -> Mapping[int, tuple[str, str]]:
    """Route those of ``ids`` that wait. Return the (stage, state) of each that moved.

    The caller publishes those that are now `queued`.

    A query that is decided without a call is not claimed first: one conditional move concludes it, and a claim would
    cost half as much as all the rest. Queries that need an LLM's vote are claimed, because that costs money. So are
    queries that a worker or the broker has lost before, because such a query may be what kills workers, and only the
    lease of a claim shows it. All queries of a redelivered message (``redelivered``) are claimed too.
    """
    trained = context.trained  # another may be promoted while a chunk waits for an LLM's vote
    waiting = await context.ledger.waiting(ROUTE, ids)
    lost = {query.id for query in waiting if redelivered or query.was_lost or query.crashes}
    decisions = await _decide([query for query in waiting if query.id not in lost], trained, context)
    careful = lost | {query_id for query_id, decision in decisions.items() if decision.wants_vote}
    certain = [query for query in waiting if query.id not in careful]
    moved = await _conclude(certain, decisions, trained, context)

    async def route_claimed(some: Sequence[QueuedQuery]) -> Mapping[int, tuple[str, str]]:
        claims = await context.ledger.claim_many([(ROUTE, query.id, None) for query in some])
        claimed = [query._replace(epoch=claims[query.id].epoch) for query in some if query.id in claims]
        found = decisions | await _decide([query for query in claimed if query.id in lost], trained, context)
        return await _conclude(claimed, await _with_llm_votes(found, claimed, context), trained, context)

    suspects = sorted((query for query in waiting if query.id in careful), key=lambda query: query.id)
    return moved | dict(await isolate_poison_suspects(suspects, context, route_claimed))


async def _decide(queued: Sequence[QueuedQuery], trained: LoadedRouters, context: WorkerContext) -> dict[int, Decision]:
    """Return a decision for each of ``queued``. They are decided in parts, so that the loop can handle answers in
    between."""
    if (fatal := failpoints.armed.get("die_routing_custom_id")) and fatal in [query.custom_id for query in queued]:
        failpoints.die_at("die_routing_custom_id")
    queries = {query.id: query.to_query() for query in queued}
    starts = await pilot_starts(queries, queued, context)
    decisions: dict[int, Decision] = {}
    for start in range(0, len(queued), DECIDED_AT_ONCE):
        some = queued[start : start + DECIDED_AT_ONCE]
        budgets = await fetch_budgets(some, context)
        chunk = _decide_chunk({query.id: queries[query.id] for query in some}, starts, budgets, trained, context)
        spare_shares(chunk, budgets, context)
        decisions |= chunk
        await asyncio.sleep(0)
    return decisions


def _decide_chunk(
    queries: Mapping[int, Query],
    starts: Mapping[int, PilotStart],
    budgets: Mapping[int, QueryBudget],
    trained: LoadedRouters,
    context: WorkerContext,
) -> dict[int, Decision]:
    try:
        decisions = decide(
            list(queries.values()),
            fleet=context.fleet,
            predictor=trained.predictor,
            draws=[exploration_draw(id_) for id_ in queries],
            starts=[starts.get(id_) for id_ in queries],
            budgets=[budgets[id_] for id_ in queries],
        )
        return dict(zip(queries, decisions, strict=True))
    except Exception as error:
        if len(queries) == 1:
            log.error("router_failed", error=type(error).__name__)
            return {id_: top_in_doubt(query, error, fleet=context.fleet) for id_, query in queries.items()}
    # One query that a rule cannot read must not take two hundred with it.
    alone = (_decide_chunk({id_: query}, starts, budgets, trained, context) for id_, query in queries.items())
    return {id_: decision for decided in alone for id_, decision in decided.items()}


async def _with_llm_votes(
    decisions: Mapping[int, Decision], claimed: Sequence[QueuedQuery], context: WorkerContext
) -> Mapping[int, Decision]:
    """Return ``decisions`` with the LLM router's votes applied where they are needed."""
    asked = {query.id: decisions[query.id] for query in claimed if decisions[query.id].wants_vote}
    if not asked:
        return decisions
    votes = await ask_llm_router({id_: draft.case.query for id_, draft in asked.items()}, claimed, context)
    budgets = await fetch_budgets([query for query in claimed if query.id in asked], context)
    voted = apply_llm_votes(
        list(asked.values()),
        [votes.get(id_) for id_ in asked],
        fleet=context.fleet,
        draws=[exploration_draw(id_) for id_ in asked],
        budgets=[budgets[id_] for id_ in asked],
    )
    decided = dict(zip(asked, voted, strict=True))
    spare_shares(decided, budgets, context)
    return {**decisions, **decided}


async def _conclude(
    routed: Sequence[QueuedQuery],
    decisions: Mapping[int, Decision],
    trained: LoadedRouters,
    context: WorkerContext,
) -> dict[int, tuple[str, str]]:
    if not routed:
        return {}
    moved = await context.ledger.transition_many(
        [_conclusion(query, decisions[query.id], context.fleet, version=trained.version) for query in routed]
    )
    schedule_shadow_routing({query_id: decisions[query_id].case.query for query_id in moved}, context)
    return dict(moved)


def _conclusion(query: QueuedQuery, decision: Decision, fleet: Fleet, *, version: str | None) -> Transition:
    if not decision.over_budget:
        return _to_tier(query, decision, fleet, version=version)
    return Transition(
        query_id=query.id,
        epoch=query.epoch,
        stage=ROUTE,
        move=MoveKind.FAIL,
        to_stage=ROUTE,
        to_state=State.FAILED,
        why=DecisionRecord(kind="budget", router="budget", reasons=decision.reasons, score=decision.score),
    )


def _to_tier(query: QueuedQuery, decision: Decision, fleet: Fleet, *, version: str | None) -> Transition:
    detail: dict[str, Any] = {"category": decision.case.category, "p_ok": dict(decision.p_ok)}
    if workload := decision.case.query.workload_or_template:
        detail["workload"] = workload
    if shape := decision.case.query.shape:
        detail["shape"] = shape
    if decision.p_ok and version is not None:
        detail["version"] = version
    wait_s = wave_wait_s(query, decision.case.query, decision.tier, fleet)
    return Transition(
        query_id=query.id,
        epoch=query.epoch,
        stage=ROUTE,
        move=MoveKind.ADVANCE,
        to_stage=decision.tier,
        to_state=State.READY,
        tier=decision.tier,
        prefers=decision.model,
        publish=not wait_s,
        wait_s=wait_s,
        why=DecisionRecord(
            kind="route",
            router=decision.router,
            reasons=decision.reasons,
            score=decision.score,
            confidence=decision.confidence,
            propensity=decision.propensity,
            detail=detail,
        ),
    )
