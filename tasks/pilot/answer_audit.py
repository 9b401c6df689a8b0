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


async def audit_answer(queued: QueuedQuery, query: Query, answer: str, *, tier: str, context: WorkerContext) -> None:
    """Asks the top tier too, where the query is drawn for that; its answer is graded, never delivered.

    Best effort: a limit, a budget or a lost worker skips an audit, whatever the answer was, so that what is audited
    stays a random sample.
    """
    if tier not in context.fleet.ladder or query.is_pinned:
        return  # no policy has accepted it
    served = (await served_policies([queued], context)).get(queued.batch_id)
    if served is None or served.grader is None or exploration_draw(queued.id, purpose=AUDIT_DRAW) >= served.audit_share:
        return
    models = fitting(query, fleet=context.fleet, tier=context.fleet.top)
    if not models:
        return
    model = models[0]
    grant = await context.admission.reserve(model, tokens=query.prompt_tokens + (query.max_tokens or 256))
    if isinstance(grant, Denied):
        return
    intent = CallIntent(
        call_id=await context.ledger.next_call_id(),
        purpose="audit",
        tier=context.fleet.top,
        model=model,
        batch_id=queued.batch_id,
        reserved_usd=worst_usd(query, model),
    )
    sent = await context.admission.for_sending(grant, context.ledger.reserve_call(intent))
    if sent is None:
        return
    outcome = await context.pool.complete(model, queued.body, call_id=sent.call_id)
    used = outcome.usage.total_tokens if outcome.usage else 0
    await context.admission.settle(grant, used_tokens=used, outcome=outcome)
    await context.ledger.record(CallResult(sent, outcome))
    if isinstance(outcome, Completion) and outcome.text.strip():
        await Pilots(context.engine).add_audit(
            query_id=queued.id,
            batch_id=queued.batch_id,
            call_id=sent.call_id,
            tier=tier,
            grade=grader(served.grader)(answer, outcome.text),
            reference_grade=1.0,
        )
