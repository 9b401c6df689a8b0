"""The verdict on an answer of a batch with a quality floor, below the top tier."""

from collections.abc import Sequence
from typing import Final

import structlog

from db.ledger_types import QueuedQuery
from db.pilots import Pilots
from routing.answer_checks.judge import Verdict
from routing.outcome import Completion
from routing.pilot import PolicyStep, TierAnswer
from routing.query import Query
from routing.reason import Reason, ReasonCode
from tasks.pilot.pilot_routing import SAMPLED, served_policies
from tasks.pilot.sample import confidences, is_usable, tier_answer
from tasks.worker_context import WorkerContext

log = structlog.get_logger()

_BY_THRESHOLD: Final = frozenset({ReasonCode.CONFIDENT, ReasonCode.NO_CONFIDENCE, ReasonCode.LOW_CONFIDENCE})
"""Reasons of a verdict by the fleet's threshold."""


async def judge_with_pilot(
    verdict: Verdict,
    completion: Completion,
    *,
    query: Query,
    queued: QueuedQuery,
    tier: str,
    context: WorkerContext,
) -> tuple[Verdict, str | None]:
    """Return the judge's ``verdict``, changed by the pilot if needed, and the tier to ask next if a policy names one.

    A sampled query goes on to every tier. What the validators reject is rejected under any policy, and no policy
    applies off the ladder or to a pin. If a policy fails, the top tier is asked; the paid answer is kept.
    """
    if tier not in context.fleet.ladder or query.is_pinned:
        return verdict, None
    if queued.is_pilot:
        return verdict._replace(accepted=False, reasons=(SAMPLED, *verdict.reasons)), None
    if not verdict.usable or (not verdict.accepted and _is_rejected(verdict)):
        return verdict, None
    answer = TierAnswer(tier, completion.text, confidences(verdict.confidence, verdict.source, completion.mean_logprob))
    try:
        served = (await served_policies([queued], context)).get(queued.batch_id)
        if served is None or served.policy is None:
            return verdict, None
        earlier = await _earlier(queued, context)
        step = served.policy.next_tier(queued.id, query.text, [*earlier, answer])
    except Exception as error:
        log.warning("policy_failed", query_id=queued.id, error=type(error).__name__)
        step = PolicyStep(context.fleet.top, f"the policy failed ({type(error).__name__}), so the top tier answers")
    does = "accepts it" if step.tier is None else f"asks {step.tier} next"
    reason = Reason(ReasonCode.QUALITY_POLICY, f"the certificate of its batch {does}: {step.why}")
    accepts = step.tier is None
    others = verdict.reasons if accepts == verdict.accepted else _without_threshold(verdict.reasons)
    return verdict._replace(accepted=accepts, reasons=(reason, *others)), step.tier


def _without_threshold(reasons: Sequence[Reason]) -> tuple[Reason, ...]:
    """Return ``reasons`` without that of the fleet's threshold, which the policy overruled. The decision keeps the
    confidence."""
    return tuple(reason for reason in reasons if reason.code not in _BY_THRESHOLD)


async def _earlier(queued: QueuedQuery, context: WorkerContext) -> Sequence[TierAnswer]:
    """Return the answers of the tiers below. As in the sample, an answer that a validator rejected is empty."""
    if not queued.escalations:
        return []
    rows = await Pilots(context.engine).answers_so_far(queued.id)
    return [tier_answer(row, row.response) if is_usable(row) else TierAnswer(row.tier, "", {}) for row in rows]


def _is_rejected(verdict: Verdict) -> bool:
    """Whether a validator rejects it, and not its confidence alone."""
    return not any(reason.code == ReasonCode.LOW_CONFIDENCE for reason in verdict.reasons)
