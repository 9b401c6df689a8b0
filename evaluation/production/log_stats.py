"""Statistics of the routing log: counts, grades and cells of confidence."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field, fields
from typing import Any, Final

from evaluation.metrics.confidence_intervals import wilson


@dataclass(frozen=True, slots=True)
class RouteCell:
    """Routed queries of one stage, tier, version and tenth of confidence; see ``log_routes.sql``."""

    stage: str
    tier: str
    version: str | None
    tenth: int | None
    answer_tier: str | None
    queries: int
    answered: int
    escalated: int
    stood: int
    doubtful: int
    open: int
    cost_usd: float
    weight: float
    stood_weight: float


@dataclass(frozen=True, slots=True)
class JudgeCell:
    """Verdicts of one source and tenth of confidence; see ``log_judged.sql``."""

    source: str
    tenth: int | None
    judged: int
    confidence: float
    rejected: int
    followed: int
    next_stood: int


@dataclass(slots=True)
class ShapeCounts:
    """Corrections and repairs of a workload at a tier; see ``log_shapes.sql``."""

    corrected: int = 0
    repaired: int = 0
    stood: int = 0
    repair_usd: float = 0.0
    climbs: int = 0
    """Calls of the workload at other tiers, which cost ``climb_usd`` together."""
    climb_usd: float = 0.0

    @property
    def saved_usd(self) -> float | None:
        """What the climbs would have cost that the repairs spared, less what these cost; None where none is known."""
        return self.stood * self.climb_usd / self.climbs - self.repair_usd if self.climbs and self.repaired else None

    def as_dict(self) -> dict[str, Any]:
        """For JSON. ``pays`` is None where no climb of the workload is known."""
        saved_usd = self.saved_usd
        return {
            "corrected": self.corrected,
            "repaired": self.repaired,
            "stood": self.stood,
            "repair_usd": round(self.repair_usd, 9),
            "climb_usd": round(self.climb_usd / self.climbs, 9) if self.climbs else None,
            "saved_usd": None if saved_usd is None else round(saved_usd, 9),
            "pays": None if saved_usd is None else saved_usd > 0,
        }


DIGITS: Final = 4
"""Of shares, in what a program reads."""


@dataclass(slots=True)
class QueryCounts:
    """Queries that have something in common, and what became of them."""

    queries: int = 0
    answered: int = 0
    escalated: int = 0
    stood: int = 0
    """Answered by the first tier, and accepted by the judge."""
    doubtful: int = 0
    """Answered by the best answer there was."""
    open: int = 0
    cost_usd: float = 0.0

    def add(self, cell: RouteCell) -> None:
        """Counts ``cell`` in."""
        self.queries += cell.queries
        self.answered += cell.answered
        self.escalated += cell.escalated
        self.stood += cell.stood
        self.doubtful += cell.doubtful
        self.open += cell.open
        self.cost_usd += cell.cost_usd

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the rate of escalation and its 95 % interval."""
        rate = self.escalated / self.queries if self.queries else 0.0
        return {
            "queries": self.queries,
            "answered": self.answered,
            "stood": self.stood,
            "escalated": self.escalated,
            "escalation_rate": round(rate, DIGITS),
            "escalation_interval": [round(bound, DIGITS) for bound in wilson(rate, self.queries)],
            "doubtful": self.doubtful,
            "open": self.open,
            "cost_usd": round(self.cost_usd, 9),
        }


@dataclass(slots=True)
class LabelStats:
    """Labels that have something in common."""

    labels: int = 0
    grade: float = 0.0

    def add(self, labels: int, grade: float) -> None:
        """Counts in so many labels; ``grade`` is their sum."""
        self.labels += labels
        self.grade += grade

    def as_dict(self) -> dict[str, Any]:
        """For JSON, with the 95 % interval."""
        right = self.grade / self.labels
        return {
            "labels": self.labels,
            "right": round(right, DIGITS),
            "interval": [round(bound, DIGITS) for bound in wilson(right, self.labels)],
        }


@dataclass(slots=True)
class Verdicts:
    """The judge's verdicts of one source and tenth of confidence, and what can be held against them."""

    judged: int = 0
    confidence: float = 0.0
    rejected: int = 0
    followed: int = 0
    next_stood: int = 0
    compared: int = 0
    agreed: int = 0
    """The answer said the same as the one that was taken in the end."""
    labels: int = 0
    grade: float = 0.0
    """Sum of the labels, each 0 wrong to 1 right."""
    labelled_confidence: float = 0.0


@dataclass(slots=True)
class LogStats:
    """Counts of everything, added up batch by batch."""

    batches: int = 0
    simulated: int = 0
    purged: int = 0
    other_fleet: int = 0
    """Batches that were submitted under another fleet file than the one that prices them now."""
    cost_usd: float = 0.0
    router_cost_usd: float = 0.0
    baseline_usd: float = 0.0
    routed: QueryCounts = field(default_factory=QueryCounts)
    by_stage: dict[str, QueryCounts] = field(default_factory=lambda: defaultdict(QueryCounts))
    by_tier: dict[str, QueryCounts] = field(default_factory=lambda: defaultdict(QueryCounts))
    by_confidence: dict[tuple[str, int], QueryCounts] = field(default_factory=lambda: defaultdict(QueryCounts))
    stage_tiers: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    answered_by: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    weights: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))
    verdicts: dict[tuple[str, int | None], Verdicts] = field(default_factory=lambda: defaultdict(Verdicts))
    shapes: dict[tuple[str, str], ShapeCounts] = field(default_factory=lambda: defaultdict(ShapeCounts))
    """By workload and tier."""
    graded: dict[tuple[str, str], LabelStats] = field(default_factory=lambda: defaultdict(LabelStats))
    """Labelled answers that stand, by (``stages``, …), (``tiers``, …) and (``accepted``, yes or no)."""

    def add_route(self, cell: RouteCell) -> None:
        """Counts ``cell`` in."""
        self.routed.add(cell)
        self.by_stage[cell.stage].add(cell)
        self.by_tier[cell.tier].add(cell)
        self.stage_tiers[cell.stage][cell.tier] += cell.queries
        if cell.tenth is not None:
            self.by_confidence[cell.stage, cell.tenth].add(cell)
        if cell.version is not None:
            self.versions[cell.version] += cell.queries
        if cell.answer_tier is not None:
            self.answered_by[cell.answer_tier] += cell.answered
        self.weights[cell.tier][0] += cell.weight
        self.weights[cell.tier][1] += cell.stood_weight

    def add_verdicts(self, cell: JudgeCell) -> None:
        """Counts ``cell`` in."""
        held = self.verdicts[cell.source, cell.tenth]
        held.judged += cell.judged
        held.confidence += cell.confidence
        held.rejected += cell.rejected
        held.followed += cell.followed
        held.next_stood += cell.next_stood

    def add_shapes(self, workload: str, tier: str, counts: ShapeCounts) -> None:
        """Counts ``counts`` in."""
        held = self.shapes[workload, tier]
        for part in fields(ShapeCounts):
            setattr(held, part.name, getattr(held, part.name) + getattr(counts, part.name))

    def add_pair(self, source: str, confidence: float, *, agreed: bool) -> None:
        """An answer that was not trusted, and whether the one that was taken in the end says the same."""
        held = self.verdicts[source, min(max(int(confidence * 10), 0), 9)]
        held.compared += 1
        held.agreed += agreed

    def add_labels(self, stage: str, tier: str, *, labels: int, grade: float, accepted: bool) -> None:
        """Labelled answers that stand, of queries that ``stage`` sent to ``tier`` first; ``grade`` is their sum."""
        for key in (("all", "all"), ("stages", stage), ("tiers", tier), ("accepted", "yes" if accepted else "no")):
            self.graded[key].add(labels, grade)

    def add_graded_verdicts(self, source: str, tenth: int, *, labels: int, grade: float, confidence: float) -> None:
        """Labelled answers with a confidence; ``grade`` and ``confidence`` are their sums."""
        held = self.verdicts[source, tenth]
        held.labels += labels
        held.grade += grade
        held.labelled_confidence += confidence


def explored(tally: LogStats) -> dict[str, Any] | None:
    """Per tier: what share would have stood, had every query gone there first (inverse propensity, normalized)."""
    figures = {
        tier: {"stands": round(stood / weight, DIGITS), "weight": round(weight, 1)}
        for tier, (weight, stood) in sorted(tally.weights.items())
        if weight > 0
    }
    return figures or None


def labelled(tally: LogStats) -> dict[str, Any] | None:
    """How right the labelled answers are, and how far each source of confidence is off (ECE); None without any."""
    whole = tally.graded.get(("all", "all"))
    if whole is None:
        return None
    figures: dict[str, Any] = whole.as_dict() | {"stages": {}, "tiers": {}, "accepted": {}, "ece": {}}
    for (kind, name), held in sorted(tally.graded.items()):
        if kind != "all":
            figures[kind][name] = held.as_dict()
    for source in sorted({source for (source, _), held in tally.verdicts.items() if held.labels}):
        bins = [held for (named, _), held in tally.verdicts.items() if named == source and held.labels]
        off = sum(abs(held.labelled_confidence - held.grade) for held in bins)
        figures["ece"][source] = round(off / sum(held.labels for held in bins), DIGITS)
    return figures
