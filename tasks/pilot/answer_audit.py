"""Audit calls: after delivery, the top tier also answers a small share of the queries accepted below it, and the
answers are graded."""

from db.ledger_types import QueuedQuery
from db.pilots import Pilots
from routing.budget.query_budget import affordable
from routing.context_window import fitting
from routing.outcome import Completion
from routing.pilot import TierAnswer
from routing.policy.exploration import exploration_draw
from routing.query import Query
from tasks.batch_call import call_for_batch
from tasks.pilot.grading import grade_sample
from tasks.pilot.pilot_routing import served_policies
from tasks.pilot.sample import SampledQuery, gold_of
from tasks.worker_context import WorkerContext

AUDIT_DRAW = b"audit"


async def audit_answer(
    queued: QueuedQuery, query: Query, answer: str, *, tier: str, context: WorkerContext, left_usd: float
) -> None:
    """Asks the top tier too, where the query is drawn for that; its answer is graded, never delivered.

    ``left_usd`` is what is left of the query's ``max_cost_usd``, infinite where it has none.

    Best effort: a limit, a budget or a lost worker skips an audit, whatever the answer was, so that what is audited
    stays a random sample. An answer that the judge refuses, or gives no verdict on, counts as a loss, as in the pilot.
    """
    if tier not in context.fleet.ladder or query.is_pinned:
        return  # no policy has accepted it
    served = (await served_policies([queued], context)).get(queued.batch_id)
    if served is None or served.grader is None or exploration_draw(queued.id, purpose=AUDIT_DRAW) >= served.audit_share:
        return
    models = affordable(query, fitting(query, fleet=context.fleet, tier=context.fleet.top), left_usd=left_usd)
    if not models:
        return
    result = await call_for_batch(models[0], queued.body, batch_id=queued.batch_id, purpose="audit", context=context)
    if result is None or not isinstance(result.outcome, Completion) or not result.outcome.text.strip():
        return
    top = context.fleet.top
    pair = SampledQuery(
        query_id=queued.id,
        custom_id=queued.custom_id,
        text=query.text,
        expects=query.expects,
        answers=(TierAnswer(tier, answer, {}), TierAnswer(top, result.outcome.text, {})),
        costs_usd=(0.0, 0.0),
        system=query.system,
        gold=gold_of(queued.options.get("metadata")),
    )
    graded = await grade_sample([pair], served.grader, known={}, batch_id=queued.batch_id, epoch=0, context=context)
    if not graded.unreached:
        ((grade, reference_grade),) = graded.grades
        await Pilots(context.engine).add_audit(
            query_id=queued.id,
            batch_id=queued.batch_id,
            call_id=result.sent.call_id,
            tier=tier,
            grade=grade,
            reference_grade=reference_grade,
        )
