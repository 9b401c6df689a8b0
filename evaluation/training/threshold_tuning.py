"""Thresholds for a fleet, from data: which to set for a wanted cost or quality, and what to expect of them.

Two knobs exist. The cascade's is a tier's ``confidence_threshold``: below it an answer escalates.
The query router's is ``router.quality_weight``: the more a lost answer weighs, the more goes to the
large model. Predictions must be for lines that the router had not seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from evaluation.data.array_types import Floats
from evaluation.data.call_costs import CallCosts
from evaluation.data.dataset import Dataset
from evaluation.data.dataset_errors import TargetError
from evaluation.metrics.confidence_intervals import DRAWS, Interval, interval, redraw_mean

STEPS: Final = 400
WEIGHTS: Final = (0.25, 200.0)
"""The quality weights that are looked through, on a logarithmic scale."""


class Knob(StrEnum):
    """What is set."""

    CONFIDENCE = "confidence_threshold"
    WEIGHT = "quality_weight"


@dataclass(frozen=True, slots=True)
class Proposal:
    """One setting, with what to expect of it."""

    knob: Knob
    value: float
    tier: str | None
    """The tier of the threshold. None for the router's weight."""
    to_large: float
    """Share of queries that reach the large model."""
    cost: float
    """The cost, relative to always asking the large model."""
    quality: float
    """The number of right answers, relative to always asking the large model."""
    cost_interval: Interval | None
    quality_interval: Interval | None


@dataclass(frozen=True, slots=True)
class ThresholdTarget:
    """What is wanted: exactly one of the two, both over always asking the large model."""

    cost: float | None = None
    quality: float | None = None


def propose(
    data: Dataset, *, p_ok: Floats, p_right: Floats | None, tariff: CallCosts, target: ThresholdTarget, seed: int = 0
) -> list[Proposal]:
    """A proposal for each knob that can meet ``target``, the better first. Raises TargetError where none can."""
    frontiers = [_weights(data, p_ok, tariff)]
    if p_right is not None:
        frontiers.insert(0, _confidences(data, p_right, tariff))
    met = [
        _describe(data, frontier, at, seed=seed)
        for frontier in frontiers
        if (at := _choose(frontier, target)) is not None
    ]
    if not met:
        raise TargetError(_impossible(frontiers, target))
    prefer = (lambda p: -p.quality) if target.cost is not None else (lambda p: p.cost)
    return sorted(met, key=prefer)


@dataclass(frozen=True, slots=True)
class _Frontier:
    """Settings of one knob; row i of ``to_large`` says which queries setting i sends to the large model."""

    knob: Knob
    tier: str | None
    values: Floats
    to_large: np.ndarray
    cost: Floats
    quality: Floats
    first_call: float
    floor: float


def _confidences(data: Dataset, p_right: Floats, tariff: CallCosts) -> _Frontier:
    values = np.round(np.linspace(0.0, 1.0, STEPS + 1), 4)
    first_call = tariff.share(data.cheapest, of=data.most_expensive)
    return _frontier(
        Knob.CONFIDENCE, data.cheapest, values, p_right[None] < values[:, None], data, first_call, first_call
    )


def _weights(data: Dataset, p_ok: Floats, tariff: CallCosts) -> _Frontier:
    values = np.round(np.geomspace(*WEIGHTS, STEPS + 1), 3)
    floor = tariff.share(data.cheapest, of=data.most_expensive)
    gain = p_ok[:, -1] - p_ok[:, 0]
    return _frontier(Knob.WEIGHT, None, values, values[:, None] * gain[None] >= 1.0 - floor, data, 0.0, floor)


def _frontier(
    knob: Knob, tier: str | None, values: Floats, to_large: np.ndarray, data: Dataset, first_call: float, floor: float
) -> _Frontier:
    small, large = data.ok(data.cheapest), data.ok(data.most_expensive)
    if large.sum() <= 0:
        raise TargetError(f"{data.most_expensive} was never right, so there is no quality to aim at")
    right = np.where(to_large, large[None], small[None]).sum(axis=1)
    share = to_large.mean(axis=1)
    cost = _cost(share, first_call, floor)
    return _Frontier(knob, tier, values, to_large, cost, right / large.sum(), first_call, floor)


def _cost(share: Floats, first_call: float, floor: float) -> Floats:
    """Of sending ``share`` to the large model: after a first call for all, or instead of a small call."""
    return first_call + share if first_call else floor + share * (1.0 - floor)


def _choose(frontier: _Frontier, target: ThresholdTarget) -> int | None:
    """The setting of the most quality within the cost, or of the least cost with the quality."""
    if target.cost is not None:
        allowed = np.flatnonzero(frontier.cost <= target.cost + 1e-9)
        return int(allowed[np.argmax(frontier.quality[allowed])]) if len(allowed) else None
    allowed = np.flatnonzero(frontier.quality >= (target.quality or 0.0) - 1e-9)
    return int(allowed[np.argmin(frontier.cost[allowed])]) if len(allowed) else None


def _describe(data: Dataset, frontier: _Frontier, at: int, *, seed: int, draws: int = DRAWS) -> Proposal:
    chosen = frontier.to_large[at]
    small, large = data.ok(data.cheapest), data.ok(data.most_expensive)
    came = np.where(chosen, large, small)

    def quality(counts: Floats) -> Floats:
        estimates: Floats = (counts @ came) / np.maximum(counts @ large, 1e-9)
        return estimates

    def cost(counts: Floats) -> Floats:
        share = counts @ chosen.astype(np.float64) / len(chosen)
        estimates: Floats = (
            frontier.first_call + share if frontier.first_call else frontier.floor + share * (1 - frontier.floor)
        )
        return estimates

    return Proposal(
        frontier.knob,
        float(frontier.values[at]),
        frontier.tier,
        float(chosen.mean()),
        float(frontier.cost[at]),
        float(frontier.quality[at]),
        interval(redraw_mean(cost, len(data), seed=seed, draws=draws)),
        interval(redraw_mean(quality, len(data), seed=seed, draws=draws)),
    )


def _impossible(frontiers: list[_Frontier], target: ThresholdTarget) -> str:
    if target.cost is not None:
        least = min(float(frontier.cost.min()) for frontier in frontiers)
        return (
            f"no setting costs as little as {target.cost:.2f} of always using the large model. The minimum is "
            f"{least:.3f}"
        )
    most = max(float(frontier.quality.max()) for frontier in frontiers)
    return f"no setting reaches {target.quality:.2f} of the large model's quality. The maximum is {most:.3f}"


def as_dict(proposal: Proposal) -> Mapping[str, object]:
    return {
        "knob": str(proposal.knob),
        "tier": proposal.tier,
        "value": proposal.value,
        "to_large": round(proposal.to_large, 4),
        "cost": round(proposal.cost, 4),
        "quality": round(proposal.quality, 4),
        "intervals": {
            "cost": None if proposal.cost_interval is None else proposal.cost_interval.as_list(),
            "quality": None if proposal.quality_interval is None else proposal.quality_interval.as_list(),
        },
    }
