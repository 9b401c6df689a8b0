"""What has been read of a log so far."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from evaluation.log.cells import JudgeCell, RouteCell
from evaluation.log.count import Count
from evaluation.log.grades import Graded, Verdicts


@dataclass(slots=True)
class Tally:
    """Counts of everything, added up batch by batch."""

    batches: int = 0
    simulated: int = 0
    purged: int = 0
    other_fleet: int = 0
    """Batches that were submitted under another fleet file than the one that prices them now."""
    cost_usd: float = 0.0
    router_cost_usd: float = 0.0
    baseline_usd: float = 0.0
    routed: Count = field(default_factory=Count)
    by_stage: dict[str, Count] = field(default_factory=lambda: defaultdict(Count))
    by_tier: dict[str, Count] = field(default_factory=lambda: defaultdict(Count))
    by_confidence: dict[tuple[str, int], Count] = field(default_factory=lambda: defaultdict(Count))
    stage_tiers: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    answered_by: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    weights: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0.0, 0.0]))
    verdicts: dict[tuple[str, int | None], Verdicts] = field(default_factory=lambda: defaultdict(Verdicts))
    graded: dict[tuple[str, str], Graded] = field(default_factory=lambda: defaultdict(Graded))
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
        """Labelled answers whose confidence was told; ``grade`` and ``confidence`` are their sums."""
        held = self.verdicts[source, tenth]
        held.labels += labels
        held.grade += grade
        held.labelled_confidence += confidence
