"""From a graded pilot to a certified policy: the cheapest one whose loss is bounded, or the top tier for all."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

import numpy as np

from evaluation.data.array_types import Floats, Ints
from evaluation.quality_floor.ladder_features import LadderFeatures, ladder_features
from evaluation.quality_floor.ladder_policy import LadderPolicy, policy_at
from evaluation.quality_floor.loss_bound import upper_bounds
from evaluation.quality_floor.policy_path import PathChoices, PolicyPath, fit_path

LARGEST_SHARE: Final = 0.4
"""Maximum share of the batch for a pilot. A larger pilot gains nothing."""

LEAST_PILOT: Final = 40
"""Minimum graded queries to certify anything: at 0.95, the bound of a pilot without a single loss is already 0.07."""


LEAST_SAMPLED: Final = 10
"""Minimum sampled queries of a workload to state its quality. A batch may have a thousand system prompts."""

WORKLOAD_RISK: Final = 0.05
"""The risk of the interval of a workload's quality."""


class PolicyKind(StrEnum):
    """What a policy amounts to on the pilot."""

    ALL_TOP = "all_top"
    """The top tier answers everything."""
    FIXED_TIER = "fixed_tier"
    """One tier below the top answers everything."""
    ROUTER = "router"
    """The text decides on the tier; its answer is accepted."""
    CASCADE = "cascade"
    """All queries start at one tier. Queries with a doubtful answer climb."""
    ROUTER_AND_CASCADE = "router_and_cascade"
    """The text decides where a query starts. Queries with a doubtful answer climb."""


@dataclass(frozen=True, slots=True)
class QualityTarget:
    """What is asked for: the batch's mean quality falls short of the reference's by at most ``1 - floor``."""

    floor: float
    """The quality floor, 0 to 1."""
    confidence: float = 0.95
    """Minimum share of pilots that keep the promise."""

    def __post_init__(self) -> None:
        if not 0.5 <= self.floor < 1.0:
            raise ValueError(f"quality must be at least 0.5 and below 1, not {self.floor}")
        if not 0.5 <= self.confidence < 1.0:
            raise ValueError(f"confidence must be at least 0.5 and below 1, not {self.confidence}")

    @property
    def most_loss(self) -> float:
        """The greatest mean loss of the batch that keeps the promise."""
        return 1.0 - self.floor

    def most_rest_loss(self, *, pilot: int, batch_size: int) -> float:
        """The greatest mean loss of the rest that keeps the promise: the ``pilot``'s queries lose nothing.

        A pilot of more than `LARGEST_SHARE` counts as that share, so that the rest is never given up.
        """
        return min(self.most_loss / rest_share(pilot=pilot, batch_size=batch_size), 1.0)


def rest_share(*, pilot: int, batch_size: int) -> float:
    """The share of the batch that a policy decides, at least ``1 - LARGEST_SHARE``."""
    return 1.0 - min(pilot / max(batch_size, 1), LARGEST_SHARE)


@dataclass(frozen=True, slots=True)
class GraderStatement:
    """How the pilot was graded, and how far the grader can be trusted."""

    mix: dict[str, int]
    """How many answers each kind of grader graded."""
    missed: float = 0.0
    """Maximum share of the real losses that the grader misses (0 for a gold column)."""
    missed_known_at: float = 1.0
    """The confidence of ``missed`` if it is an estimate. Its risk is part of the target's risk."""


@dataclass(frozen=True, slots=True)
class GradedAnswer:
    """An answer of the pilot and its grade."""

    text: str
    grade: float
    """Quality, 0 to 1, on the scale on which the reference has its own grade (1 where it is the measure)."""
    confidences: dict[str, float] = field(default_factory=dict)
    cost_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class PilotQuery:
    """A query of the pilot, which every tier has answered."""

    id: str
    text: str
    answers: Sequence[GradedAnswer]
    """The answers in ladder order, the top tier's last."""
    workload: str = ""
    """The name of its workload. "" without one."""


@dataclass(frozen=True, slots=True)
class WorkloadQuality:
    """The certified policy's quality on the sampled queries of one workload. The certificate does not promise it."""

    workload: str
    """The name of the workload. "" for queries without one."""
    queries: int
    quality: float
    """1 - the mean loss of the queries, each decided by regressions that did not see it."""
    interval: tuple[float, float]
    """95 %, exact binomial if losses are 0 or 1, for further queries of this workload that the policy decides."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is promised of a batch, and on what grounds. All of it is plain JSON (`to_json`).

    The batch is the pilot, whose queries are delivered with the top tier's answers and so lose nothing, and the rest,
    which the policy decides: its mean loss is ``rest_share`` times the rest's.
    """

    policy: PolicyKind
    tiers: tuple[str, ...]
    floor: float
    confidence: float
    promised_for: str
    """The part of the batch whose mean loss the floor bounds."""
    loss_bound: float
    """The value that the batch's mean loss exceeds with probability at most 1 - confidence."""
    loss_estimate: float
    """The batch's expected mean loss: on the pilot, each query decided by regressions that did not see it."""
    rest_share: float
    """The share of the batch that the policy decides."""
    rest_loss_bound: float
    """The value that the rest's mean loss exceeds with probability at most 1 - confidence."""
    grader: GraderStatement
    sample_ids: tuple[str, ...]
    seed: int
    batch_size: int
    pilot_cost_usd: float
    """What the pilot's calls and grades cost."""
    cost_per_query_usd: float
    """What a query of the rest is expected to cost."""
    net_saving: float
    """Expected share of the batch's cost by the top tier alone, with the pilot and the graders paid."""
    start_shares: tuple[float, ...]
    """The share of queries that start at each tier."""
    accept_shares: tuple[float, ...]
    """The share of queries whose answer is accepted from each tier."""
    method: str
    reason: str
    """The reason if nothing was certified; empty otherwise."""
    workloads: tuple[WorkloadQuality, ...]
    """Workloads with `LEAST_SAMPLED` queries, the lowest quality first. Empty if nothing was certified or all have one
    workload."""
    more_samples: int | None
    """Approximate number of further graded queries that would certify a saving. None if a policy was certified, or if
    no number suffices."""

    def to_json(self) -> dict[str, Any]:
        """The certificate as plain JSON values."""
        return asdict(self)


PROMISED_FOR: Final = "the whole batch: its pilot, answered by the top tier, and its rest, answered by the policy"

METHOD: Final = (
    "cross-fitted ladder policies, tested in one fixed order against Gaffke's bound (exact binomial for right or wrong)"
)


@dataclass(frozen=True, slots=True)
class ChosenPolicy:
    """The result on arrays: which policy of the path is certified, if any."""

    place: int | None
    """The policy's place in the path. None: the top tier answers everything."""
    bounds: Floats = field(repr=False)
    """The bound of each policy of the path, shape (weights,)."""
    losses: Floats = field(repr=False)
    """The cross-fitted mean loss of each."""
    costs: Floats = field(repr=False)
    """The cross-fitted mean cost of each, in calls to the top tier."""


def choose(path: PolicyPath, losses: Floats, *, risk: float, most_loss: float, rest: int) -> ChosenPolicy:
    """The cheapest policy of ``path`` that comes before the first one whose bound exceeds ``most_loss``.

    ``losses[i, tier]`` are those of the pilot's rows, ``rest`` is how many queries the policy will decide. All policies
    before the first failure are certified at once, at a confidence of 1 - ``risk`` (fixed-sequence testing).
    """
    bounds = upper_bounds(path.crossfit.loss(losses), risk=risk, rest=rest)
    return chosen_by(path, losses, bounds, most_loss=most_loss)


def chosen_by(path: PolicyPath, losses: Floats, bounds: Floats, *, most_loss: float) -> ChosenPolicy:
    """`choose` by the ``bounds`` of the path's policies."""
    lost = path.crossfit.loss(losses)
    costs = path.crossfit.cost.mean(axis=0)
    passes = bounds <= most_loss
    end = len(passes) if passes.all() else int(passes.argmin())
    place = int(costs[:end].argmin()) if end else None
    if place is not None and costs[place] >= 1.0:
        place = None
    return ChosenPolicy(place, bounds, lost.mean(axis=0), costs)


@dataclass(frozen=True, slots=True)
class FittedPilot:
    """A pilot as arrays, and the policies that were fitted on it."""

    losses: Floats = field(repr=False)
    """Shape (queries, tiers)."""
    costs: Floats
    """What a call of each tier costs, in calls to the top tier."""
    sources: Sequence[Sequence[str]]
    features: LadderFeatures = field(repr=False)
    path: PolicyPath = field(repr=False)


def fit_pilot(pilot: Sequence[PilotQuery], *, seed: int) -> FittedPilot:
    """Fits every policy of the path on the whole ``pilot``. Raises ValueError where the top tier's answers are free."""
    losses, usd = _losses(pilot), _mean_usd(pilot)
    costs = usd / usd[-1]
    prices = np.array([[answer.cost_usd for answer in query.answers] for query in pilot]) / usd[-1]
    n_tiers, sources = len(usd), confidence_sources(pilot)
    features = ladder_features(
        [query.text for query in pilot],
        [[query.answers[tier].text for query in pilot] for tier in range(n_tiers - 1)],
        confidences=[[query.answers[tier].confidences for query in pilot] for tier in range(n_tiers - 1)],
        sources=sources,
    )
    path = fit_path(features, np.arange(len(pilot)), losses, costs, seed=seed)
    # Which answers cost much is not independent of which are accepted: long answers are often the hard ones.
    path = replace(path, crossfit=replace(path.crossfit, cost=path.crossfit.paid(prices)))
    return FittedPilot(losses, costs, sources, features, path)


def _losses(pilot: Sequence[PilotQuery]) -> Floats:
    grades = np.array([[answer.grade for answer in query.answers] for query in pilot])
    return np.asarray(grades[:, -1:] - grades)


def _mean_usd(pilot: Sequence[PilotQuery]) -> Floats:
    usd = np.array([[answer.cost_usd for answer in query.answers] for query in pilot]).mean(axis=0)
    if usd[-1] <= 0:
        raise ValueError(f"the top tier's answers cost {usd[-1]}. fix: give cost_usd of every answer")
    return np.asarray(usd)


def certify(
    pilot: Sequence[PilotQuery],
    target: QualityTarget,
    *,
    tiers: Sequence[str],
    batch_size: int,
    grader: GraderStatement,
    grading_usd: float = 0.0,
    seed: int = 0,
) -> tuple[Certificate, LadderPolicy | None]:
    """Fits and tests on the whole ``pilot``, a uniform random sample of the batch; no policy means "all to the top".

    Raises ValueError where the pilot is empty, or a query has not an answer of every tier.
    """
    if not pilot or any(len(query.answers) != len(tiers) for query in pilot):
        raise ValueError(f"a pilot needs queries with one answer by each of {len(tiers)} tiers")
    n, n_tiers = len(pilot), len(tiers)
    usd = _mean_usd(pilot)
    top_usd = float(usd[-1])
    pilot_usd = float(n * usd.sum() + grading_usd)
    rest = max(batch_size - n, 1)
    decided = rest_share(pilot=n, batch_size=batch_size)
    shares = (0.0,) * (n_tiers - 1) + (1.0,)
    top = Certificate(
        policy=PolicyKind.ALL_TOP,
        tiers=tuple(tiers),
        floor=target.floor,
        confidence=target.confidence,
        promised_for=PROMISED_FOR,
        loss_bound=0.0,
        loss_estimate=0.0,
        rest_share=decided,
        rest_loss_bound=0.0,
        grader=grader,
        sample_ids=tuple(query.id for query in pilot),
        seed=seed,
        batch_size=batch_size,
        pilot_cost_usd=pilot_usd,
        cost_per_query_usd=top_usd,
        net_saving=1.0 - (pilot_usd / top_usd + max(batch_size - n, 0)) / max(batch_size, 1),
        start_shares=shares,
        accept_shares=shares,
        method=METHOD,
        reason="",
        workloads=(),
        more_samples=None,
    )
    risk = (1.0 - target.confidence) - (1.0 - grader.missed_known_at)
    if n_tiers < 2:
        return replace(top, reason="the ladder has only one tier"), None
    if n < LEAST_PILOT:
        reason = f"the pilot has {n} graded queries, and at least {LEAST_PILOT} are needed"
        return replace(top, reason=reason, more_samples=LEAST_PILOT - n), None
    if risk <= 0:
        return replace(top, reason="the grader's own error is not known at the requested confidence"), None
    fitted = fit_pilot(pilot, seed=seed)
    path = fitted.path
    most_loss = target.most_rest_loss(pilot=n, batch_size=batch_size) * (1.0 - grader.missed)
    chosen = choose(path, fitted.losses, risk=risk, most_loss=most_loss, rest=rest)
    if chosen.place is None:
        reason, more = _why_not(chosen, n, most_loss=most_loss, confidence=1.0 - risk)
        return replace(top, reason=reason, more_samples=more), None
    place = chosen.place
    starts, accepts = shares_of(path.crossfit, place, n_tiers)
    certificate = replace(
        top,
        policy=kind_of(starts, accepts, climbs=climbs(path.crossfit, place)),
        loss_bound=decided * float(chosen.bounds[place]) / (1.0 - grader.missed),
        loss_estimate=decided * float(chosen.losses[place]),
        rest_loss_bound=float(chosen.bounds[place]) / (1.0 - grader.missed),
        cost_per_query_usd=float(chosen.costs[place]) * top_usd,
        net_saving=float(1.0 - (pilot_usd / top_usd + rest * chosen.costs[place]) / batch_size),
        start_shares=starts,
        accept_shares=accepts,
        workloads=quality_by_workload([query.workload for query in pilot], path.crossfit.loss(fitted.losses)[:, place]),
    )
    return certificate, policy_at(path, place, fitted.features, tiers=tiers, sources=fitted.sources)


def quality_by_workload(workloads: Sequence[str], losses: Floats) -> tuple[WorkloadQuality, ...]:
    """The quality by workload, the lowest first, where ``losses[i]`` is that of the query of ``workloads[i]``."""
    names = np.array(workloads)
    best = 1.0 if losses.min() < 0 else 0.0  # an answer may be better than the reference
    found = []
    if len(set(workloads)) > 1:
        for name, count in Counter(workloads).items():
            if count < LEAST_SAMPLED:
                continue
            own = losses[names == name][:, None]
            highest = upper_bounds(own, risk=WORKLOAD_RISK / 2)
            lowest = -upper_bounds(-own, risk=WORKLOAD_RISK / 2, worst=best)
            quality = 1.0 - float(own.mean())
            interval = (1.0 - float(highest[0]), min(1.0 - float(lowest[0]), max(1.0, quality)))
            found.append(WorkloadQuality(name, count, quality, interval))
    return tuple(sorted(found, key=lambda one: one.quality))


def confidence_sources(pilot: Sequence[PilotQuery]) -> list[tuple[str, ...]]:
    """For each tier below the top, the sources that at least half of its answers have."""
    found = []
    for tier in range(len(pilot[0].answers) - 1):
        counts: dict[str, int] = {}
        for query in pilot:
            for source, value in query.answers[tier].confidences.items():
                counts[source] = counts.get(source, 0) + math.isfinite(value)
        found.append(tuple(sorted(source for source, count in counts.items() if 2 * count >= len(pilot))))
    return found


def shares_of(choices: PathChoices, place: int, n_tiers: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The shares of queries that start at, and that are accepted from, each tier."""

    def shares(places: Ints) -> tuple[float, ...]:
        return tuple(float(share) for share in np.bincount(places, minlength=n_tiers) / len(places))

    return shares(choices.start[:, place]), shares(choices.accepted[:, place])


def kind_of(starts: tuple[float, ...], accepts: tuple[float, ...], *, climbs: bool) -> PolicyKind:
    """What a policy amounts to, by where queries start and end."""
    if accepts[-1] == 1.0:
        return PolicyKind.ALL_TOP
    if max(starts) < 1.0:
        return PolicyKind.ROUTER_AND_CASCADE if climbs else PolicyKind.ROUTER
    return PolicyKind.CASCADE if climbs else PolicyKind.FIXED_TIER


def climbs(choices: PathChoices, place: int) -> bool:
    """Whether any query goes up from where it started."""
    return bool((choices.accepted[:, place] > choices.start[:, place]).any())


def _why_not(chosen: ChosenPolicy, n: int, *, most_loss: float, confidence: float) -> tuple[str, int | None]:
    """Why no policy passed, and about how many more samples it would take for one that saves a tenth."""
    saves = np.flatnonzero(chosen.costs <= 0.9)
    if not len(saves):
        return "no policy would save 10 % of the cost", None
    # The margin of a bound shrinks about with the square root of the sample.
    margins = chosen.bounds[saves] - chosen.losses[saves]
    room = most_loss - chosen.losses[saves]
    best = int(np.argmax(room / np.maximum(margins, 1e-9)))
    loss, bound = float(chosen.losses[saves][best]), float(chosen.bounds[saves][best])
    text = (
        f"the best policy that saves 10 % of the cost has a mean loss of {loss:.3f} on the pilot. At a confidence of "
        f"{confidence:g}, its loss is at most {bound:.3f}, but the floor allows the rest only {most_loss:.3f}"
    )
    if room[best] <= 0:
        return text, None
    needed = math.ceil(n * (float(margins[best]) / float(room[best])) ** 2)
    return text, max(needed - n, 1)
