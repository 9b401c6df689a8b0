"""From a sample to a certificate and a policy: the results of `evaluation.quality_floor` in the ledger's form."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, NamedTuple

import numpy as np
from sqlalchemy import Row
from threadpoolctl import threadpool_limits

from db.reports.batch_warnings import no_gain
from evaluation.graders.llm_judge import missed_by_inconsistency
from evaluation.quality_floor.certification import (
    LEAST_PILOT,
    Certificate,
    GradedAnswer,
    GraderStatement,
    PilotQuery,
    QualityTarget,
    certify,
)
from evaluation.quality_floor.ladder_policy import LadderAction, LadderAnswer, LadderPolicy, LadderStart
from evaluation.quality_floor.loss_audit import breaks
from evaluation.quality_floor.pilot_size import LARGEST_SAMPLE, PilotPlan, may_gain, plan_pilot
from evaluation.quality_floor.policy_path import Entry
from routing.pilot import PolicyStart, PolicyStep, TierAnswer, policy_name
from tasks.pilot.graded_sample import GradedSample
from tasks.pilot.sample import SampledQuery

DEFAULT_POLICY: Final = {"kind": "default"}
"""The fleet's own routing, for a batch that is too small for a pilot, or whose pilot cannot pay."""

NO_NOTES: Final[Mapping[str, Any]] = {}

TOP_POLICY: Final = {"kind": "top"}
"""Everything goes to the top tier."""


MOST_MISSED: Final = 0.5
"""A grader that may hide a larger share of the losses is not used."""


class SampleMore(NamedTuple):
    """The sample is too small, and the batch is large enough for a larger sample to pay."""

    queries: int
    reason: str


class Certified(NamedTuple):
    """The decision. ``weights`` are the policy's arrays (npz), or None if the top tier answers everything."""

    certificate: Mapping[str, Any]
    policy: Mapping[str, Any]
    weights: bytes | None
    reason: str


class LadderQualityPolicy:
    """A certified `LadderPolicy` in the form that the stages use."""

    def __init__(self, policy: LadderPolicy) -> None:
        self._policy = policy

    def starts(self, ids: Sequence[int], texts: Sequence[str]) -> list[PolicyStart]:
        """Return the tier that each query is asked at first."""
        tiers = self._policy.tiers
        starts = self._policy.start([str(id_) for id_ in ids], texts)
        return [PolicyStart(tiers[start.place], _why_not_below(start, tiers)) for start in starts]

    def next_tier(self, query_id: int, text: str, answers: Sequence[TierAnswer]) -> PolicyStep:
        """Return the step after ``answers``, which are in ladder order."""
        tiers = list(self._policy.tiers)
        known = [answer for answer in answers if answer.tier in tiers[:-1]]
        if not known:
            return PolicyStep(None, "the policy does not know its tier")
        start, last = tiers.index(known[0].tier), tiers.index(known[-1].tier)
        by_tier = {answer.tier: LadderAnswer(answer.text, answer.confidences) for answer in known}
        # A tier that was skipped, for it could not answer, has an empty answer.
        given = [[by_tier.get(tier, LadderAnswer(""))] for tier in tiers[start : last + 1]]
        (decision,) = self._policy.decide([str(query_id)], [text], start, given)
        why = f"expected loss {decision.expected_loss:.3f}; up to {decision.accepted_loss:.3f} is accepted"
        match decision.action:
            case LadderAction.ACCEPT:
                return PolicyStep(None, why)
            case LadderAction.NEXT:
                return PolicyStep(tiers[last + 1], why)
            case LadderAction.TOP:
                return PolicyStep(tiers[-1], why)


def _why_not_below(start: LadderStart, tiers: Sequence[str]) -> str:
    if not start.place:
        return ""
    here = tiers[start.place]
    if start.entry not in (Entry.ROUTED, Entry.ROUTED_TO_ANY):
        return f"the policy has every query start at {here}"
    places = range(start.place)
    below = ", ".join(f"{start.expected[place]:.2f} from {tiers[place]}" for place in places)
    return (
        f"expected cost {start.expected[start.place]:.2f} from {here}, against {below} (in calls to {tiers[-1]}, with "
        "the price of losses)"
    )


class NextLook(NamedTuple):
    """The sample is to be graded, and a policy certified on it if it is complete."""

    more: int
    """The number of queries still missing from the sample, 0 if it is complete."""


def next_step(
    sample: Sequence[SampledQuery], *, pilot: Row[Any], ladder: Sequence[str]
) -> SampleMore | NextLook | Certified:
    """Return the next step of a pilot, before anything is graded."""
    if len(ladder) < 2:
        return to_the_top(pilot, ladder, "the ladder has only one tier")
    target = QualityTarget(pilot.floor, pilot.confidence)
    most = min(pilot.total, LARGEST_SAMPLE, pilot.max_queries or pilot.total)
    plan = plan_pilot(target, pilot.total, most=most)
    if not plan.size and pilot.stops:
        plan = PilotPlan(most, most)
    if not plan.size:
        return _undecided(
            "too_small", DEFAULT_POLICY, pilot, ladder, f"{plan.reason}, so the default policy routes the batch"
        )
    if pilot.sampled == 0 and pilot.skipped is not None:
        decided = _undecided("no_gain", DEFAULT_POLICY, pilot, ladder, no_gain(pilot.skipped))
        return decided._replace(certificate={**decided.certificate, "skipped_pilot": pilot.skipped})
    if pilot.sampled == 0 and pilot.waiting:
        return SampleMore(plan.first, "the first part of the sample")
    if not sample:
        return to_the_top(pilot, ladder, f"no sampled query has an answer from {ladder[-1]}")
    if not any(query.costs_usd[-1] > 0 for query in sample):
        return to_the_top(pilot, ladder, f"answers from {ladder[-1]} cost nothing, so nothing can be saved")
    return NextLook(max(plan.size - pilot.sampled, 0) if pilot.waiting else 0)


def certify_sample(
    sample: Sequence[SampledQuery],
    graded: GradedSample,
    look: NextLook,
    *,
    pilot: Row[Any],
    ladder: Sequence[str],
    unanswered: int,
    capped: int,
    grading_usd: float,
) -> SampleMore | Certified:
    """Return the certificate and the policy of a graded sample, or a request for more of it if that may pay off.

    ``unanswered`` sampled queries have no answer of the top tier to compare with. Of these, ``capped`` have a
    max_cost_usd, which may exclude that tier. The certificate does not cover such queries.
    """
    if graded.failure is not None:
        return to_the_top(pilot, ladder, graded.failure, graded.notes)
    target = QualityTarget(pilot.floor, pilot.confidence)
    # A first part is only asked for its hope; what is certified takes a tenth of the risk for the judge's errors.
    known_at = 0.5 if look.more else 1.0 - (1.0 - pilot.confidence) / 10.0
    statement = grader_statement(graded, known_at=known_at)
    notes = {"grader": asdict(statement), **graded.notes}
    if statement.missed >= MOST_MISSED:
        reason = "the judge contradicts itself too often when it sees the answers in the other order"
        return to_the_top(pilot, ladder, reason, notes)
    queries = [
        PilotQuery(str(query.query_id), query.text, _graded(query, grades), query.workload)
        for query, grades in zip(sample, graded.grades, strict=True)
    ]
    with threadpool_limits(limits=1):  # BLAS would spin on every core, and the stages have answers to see to
        if look.more:
            if len(queries) < LEAST_PILOT or may_gain(
                queries,
                target,
                planned=len(queries) + look.more,
                batch_size=pilot.total,
                missed=statement.missed,
                grading_usd=grading_usd,
                seed=pilot.seed,
            ):
                return SampleMore(look.more, "a larger sample may certify a cheaper policy")
            first = f"the first {len(queries)} queries, graded by {graded.kind.value}"
            reason = f"{first}, show that a larger sample would not pay for itself"
            return to_the_top(pilot, ladder, reason, notes)
        certificate, policy = certify(
            queries,
            target,
            tiers=ladder,
            batch_size=pilot.total,
            grader=statement,
            grading_usd=grading_usd,
            seed=pilot.seed,
        )
    quality = 1.0 - certificate.loss_estimate
    stated = certificate.to_json() | {
        "outcome": "certified" if policy is not None else "top_tier",
        "quality": quality,
        "quality_interval": [max(0.0, 1.0 - certificate.loss_bound), max(1.0, quality)],
        "unanswered": unanswered,
        "capped": capped,
        "grading_usd": grading_usd,
        **graded.notes,
    }
    if policy is None:
        return Certified(stated, TOP_POLICY, None, f"everything to {ladder[-1]}: {certificate.reason}")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **policy.parts())  # type: ignore[arg-type]  # arrays by name
    served = {"kind": "ladder", "tiers": list(policy.tiers), "sources": [list(names) for names in policy.sources]}
    served |= {"grader": graded.kind, "why": _why(certificate)}
    reason = (
        f"{certificate.policy.value} certified: the batch's loss is at most {certificate.loss_bound:.3f}, and "
        f"the floor allows {1.0 - pilot.floor:.3f}"
    )
    return Certified(stated, served, buffer.getvalue(), reason)


def _why(certificate: Certificate) -> str:
    """Return why a query follows the policy, for `pointsman explain`."""
    return (
        f"certified for this batch: {policy_name(certificate.to_json())}, with an expected loss of "
        f"{certificate.loss_estimate:.3f} over the batch, and at most {certificate.loss_bound:.3f}"
    )


def grader_statement(graded: GradedSample, *, known_at: float) -> GraderStatement:
    """Return how far the grader can be trusted. ``known_at`` is the confidence of the bound on what a judge's
    inconsistency may hide."""
    mix = {graded.kind.value: len(graded.grades)}
    if not graded.inconsistencies:
        return GraderStatement(mix=mix)
    missed = missed_by_inconsistency(graded.inconsistencies, confidence=known_at)
    return GraderStatement(mix=mix, missed=missed, missed_known_at=known_at)


def read_policy(policy: Mapping[str, Any], weights: bytes) -> LadderQualityPolicy:
    """Return a stored policy. Raises KeyError or ValueError if it is incomplete."""
    with np.load(io.BytesIO(weights), allow_pickle=False) as arrays:
        parts = {name: arrays[name] for name in arrays.files}
    return LadderQualityPolicy(LadderPolicy.from_arrays(parts, tiers=policy["tiers"], sources=policy["sources"]))


def _graded(query: SampledQuery, grades: Sequence[float]) -> list[GradedAnswer]:
    return [
        GradedAnswer(answer.text, grade, dict(answer.confidences), cost_usd)
        for answer, grade, cost_usd in zip(query.answers, grades, query.costs_usd, strict=True)
    ]


def to_the_top(pilot: Row[Any], ladder: Sequence[str], reason: str, notes: Mapping[str, Any] = NO_NOTES) -> Certified:
    """Return the decision that everything goes to the top tier, for a reason that needs no test."""
    decided = _undecided("top_tier", TOP_POLICY, pilot, ladder, reason)
    return decided._replace(certificate={**decided.certificate, **notes})


def _undecided(
    outcome: str, policy: Mapping[str, Any], pilot: Row[Any], ladder: Sequence[str], reason: str
) -> Certified:
    """Return a decision without a test."""
    certificate = {
        "outcome": outcome,
        "policy": "all_top" if policy is TOP_POLICY else "default",
        "tiers": list(ladder),
        "floor": pilot.floor,
        "confidence": pilot.confidence,
        "reason": reason,
    }
    return Certified(certificate, policy, None, reason)


def is_breached(audits: Row[Any]) -> bool:
    """Whether a batch's audits show that its floor is broken. Valid at any time, and however often it is called.

    Only answers accepted below the top tier are audited, because only they can lose quality. They may use the whole
    allowance of the batch.
    """
    below = max(audits.rest_share * (1.0 - audits.accept_shares[-1]), 1e-6)
    most_loss = min((1.0 - audits.floor) / below, 1.0)
    return breaks(audits.losses, most_loss=most_loss, risk=1.0 - audits.confidence)
