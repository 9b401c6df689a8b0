"""Audit calls: a small share of what was accepted below is asked of the top tier after delivery, and graded."""

import structlog

from db.ledger_types import CallIntent, CallResult, QueuedQuery
from db.pilots import Pilots
from evaluation.graders.text_graders import grader
from providers.limits.admission_control import Denied
from routing.budget.query_budget import worst_usd
from routing.context_window import fitting
from routing.outcome import Completion
from routing.policy.exploration import exploration_draw
from routing.query import Query
from tasks.pilot.pilot_routing import served_policies
from tasks.worker_context import WorkerContext

log = structlog.get_logger()

AUDIT_DRAW = b"audit"


async def audit_answer(queued: QueuedQuery, query: Query, answer: str, *, tier: str, station: WorkerContext) -> None:
    """Asks the top tier too, where the query is drawn for that; its answer is graded, never delivered.

    Best effort: a limit, a budget or a lost worker skips an audit, whatever the answer was, so that what is audited
    stays a random sample.
    """
    if tier not in station.fleet.ladder or query.is_pinned:
        return  # no policy has accepted it
    served = (await served_policies([queued], station)).get(queued.batch_id)
    if served is None or served.grader is None or exploration_draw(queued.id, purpose=AUDIT_DRAW) >= served.audit_share:
        return
    models = fitting(query, fleet=station.fleet, tier=station.fleet.top)
    if not models:
        return
    model = models[0]
    grant = await station.admission.reserve(model, tokens=query.prompt_tokens + (query.max_tokens or 256))
    if isinstance(grant, Denied):
        return
    intent = CallIntent(
        call_id=await station.ledger.next_call_id(),
        purpose="audit",
        tier=station.fleet.top,
        model=model,
        batch_id=queued.batch_id,
        reserved_usd=worst_usd(query, model),
    )
    sent = await station.admission.for_sending(grant, station.ledger.reserve_call(intent))
    if sent is None:
        return
    outcome = await station.pool.complete(model, queued.body, call_id=sent.call_id)
    used = outcome.usage.total_tokens if outcome.usage else 0
    await station.admission.settle(grant, used_tokens=used, outcome=outcome)
    await station.ledger.record(CallResult(sent, outcome))
    if isinstance(outcome, Completion) and outcome.text.strip():
        await Pilots(station.engine).add_audit(
            query_id=queued.id,
            batch_id=queued.batch_id,
            call_id=sent.call_id,
            tier=tier,
            grade=grader(served.grader)(answer, outcome.text),
            reference_grade=1.0,
        )
