"""The route stage: decides a whole chunk of queries at once, and sends each to its tier."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from db import failpoints
from db.ledger_types import DecisionRecord, QueuedQuery, Transition
from routing.budget.query_budget import OverQueryBudget
from routing.lifecycle import ROUTE, MoveKind, State
from routing.policy.decision import Decision, Predictor, apply_llm_vote, decide
from routing.policy.exploration import exploration_draw
from routing.query import Query, read_body
from tasks.pilot.pilot_routing import apply_pilots
from tasks.stages.budget_guard import apply_budgets
from tasks.stages.llm_router import ask_llm_router
from tasks.stages.poison_isolation import isolate_poison_suspects
from tasks.stages.shadow_routing import schedule_shadow_routing
from tasks.worker_context import WorkerContext

log = structlog.get_logger()

DECIDED_AT_ONCE = 200
"""Some 20 ms of work, in which nothing else happens on the loop."""


async def route(
    ids: Sequence[int], context: WorkerContext, *, redelivered: bool = False
) -> Mapping[int, tuple[str, str]]:
    """Routes those of ``ids`` that wait; returns the (stage, state) of each that moved.

    The caller publishes those that came out as `queued`.

    What can be decided without a call is not claimed first: its conclusion counts from where it waits, once, and a
    claim would cost half as much as all the rest. Claimed is what an LLM is asked about, for that costs money; and
    what a worker or the broker has lost before, for it may be what kills workers, and only a claim's lease tells.
    So is all of a message that comes again (``redelivered``).
    """
    waiting = await context.ledger.waiting(ROUTE, ids)
    lost = {one.id: one for one in waiting if redelivered or one.was_lost or one.crashes}
    moved, unsure = await _route([one for one in waiting if one.id not in lost], context)
    careful = sorted([*unsure, *lost.values()], key=lambda one: one.id)
    return moved | dict(await isolate_poison_suspects(careful, context, lambda some: _route_claimed(some, context)))


async def _route(
    waiting: Sequence[QueuedQuery], context: WorkerContext
) -> tuple[dict[int, tuple[str, str]], list[QueuedQuery]]:
    """Concludes without a claim what is sure; returns what moved, and what an LLM has to be asked about."""
    trained = context.trained
    queries = _read(waiting)
    drafts = await _draft(queries, trained.predictor, context)
    drafts = await apply_pilots(drafts, queries, waiting, context)
    sure = [one for one in waiting if not drafts[one.id].wants_opinion]
    moved = await _conclude(sure, queries, drafts, context, version=trained.version)
    return moved, [one for one in waiting if drafts[one.id].wants_opinion]


async def _route_claimed(waiting: Sequence[QueuedQuery], context: WorkerContext) -> Mapping[int, tuple[str, str]]:
    claims = await context.ledger.claim_many([(ROUTE, one.id, None) for one in waiting])
    claimed = [replace(one, epoch=claims[one.id].epoch) for one in waiting if one.id in claims]
    trained = context.trained  # another may be promoted while this chunk waits for an LLM's opinion
    queries = _read(claimed)
    decisions = await _decide(queries, claimed, trained.predictor, context)
    decisions = await apply_pilots(decisions, queries, claimed, context)
    return await _conclude(claimed, queries, decisions, context, version=trained.version)


async def _conclude(
    routed: Sequence[QueuedQuery],
    queries: Mapping[int, Query],
    decisions: Mapping[int, Decision],
    context: WorkerContext,
    *,
    version: str | None,
) -> dict[int, tuple[str, str]]:
    if not routed:
        return {}
    paid = await apply_budgets(queries, decisions, routed, context)
    moved = await context.ledger.transition_many(
        [_conclusion(one, paid[one.id], decisions[one.id], version=version) for one in routed]
    )
    schedule_shadow_routing({query_id: queries[query_id] for query_id in moved}, context)
    return dict(moved)


def _read(waiting: Sequence[QueuedQuery]) -> dict[int, Query]:
    if (fatal := failpoints.armed.get("die_routing_custom_id")) and fatal in [one.custom_id for one in waiting]:
        failpoints.die_at("die_routing_custom_id")
    return {one.id: read_query(one) for one in waiting}


def read_query(waiting: QueuedQuery) -> Query:
    """The query as the rules see it."""
    return read_body(waiting.body, pin=waiting.options.get("pin"), expects=waiting.options.get("expects"))


async def _decide(
    queries: Mapping[int, Query], claimed: Sequence[QueuedQuery], predictor: Predictor | None, context: WorkerContext
) -> dict[int, Decision]:
    drafts = await _draft(queries, predictor, context)
    uncertain = {query_id: queries[query_id] for query_id, draft in drafts.items() if draft.wants_opinion}
    if uncertain:
        opinions = await ask_llm_router(uncertain, claimed, context)
        for query_id, query in uncertain.items():
            drafts[query_id] = apply_llm_vote(
                query, drafts[query_id], opinions.get(query_id), fleet=context.fleet, draw=exploration_draw(query_id)
            )
    return drafts


async def _draft(
    queries: Mapping[int, Query], predictor: Predictor | None, context: WorkerContext
) -> dict[int, Decision]:
    """What gate and classifier say, some at a time: meanwhile the loop has answers to see to."""
    drafts: dict[int, Decision] = {}
    ids = list(queries)
    for start in range(0, len(ids), DECIDED_AT_ONCE):
        some = {id_: queries[id_] for id_ in ids[start : start + DECIDED_AT_ONCE]}
        drafts.update(zip(some, _decide_chunk(some, predictor, context), strict=True))
        await asyncio.sleep(0)
    return drafts


def _decide_chunk(queries: Mapping[int, Query], predictor: Predictor | None, context: WorkerContext) -> list[Decision]:
    fleet = context.fleet
    draws = [exploration_draw(id_) for id_ in queries] if fleet.router.exploration > 0 else None
    try:
        return decide(list(queries.values()), fleet=fleet, predictor=predictor, draws=draws)
    except Exception as error:
        # One query that a rule cannot digest must not take two hundred with it.
        if len(queries) > 1:
            return [_decide_chunk({id_: query}, predictor, context)[0] for id_, query in queries.items()]
        log.error("router_failed", error=type(error).__name__)
        return [_in_doubt(error, context)]


def _in_doubt(error: Exception, context: WorkerContext) -> Decision:
    return Decision(
        tier=context.fleet.top,
        router="none",
        confidence=0.0,
        score=1.0,
        category="general",
        reasons=(f"the router failed ({type(error).__name__}): in doubt, up",),
    )


def _conclusion(
    one: QueuedQuery, paid: Decision | OverQueryBudget, decided: Decision, *, version: str | None
) -> Transition:
    if isinstance(paid, OverQueryBudget):
        return _too_dear(one, paid, decided)
    return _to_tier(one, paid, version=version)


def _too_dear(one: QueuedQuery, dear: OverQueryBudget, decided: Decision) -> Transition:
    return Transition(
        query_id=one.id,
        epoch=one.epoch,
        stage=ROUTE,
        move=MoveKind.FAIL,
        to_stage=ROUTE,
        to_state=State.FAILED,
        why=DecisionRecord(
            kind="budget", router="budget", reasons=[*dear.reasons, *decided.reasons], score=decided.score
        ),
    )


def _to_tier(one: QueuedQuery, decision: Decision, *, version: str | None) -> Transition:
    detail: dict[str, Any] = {"category": decision.category, "p_ok": dict(decision.p_ok)}
    if decision.p_ok and version is not None:
        detail["version"] = version
    return Transition(
        query_id=one.id,
        epoch=one.epoch,
        stage=ROUTE,
        move=MoveKind.ADVANCE,
        to_stage=decision.tier,
        to_state=State.READY,
        tier=decision.tier,
        prefers=decision.model,
        publish=True,
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
