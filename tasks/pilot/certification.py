"""From a sample to a certificate and a policy: what `evaluation.quality_floor` computes, as the ledger stores it."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from sqlalchemy import Row

from evaluation.quality_floor.certification import (
    Certificate,
    GradedAnswer,
    GraderStatement,
    PilotQuery,
    QualityTarget,
)
from evaluation.quality_floor.certification import certify as certify_policy
from evaluation.quality_floor.ladder_policy import LadderAction, LadderAnswer, LadderPolicy
from routing.pilot import LARGEST_SHARE, TierAnswer
from tasks.pilot.grading import grade_sample
from tasks.pilot.sample import SampledQuery

MOST_EXTENSIONS: Final = 1
"""A sample is extended once at most: each look at it takes its share of the risk (Bonferroni)."""


class SampleMore(NamedTuple):
    """The sample is too small, and the batch large enough for a larger one to pay."""

    queries: int
    reason: str


class Certified(NamedTuple):
    """The decision. ``weights`` are the policy's arrays (npz); None where the top tier answers everything."""

    certificate: Mapping[str, Any]
    policy: Mapping[str, Any]
    weights: bytes | None
    reasons: Sequence[str]


class LadderQualityPolicy:
    """A certified `LadderPolicy` as the stages ask it."""

    def __init__(self, policy: LadderPolicy) -> None:
        self._policy = policy

    def first_tiers(self, ids: Sequence[int], texts: Sequence[str]) -> list[str]:
        """The tier that each query is asked first."""
        places = self._policy.start([str(id_) for id_ in ids], texts)
        return [self._policy.tiers[place] for place in places]

    def next_tier(self, query_id: int, text: str, answers: Sequence[TierAnswer]) -> str | None:
        """The tier that is asked after ``answers``, in ladder order; None accepts the last."""
        tiers = list(self._policy.tiers)
        known = [answer for answer in answers if answer.tier in tiers[:-1]]
        if not known:
            return None
        start, last = tiers.index(known[0].tier), tiers.index(known[-1].tier)
        by_tier = {answer.tier: LadderAnswer(answer.text, answer.confidences) for answer in known}
        # A tier that was skipped, for it could not answer, has an empty answer.
        given = [[by_tier.get(tier, LadderAnswer(""))] for tier in tiers[start : last + 1]]
        match self._policy.decide([str(query_id)], [text], start, given)[0]:
            case LadderAction.ACCEPT:
                return None
            case LadderAction.NEXT:
                return tiers[last + 1]
            case LadderAction.TOP:
                return tiers[-1]


def certify(
    sample: Sequence[SampledQuery], *, pilot: Row[Any], ladder: Sequence[str], unanswered: int
) -> SampleMore | Certified:
    """Grades ``sample`` and decides. ``unanswered`` sampled queries have no answer of the top tier to compare with."""
    graded, mix = grade_sample(sample)
    target = QualityTarget(pilot.floor, _confidence(pilot))
    if not sample:
        return _top(pilot, ladder, f"no sampled query has an answer of {ladder[-1]} to compare with", None)
    certificate, policy = certify_policy(
        [
            PilotQuery(
                str(query.query_id),
                query.text,
                [
                    GradedAnswer(answer.text, grade, dict(answer.confidences), cost_usd)
                    for answer, grade, cost_usd in zip(query.answers, grades, query.costs_usd, strict=True)
                ],
            )
            for query, grades in zip(sample, graded, strict=True)
        ],
        target,
        tiers=ladder,
        batch_size=pilot.total,
        grader=GraderStatement(mix=mix),
        seed=pilot.seed,
    )
    if policy is None and (more := _worth_more(certificate, pilot)):
        return SampleMore(more, certificate.reason)
    stated = certificate.to_json() | {
        "outcome": "certified" if policy is not None else "top_tier",
        "confidence": pilot.confidence,
        "quality": 1.0 - certificate.loss_estimate,
        "quality_interval": [max(0.0, 1.0 - certificate.loss_bound), 1.0],
        "unanswered": unanswered,
    }
    if policy is None:
        return Certified(
            stated, {"kind": "top"}, None, [f"quality_policy: everything to {ladder[-1]}: {certificate.reason}"]
        )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **policy.parts())  # type: ignore[arg-type]
    served = {"kind": "ladder", "tiers": list(policy.tiers), "sources": [list(names) for names in policy.sources]}
    reason = (
        f"quality_policy: {certificate.policy.value} certified: loss at most {certificate.loss_bound:.3f},"
        f" the floor allows {1.0 - pilot.floor:.3f}"
    )
    return Certified(stated, served, buffer.getvalue(), [reason])


def read_policy(policy: Mapping[str, Any], weights: bytes) -> LadderQualityPolicy:
    """A stored policy. Raises KeyError or ValueError where it is not whole."""
    with np.load(io.BytesIO(weights), allow_pickle=False) as arrays:
        parts = {name: arrays[name] for name in arrays.files}
    return LadderQualityPolicy(LadderPolicy.from_arrays(parts, tiers=policy["tiers"], sources=policy["sources"]))


def _confidence(pilot: Row[Any]) -> float:
    """Of one look: a sample may be looked at `MOST_EXTENSIONS` + 1 times."""
    return float(1.0 - (1.0 - pilot.confidence) / (MOST_EXTENSIONS + 1))


def _worth_more(certificate: Certificate, pilot: Row[Any]) -> int:
    """How many queries more to sample; 0 where that is too many, or was done already."""
    if certificate.more_samples is None or pilot.extensions >= MOST_EXTENSIONS:
        return 0
    most = math.floor(pilot.total * LARGEST_SHARE)
    if pilot.max_queries is not None:
        most = min(most, pilot.max_queries)
    return certificate.more_samples if pilot.sampled + certificate.more_samples <= most else 0


def _top(pilot: Row[Any], ladder: Sequence[str], reason: str, more: int | None) -> Certified:
    certificate = {
        "outcome": "top_tier",
        "policy": "all_top",
        "tiers": list(ladder),
        "floor": pilot.floor,
        "confidence": pilot.confidence,
        "reason": reason,
        "more_samples": more,
    }
    return Certified(certificate, {"kind": "top"}, None, [f"quality_policy: everything to {ladder[-1]}: {reason}"])


def is_breached(losses: Sequence[float], *, floor: float, confidence: float) -> bool:
    """Whether audited losses show, at any time they are looked at, that the floor is broken."""
    from evaluation.quality_floor.audit_test import AuditTest

    test = AuditTest(floor=floor, confidence=confidence)
    return any(test.add(loss) for loss in losses)
