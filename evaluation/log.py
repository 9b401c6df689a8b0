"""What production did, from its log: tier mix, escalations, cost, and how far the judge can be believed.

A log holds no truth: nobody says whether an answer was right. What it does hold is told with its
interval, and what it cannot tell is said in words.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from evaluation.share import wilson

STAGES: Final = ("pin", "gate", "classifier", "llm", "prior", "exploration", "budget", "none")
"""Who decided: ``prior`` where nobody was sure, ``budget`` where it had no room and lowered the tier."""

_DIGITS: Final = 4
_FEW: Final = 30


@dataclass(slots=True)
class Count:
    """Queries that have something in common, and what became of them."""

    queries: int = 0
    answered: int = 0
    escalated: int = 0
    stood: int = 0
    """Answered where they went first, and the judge was content."""
    doubtful: int = 0
    """Answered by the best that was to be had."""
    open: int = 0
    cost_usd: float = 0.0

    def add(self, cell: "RouteCell") -> None:
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
            "escalation_rate": round(rate, _DIGITS),
            "escalation_interval": [round(bound, _DIGITS) for bound in wilson(rate, self.queries)],
            "doubtful": self.doubtful,
            "open": self.open,
            "cost_usd": round(self.cost_usd, 9),
        }


@dataclass(frozen=True, slots=True)
class RouteCell:
    """Routed queries of one stage, tier, version and tenth of confidence; see ``db/reports/log_routes.sql``."""

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
    """Verdicts of one source and tenth of confidence; see ``db/reports/log_judged.sql``."""

    source: str
    tenth: int | None
    judged: int
    confidence: float
    rejected: int
    followed: int
    next_stood: int


@dataclass(slots=True)
class _Verdicts:
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
class _Graded:
    labels: int = 0
    grade: float = 0.0

    def add(self, labels: int, grade: float) -> None:
        self.labels += labels
        self.grade += grade

    def as_dict(self) -> dict[str, Any]:
        right = self.grade / self.labels
        return {
            "labels": self.labels,
            "right": round(right, _DIGITS),
            "interval": [round(bound, _DIGITS) for bound in wilson(right, self.labels)],
        }


@dataclass(slots=True)
class Log:
    """What has been read of a log so far."""

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
    verdicts: dict[tuple[str, int | None], _Verdicts] = field(default_factory=lambda: defaultdict(_Verdicts))

    graded: dict[tuple[str, str], _Graded] = field(default_factory=lambda: defaultdict(_Graded))
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

    def report(self, *, top: str, baseline_model: str) -> dict[str, Any]:
        """Everything, for JSON; ``words`` says it in sentences. ``top`` is the tier that the baseline is of."""
        return {
            "kind": "log",
            "n": self.routed.queries,
            "batches": self.batches,
            "simulated_batches": self.simulated,
            "routed": self.routed.as_dict(),
            "answered_by": dict(self.answered_by),
            "tiers": {tier: count.as_dict() for tier, count in sorted(self.by_tier.items())},
            "stages": {
                stage: self.by_stage[stage].as_dict() | {"tiers": dict(self.stage_tiers[stage])}
                for stage in STAGES
                if stage in self.by_stage
            },
            "versions": dict(self.versions),
            "confidence": [
                {"stage": stage, "from": tenth / 10, "to": (tenth + 1) / 10, **count.as_dict()}
                for (stage, tenth), count in sorted(self.by_confidence.items())
            ],
            "explored": self._explored(),
            "cost": {
                "usd": round(self.cost_usd, 9),
                "router_usd": round(self.router_cost_usd, 9),
                "all_large_usd": round(self.baseline_usd, 9),
                "share_of_all_large": _share(self.cost_usd, self.baseline_usd),
                "baseline": f"every answer from {baseline_model} ({top})",
            },
            "judge": self._judge(),
            "labels": self._labels(),
            "words": list(self._words(top)),
        }

    def _explored(self) -> dict[str, Any] | None:
        """Per tier: what share would have stood, had every query gone there first (inverse propensity, normalised)."""
        told = {
            tier: {"stands": round(stood / weight, _DIGITS), "weight": round(weight, 1)}
            for tier, (weight, stood) in sorted(self.weights.items())
            if weight > 0
        }
        return told or None

    def _labels(self) -> dict[str, Any] | None:
        """How right the labelled answers are, and how far each source of confidence is off (ECE); None without any."""
        whole = self.graded.get(("all", "all"))
        if whole is None:
            return None
        told: dict[str, Any] = whole.as_dict() | {"stages": {}, "tiers": {}, "accepted": {}, "ece": {}}
        for (kind, name), held in sorted(self.graded.items()):
            if kind != "all":
                told[kind][name] = held.as_dict()
        for source in sorted({source for (source, _), held in self.verdicts.items() if held.labels}):
            bins = [held for (named, _), held in self.verdicts.items() if named == source and held.labels]
            off = sum(abs(held.labelled_confidence - held.grade) for held in bins)
            told["ece"][source] = round(off / sum(held.labels for held in bins), _DIGITS)
        return told

    def _judge(self) -> list[dict[str, Any]]:
        rows = []
        for (source, tenth), held in sorted(self.verdicts.items(), key=lambda item: (item[0][0], item[0][1] or -1)):
            agreed = held.agreed / held.compared if held.compared else None
            rows.append(
                {
                    "source": source,
                    "from": None if tenth is None else tenth / 10,
                    "to": None if tenth is None else (tenth + 1) / 10,
                    "judged": held.judged,
                    "told": None if tenth is None else round(held.confidence / max(held.judged, 1), _DIGITS),
                    "rejected": held.rejected,
                    "followed": held.followed,
                    "next_stood": held.next_stood,
                    "compared": held.compared,
                    "agreed": held.agreed,
                    "labels": held.labels,
                    "right": round(held.grade / held.labels, _DIGITS) if held.labels else None,
                    "right_interval": [round(bound, _DIGITS) for bound in wilson(held.grade / held.labels, held.labels)]
                    if held.labels
                    else None,
                    "agreement": None if agreed is None else round(agreed, _DIGITS),
                    "agreement_interval": None
                    if agreed is None
                    else [round(bound, _DIGITS) for bound in wilson(agreed, held.compared)],
                }
            )
        return rows

    def _words(self, top: str) -> Iterator[str]:
        n = self.routed.queries
        if n == 0:
            yield "Nothing was routed there: the log holds no decision to evaluate."
            return
        mix = ", ".join(f"{tier} {_percent(count.queries, n)}" for tier, count in sorted(self.by_tier.items()))
        yield f"{n:,} queries of {self.batches:,} batches were routed: {mix}."
        if self.simulated:
            yield f"{self.simulated:,} of the batches were SIMULATED: their answers and confidences are made up."
        if self.routed.open:
            yield f"{self.routed.open:,} of them are still open, and count as neither escalated nor answered yet."
        yield f"{_percent(self.routed.escalated, n)} were escalated after the first answer ({_by_tier(self.by_tier)})."
        yield from self._confidence_words()
        if self.baseline_usd > 0:
            share = self.cost_usd / self.baseline_usd
            yield f"They cost ${self.cost_usd:.6f}, {share:.1%} of what all the answers had cost from {top} alone."
        if self.other_fleet:
            yield f"{self.other_fleet:,} batches ran under another fleet file; their baseline is at today's prices."
        yield from self._judge_words()
        yield from self._unknown()

    def _confidence_words(self) -> Iterator[str]:
        for stage in ("classifier", "llm"):
            low, high = Count(), Count()
            for (named, tenth), count in self.by_confidence.items():
                if named == stage:
                    chosen = high if tenth >= 9 else low if tenth < 7 else None
                    if chosen is not None:
                        chosen.queries += count.queries
                        chosen.escalated += count.escalated
            if low.queries and high.queries:
                few = "" if min(low.queries, high.queries) >= _FEW else " (few, so little to go by)"
                yield (
                    f"Where the {stage} was sure (0.9 and more) {_percent(high.escalated, high.queries)} were "
                    f"escalated, where it was not (below 0.7) {_percent(low.escalated, low.queries)}{few}."
                )

    def _judge_words(self) -> Iterator[str]:
        compared = sum(held.compared for held in self.verdicts.values())
        agreed = sum(held.agreed for held in self.verdicts.values())
        if compared:
            low, high = wilson(agreed / compared, compared)
            yield (
                f"Of {compared:,} answers that the judge did not trust, {_percent(agreed, compared)} said the same as "
                f"the answer that was taken in the end (95 %: {low:.1%} to {high:.1%}): escalated for nothing."
            )
        elif self.purged:
            yield "The texts of its answers were purged: whether a second answer said the same cannot be told any more."
        else:
            yield "No answer for which the confidence was too low has a second one beside it: nothing to compare."

    def _unknown(self) -> Iterator[str]:
        if (labels := self._labels()) is not None:
            low, high = labels["interval"]
            yield (
                f"{labels['labels']:,} answers that stand are labelled: {labels['right']:.1%} right (95 %: {low:.1%} "
                f"to {high:.1%}). It holds for the others as far as chance chose which to label."
            )
            for source, off in labels["ece"].items():
                yield f"The judge's confidence by {source} is off by {off:.3f} on average (ECE), on labelled answers."
        else:
            yield (
                "NOT known without labels (pointsman label): how many of the answers that were taken are right; "
                "agreement is no truth, and what the judge accepted was never asked twice."
            )
        if self._explored() is None:
            yield (
                "NOT known without exploration (router.exploration in the fleet): whether a cheaper tier would have "
                "done where a dearer one was asked."
            )


def _by_tier(counts: Mapping[str, Count]) -> str:
    told: Sequence[str] = [
        f"{tier} {_percent(count.escalated, count.queries)}" for tier, count in sorted(counts.items())
    ]
    return ", ".join(told)


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, _DIGITS) if whole > 0 else None
