"""Statistics of the routing log: counts, grades and cells of confidence.

Rows are those of the statement that each method names.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, Final

from evaluation.metrics.confidence_intervals import wilson


def _add(counts: Any, row: Any, names: Iterable[str]) -> None:
    """Adds the columns ``names`` of ``row`` to the counts of those names."""
    for name in names:
        setattr(counts, name, getattr(counts, name) + getattr(row, name))


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
"""Decimals of shares in the JSON output."""


@dataclass(slots=True)
class QueryCounts:
    """Queries that have something in common, and what became of them."""

    queries: int = 0
    answered: int = 0
    escalated: int = 0
    stood: int = 0
    """Answers of the first tier that the judge accepted."""
    unaccepted: int = 0
    """Answers that were delivered as the best available."""
    open: int = 0
    cost_usd: float = 0.0

    def add(self, row: Any) -> None:
        """Counts ``row`` of ``log_routes.sql`` in."""
        _add(self, row, (part.name for part in fields(self)))

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
            "doubtful": self.unaccepted,
            "open": self.open,
            "cost_usd": round(self.cost_usd, 9),
        }


@dataclass(slots=True)
class LabelStats:
    """Labels that have something in common."""

    labels: int = 0
    grade: float = 0.0

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
    """The judge's verdicts of one source and tenth of confidence, and what can be compared with them."""

    judged: int = 0
    confidence: float = 0.0
    rejected: int = 0
    followed: int = 0
    next_stood: int = 0
    compared: int = 0
    agreed: int = 0
    """How many of the compared answers said the same as the final answer."""
    labels: int = 0
    grade: float = 0.0
    """The sum of the labels, each from 0 (wrong) to 1 (right)."""
    labelled_confidence: float = 0.0


@dataclass(slots=True)
class LogStats:
    """Counts of everything, added up batch by batch."""

    batches: int = 0
    simulated: int = 0
    purged: int = 0
    other_fleet: int = 0
    """Batches that were submitted with a fleet file that is not the one that prices them now."""
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
    """The counts of answer shapes, by workload and tier."""
    graded: dict[tuple[str, str], LabelStats] = field(default_factory=lambda: defaultdict(LabelStats))
    """Labeled final answers, by (``stages``, …), (``tiers``, …) and (``accepted``, yes or no)."""

    def add_route(self, row: Any) -> None:
        """Counts ``row`` of ``log_routes.sql`` in."""
        self.routed.add(row)
        self.by_stage[row.stage].add(row)
        self.by_tier[row.tier].add(row)
        self.stage_tiers[row.stage][row.tier] += row.queries
        if row.tenth is not None:
            self.by_confidence[row.stage, row.tenth].add(row)
        if row.version is not None:
            self.versions[row.version] += row.queries
        if row.answer_tier is not None:
            self.answered_by[row.answer_tier] += row.answered
        self.weights[row.tier][0] += row.weight
        self.weights[row.tier][1] += row.stood_weight

    def add_verdicts(self, row: Any) -> None:
        """Counts ``row`` of ``log_judged.sql`` in."""
        names = ("judged", "confidence", "rejected", "followed", "next_stood")
        _add(self.verdicts[row.source, row.tenth], row, names)

    def add_shapes(self, row: Any) -> None:
        """Counts ``row`` of ``log_shapes.sql`` in."""
        _add(self.shapes[row.workload, row.tier], row, (part.name for part in fields(ShapeCounts)))

    def add_pair(self, source: str, confidence: float, *, agreed: bool) -> None:
        """An answer that was not trusted, and whether the one that was taken in the end says the same."""
        held = self.verdicts[source, min(max(int(confidence * 10), 0), 9)]
        held.compared += 1
        held.agreed += agreed

    def add_labels(self, row: Any) -> None:
        """Counts ``row`` of ``log_graded.sql`` in: labeled final answers, by stage and first tier."""
        keys = (
            ("all", "all"),
            ("stages", row.stage),
            ("tiers", row.tier),
            ("accepted", "yes" if row.accepted else "no"),
        )
        for key in keys:
            _add(self.graded[key], row, ("labels", "grade"))

    def add_graded_verdicts(self, row: Any) -> None:
        """Counts ``row`` of ``log_graded_verdicts.sql`` in: labeled answers with a confidence."""
        held = self.verdicts[row.source, row.tenth]
        _add(held, row, ("labels", "grade"))
        held.labelled_confidence += row.confidence


def explored(tally: LogStats) -> dict[str, Any] | None:
    """Per tier: what share would have stood, had every query gone there first (inverse propensity, normalized)."""
    figures = {
        tier: {"stands": round(stood / weight, DIGITS), "weight": round(weight, 1)}
        for tier, (weight, stood) in sorted(tally.weights.items())
        if weight > 0
    }
    return figures or None


def labelled(tally: LogStats) -> dict[str, Any] | None:
    """How right the labeled answers are, and how far each source of confidence is off (ECE); None without any."""
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
