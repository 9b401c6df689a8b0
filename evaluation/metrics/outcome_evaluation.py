"""A router compared with real outcomes: its curve, its calibration, and the results of simple controls."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from evaluation.data.array_types import Floats
from evaluation.data.call_costs import CallCosts
from evaluation.data.dataset import Dataset
from evaluation.metrics.confidence_intervals import DRAWS, CurveBand, Interval, interval, mean_of, redraw, redraw_mean
from evaluation.metrics.cost_quality_curve import LEAST_GAP, Curve, arena_score, rank
from evaluation.models.calibration import Bin, brier, ece, ece_by_chance, reliability

QUALITY_WEIGHT: Final = 3.0
"""The weight of a wrong answer relative to the price of the large model, as in `routing.fleet.RouterPolicy`."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """The result of ranking queries in one way. None if the large model is no better than the small."""

    name: str
    apgr: float | None
    cpt50: float | None
    cpt80: float | None
    aiq: float | None
    arena: float | None
    """The best RouterArena score along the curve, chosen in hindsight."""
    curve: Curve = field(repr=False)


@dataclass(frozen=True, slots=True)
class Constant:
    """A policy that sends every query to the same tier."""

    name: str
    quality: float
    cost: float
    """The cost in calls to the large model."""
    usd_per_1k: float
    arena: float


@dataclass(frozen=True, slots=True)
class Trust:
    """How reliable one probability is."""

    of: str
    ece: float
    by_chance: float
    """The error that a perfect predictor would have on this many examples."""
    brier: float
    bins: tuple[Bin, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """The policy that weighs prices and failures by the fleet's weights."""

    rule: str
    to_large: float
    """The share of queries that reach the large model."""
    quality: float
    cost: float
    """The cost in calls to the large model, with every call counted."""
    recovered: float | None
    arena: float


@dataclass(frozen=True, slots=True)
class Way:
    """One way of routing (by the query alone, or as a cascade), compared with its controls."""

    title: str
    router: Ranked
    point: Point
    intervals: dict[str, Interval | None]
    """The intervals of apgr, cpt50, cpt80, quality_small and quality_large, and of the router's lead in apgr over each
    control."""
    band: CurveBand = field(repr=False)
    rankings: tuple[Ranked, ...]
    """The controls that rank: a fixed split, random, query length, the oracle."""
    constants: tuple[Constant, ...]
    trust: tuple[Trust, ...]


def weigh_router(data: Dataset, p_ok: Floats, tariff: CallCosts, *, seed: int = 0, draws: int = DRAWS) -> Way:
    """The router that ranks by P(large answers well) − P(small does); ``p_ok`` has shape (n, tiers)."""
    priority = p_ok[:, -1] - p_ok[:, 0]
    floor = tariff.share(data.cheapest, of=data.most_expensive)
    trust = tuple(_trust(f"{tier} answers well", p_ok[:, i], data.ok(tier)) for i, tier in enumerate(data.tiers))
    chosen = QUALITY_WEIGHT * priority >= 1.0 - floor
    rule = f"to the large model where {QUALITY_WEIGHT:g} × (P large − P small) ≥ the difference in price"
    return _way(
        "by the query alone", data, priority, chosen, rule, tariff, trust, first_call=0.0, seed=seed, draws=draws
    )


def weigh_cascade(
    data: Dataset, p_right: Floats, tariff: CallCosts, *, threshold: float = 0.7, seed: int = 0, draws: int = DRAWS
) -> Way:
    """The cascade that asks the small model first and escalates the least trusted answers; shape (n,).

    Both calls of an escalated query are paid; see `evaluation.metrics.cost_quality_curve`.
    """
    first_call = tariff.share(data.cheapest, of=data.most_expensive)
    trust = (_trust(f"the answer of {data.cheapest} is right", p_right, data.ok(data.cheapest)),)
    rule = f"to the large model where P(answer is right) < {threshold:g}"
    return _way(
        "as a cascade with the answer scorer", data, -p_right, p_right < threshold, rule, tariff, trust,
        first_call=first_call, seed=seed, draws=draws,
    )  # fmt: skip


def _way(
    title: str,
    data: Dataset,
    priority: Floats,
    chosen: Floats | np.ndarray,
    rule: str,
    tariff: CallCosts,
    trust: tuple[Trust, ...],
    *,
    first_call: float,
    seed: int,
    draws: int,
) -> Way:
    scene = _Scene(data, tariff, first_call, seed=seed, draws=draws)
    rankings = scene.controls()
    redrawn = redraw(priority, scene.small, scene.large, first_call=first_call, seed=seed, draws=draws)
    intervals = {
        "apgr": interval(redrawn.apgr),
        "cpt50": interval(redrawn.cpt50),
        "cpt80": interval(redrawn.cpt80),
        "quality_small": scene.mean_interval(scene.small),
        "quality_large": scene.mean_interval(scene.large),
    }
    for control, ranking in zip(rankings, scene.control_priorities(), strict=True):
        if control.name in ("query_length", "random", "best_fixed_split"):
            theirs = 0.5 if ranking is None else scene.redrawn_apgr(ranking)
            intervals[f"lead_over_{control.name}"] = interval(redrawn.apgr - theirs)
    return Way(
        title,
        scene.ranked("router", rank(priority, scene.small, scene.large, first_call=first_call)),
        scene.point(np.asarray(chosen, dtype=bool), rule),
        intervals,
        redrawn.band(),
        rankings,
        scene.constants(),
        trust,
    )


class _Scene:
    """What is the same for the router and its controls."""

    def __init__(self, data: Dataset, tariff: CallCosts, first_call: float, *, seed: int, draws: int) -> None:
        self.data, self.tariff, self.first_call = data, tariff, first_call
        self.seed, self.draws = seed, draws
        self.small, self.large = data.ok(data.cheapest), data.ok(data.most_expensive)
        self.floor = tariff.share(data.cheapest, of=data.most_expensive)
        self.unit_usd = tariff.usd[data.most_expensive]

    def control_priorities(self) -> list[Floats | None]:
        """The rankings of the controls; None is a fixed split, which ranks nothing."""
        random = np.random.default_rng(self.seed).random(len(self.data))
        length = np.array([len(text) for text in self.data.queries], dtype=np.float64)
        return [None, random, length, self.large - self.small]

    def controls(self) -> tuple[Ranked, ...]:
        names = ("best_fixed_split", "random", "query_length", "oracle")
        # A control that decides by the query alone pays one call: only the router's curve may pay two.
        return tuple(
            self.ranked(name, rank(np.zeros(len(self.data)) if how is None else how, self.small, self.large))
            for name, how in zip(names, self.control_priorities(), strict=True)
        )

    def redrawn_apgr(self, priority: Floats) -> Floats:
        return redraw(priority, self.small, self.large, first_call=0.0, seed=self.seed, draws=self.draws).apgr

    def ranked(self, name: str, curve: Curve) -> Ranked:
        arena = max((self.arena(float(q), self.cost(float(s), curve)) for s, q in _sampled(curve)), default=None)
        return Ranked(name, curve.apgr(), curve.cpt(50), curve.cpt(80), curve.aiq(self.floor), arena, curve)

    def cost(self, share: float, curve: Curve) -> float:
        return curve.first_call + share if curve.first_call else self.floor + share * (1.0 - self.floor)

    def arena(self, quality: float, cost: float) -> float:
        return arena_score(quality, 1000.0 * cost * self.unit_usd)

    def constants(self) -> tuple[Constant, ...]:
        held = (("always_small", self.small, self.floor), ("always_large", self.large, 1.0))
        return tuple(
            Constant(name, float(ok.mean()), cost, 1000 * cost * self.unit_usd, self.arena(float(ok.mean()), cost))
            for name, ok, cost in held
        )

    def point(self, chosen: np.ndarray, rule: str) -> Point:
        quality = float(np.where(chosen, self.large, self.small).mean())
        to_large = float(chosen.mean())
        cost = self.first_call + to_large if self.first_call else self.floor + to_large * (1.0 - self.floor)
        gap = float(self.large.mean() - self.small.mean())
        recovered = (quality - float(self.small.mean())) / gap if gap > LEAST_GAP else None
        return Point(rule, to_large, quality, cost, recovered, self.arena(quality, cost))

    def mean_interval(self, ok: Floats) -> Interval | None:
        return interval(redraw_mean(mean_of(ok), len(ok), seed=self.seed, draws=self.draws))


def _sampled(curve: Curve) -> Sequence[tuple[float, float]]:
    shares = np.linspace(0.0, 1.0, 101)
    return list(zip(shares.tolist(), np.interp(shares, curve.share, curve.quality).tolist(), strict=True))


def _trust(of: str, predicted: Floats, labels: Floats) -> Trust:
    return Trust(
        of, ece(predicted, labels), ece_by_chance(predicted), brier(predicted, labels), reliability(predicted, labels)
    )
