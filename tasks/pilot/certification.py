"""From a graded sample to a certificate: what `evaluation.quality_floor` computes, as the ledger stores it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Row

from routing.pilot import QualityPolicy, TopTierPolicy
from tasks.pilot.sample import SampledQuery


class SampleMore(NamedTuple):
    """The sample is too small to decide."""

    queries: int
    reason: str


class Certified(NamedTuple):
    """The decision."""

    certificate: Mapping[str, Any]
    policy: Mapping[str, Any]
    reasons: Sequence[str]


def certify(
    sample: Sequence[SampledQuery], *, pilot: Row[Any], ladder: Sequence[str], unanswered: int
) -> SampleMore | Certified:
    return Certified({"outcome": "top_tier", "policy": "all to the top tier"}, {"kind": "top"}, ["top"])


def read_policy(policy: Mapping[str, Any]) -> QualityPolicy:
    return TopTierPolicy("large")


def is_breached(losses: Sequence[float], *, floor: float, confidence: float) -> bool:
    return False
