"""The route stage: decides a whole chunk of queries at once, and sends each to its tier."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from db.records import Conclusion, Explanation, Waiting
from routing.decision import Decision, Predictor, decide, settle
from routing.lifecycle import ROUTE, Move, State
from routing.purse import TooDear
from routing.query import Query, read_body
from tasks.apart import suspects_apart
from tasks.means import within_means
from tasks.opinion import ask_llm_router
from tasks.shadow import cast_shadow
from tasks.station import Station

log = structlog.get_logger()


async def route(ids: Sequence[int], station: Station) -> Mapping[int, tuple[str, str]]:
    """Routes those of ``ids`` that wait; returns the (stage, state) of each that moved.

    The caller publishes those that came out as `queued`.
    """
    waiting = await station.ledger.waiting(ROUTE, ids)
    return await suspects_apart(waiting, station, lambda some: _route(some, station))


async def _route(waiting: Sequence[Waiting], station: Station) -> Mapping[int, tuple[str, str]]:
    claims = await station.ledger.claim_many([(ROUTE, one.id, None) for one in waiting])
    claimed = [one for one in waiting if one.id in claims]
    queries = {one.id: read_query(one) for one in claimed}
    trained = station.trained  # another may be promoted while this chunk waits for an LLM's opinion
    decisions = await _decide(queries, claimed, trained.predictor, station)
    paid = await within_means(queries, decisions, claimed, station)
    moved = await station.ledger.conclude_many(
        [
            _conclusion(
                one,
                paid[one.id],
                decisions[one.id],
                epoch=claims[one.id].epoch,
                version=trained.version,
            )
            for one in claimed
        ]
    )
    cast_shadow({query_id: query for query_id, query in queries.items() if query_id in moved}, station)
    return moved


def read_query(waiting: Waiting) -> Query:
    """The query as the rules see it."""
    return read_body(waiting.body, pin=waiting.options.get("pin"), expects=waiting.options.get("expects"))


async def _decide(
    queries: Mapping[int, Query], claimed: Sequence[Waiting], predictor: Predictor | None, station: Station
) -> dict[int, Decision]:
    drafts = dict(zip(queries, _decide_chunk(list(queries.values()), predictor, station), strict=True))
    uncertain = {query_id: queries[query_id] for query_id, draft in drafts.items() if draft.wants_opinion}
    if uncertain:
        opinions = await ask_llm_router(uncertain, claimed, station)
        for query_id, query in uncertain.items():
            drafts[query_id] = settle(query, drafts[query_id], opinions.get(query_id), fleet=station.fleet)
    return drafts


def _decide_chunk(queries: Sequence[Query], predictor: Predictor | None, station: Station) -> list[Decision]:
    fleet = station.fleet
    draws = [station.draw.random() for _ in queries] if fleet.router.exploration > 0 else None
    try:
        return decide(queries, fleet=fleet, predictor=predictor, draws=draws)
    except Exception as error:
        # One query that a rule cannot digest must not take two hundred with it.
        if len(queries) > 1:
            return [_decide_chunk([query], predictor, station)[0] for query in queries]
        log.error("router_failed", error=type(error).__name__)
        return [_in_doubt(error, station)]


def _in_doubt(error: Exception, station: Station) -> Decision:
    return Decision(
        tier=station.fleet.top,
        router="none",
        confidence=0.0,
        score=1.0,
        category="general",
        reasons=(f"the router failed ({type(error).__name__}): in doubt, up",),
    )


def _conclusion(
    one: Waiting, paid: Decision | TooDear, decided: Decision, *, epoch: int, version: str | None
) -> Conclusion:
    if isinstance(paid, TooDear):
        return _too_dear(one, paid, decided, epoch=epoch)
    return _to_tier(one, paid, epoch=epoch, version=version)


def _too_dear(one: Waiting, dear: TooDear, decided: Decision, *, epoch: int) -> Conclusion:
    return Conclusion(
        query_id=one.id,
        epoch=epoch,
        stage=ROUTE,
        move=Move.FAIL,
        to_stage=ROUTE,
        to_state=State.FAILED,
        why=Explanation(kind="budget", router="budget", reasons=[*dear.reasons, *decided.reasons], score=decided.score),
    )


def _to_tier(one: Waiting, decision: Decision, *, epoch: int, version: str | None) -> Conclusion:
    detail: dict[str, Any] = {"category": decision.category, "p_ok": dict(decision.p_ok)}
    if decision.p_ok and version is not None:
        detail["version"] = version
    return Conclusion(
        query_id=one.id,
        epoch=epoch,
        stage=ROUTE,
        move=Move.ADVANCE,
        to_stage=decision.tier,
        to_state=State.READY,
        tier=decision.tier,
        prefers=decision.model,
        publish=True,
        why=Explanation(
            kind="route",
            router=decision.router,
            reasons=decision.reasons,
            score=decision.score,
            confidence=decision.confidence,
            propensity=decision.propensity,
            detail=detail,
        ),
    )
