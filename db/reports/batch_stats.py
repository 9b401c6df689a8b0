"""A batch in figures: what it cost, and what it saved."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Final

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.provider_batches import BATCH_CLOSED
from db.reports import run_report
from db.reports.batch_progress import Batch, Progress, batch_progress, find_batch
from db.reports.batch_quality import QualityFigures, batch_quality
from db.reports.length_ratios import LengthRatio, LengthSource, as_params, length_ratios
from db.rows import from_row, usd
from routing.answer_lengths import UNKNOWN_REASONING
from routing.forecast.forecast_types import interval
from routing.outcome import UNSENT
from routing.pilot import GOLD_KEY
from routing.price_list import ListedModel, columns
from routing.query import WORKLOAD_KEY

NO_BASELINE: Final = "no other tier has a model for these embeddings"
"""Why embeddings have no baseline."""

UNCONFIRMED: Final = "the maximum cost of calls without a confirmed cost"

LEAST_RANGE: Final = 0.01
"""Minimum width of a saving's range that is shown. Unconfirmed calls alone cause smaller ranges."""

MANY_TIMES: Final = 10.0
"""A call with a maximum of so many times its usual cost has a far too large cap: the prompt alone does not vary so."""

_TOP: Final = "top"
_SECOND: Final = "second"


@dataclass(frozen=True, slots=True)
class TierFigures:
    """The figures of one tier in a batch. Latencies are those of complete calls, in ms: 50th, 95th and 99th
    percentile."""

    tier: str
    queries: int
    """Queries that were sent to it, answered there or not."""
    answered: int
    unaccepted: int
    """Answers that the judge rejected and that were delivered as the best available."""
    confidence: float | None
    """The mean confidence of the tier's answers."""
    calls: int
    failed_calls: int
    cost_usd: float
    models: tuple[str, ...]
    latency_ms: tuple[float, float, float] | None


@dataclass(frozen=True, slots=True)
class LaneFigures:
    """What a batch bought in a lane below the list price."""

    lane: str
    calls: int
    open_calls: int
    provider_batches: int
    cost_usd: float
    list_usd: float
    """The cost of the same tokens at the list price."""

    @property
    def saving_usd(self) -> float:
        return round(self.list_usd - self.cost_usd, 9)


@dataclass(frozen=True, slots=True)
class UnansweredLane:
    """Provider batches at a deployment that gave no answer, for one cause."""

    deployment: str
    cause: str
    provider_batches: int
    queries: int


@dataclass(frozen=True, slots=True)
class CutOffAnswers:
    """Final answers of a deployment that are cut off."""

    deployment: str
    cap_field: str | None
    """The field of the lines with the cap that cut the answers off. None: the deployment's or its server's cap did."""
    answers: int
    example: str
    """The custom_id of one of them."""


@dataclass(frozen=True, slots=True)
class WorkloadFigures:
    """The figures of one workload in a batch."""

    workload: str
    """The name in their metadata, or that of their prompt's template; "" for queries without either."""
    queries: int
    answered: int
    escalated: int
    cost_usd: float
    labels: int
    grade: float | None
    """The mean grade of the labeled final answers, 0 to 1. None without labels."""


@dataclass(frozen=True, slots=True)
class FailedCalls:
    """Failed calls of one kind and cause at one deployment, and how calls for answers were retried."""

    deployment: str
    outcome: str
    """The kind of failure: a `FailureKind`."""
    status: int | None
    """The HTTP status. None without a response."""
    cause: str | None
    """The provider's code word, or the network's reason."""
    param: str | None
    """The field that was refused."""
    calls: int
    tried_again: int
    failed_over: int
    went_to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FailureReason:
    """A reason for which queries ended without an answer, and how often."""

    state: str
    reason: str
    queries: int
    example: str
    """The custom_id of one of them."""


@dataclass(frozen=True, slots=True)
class BaselineLengths:
    """How many answers of a baseline are counted by each source of completion tokens."""

    own: int = 0
    """Answers counted by the tokens of the baseline's own answer."""
    pairs: int = 0
    """Answers counted by the tokens of the delivered answer times a ratio: how much longer the baseline's answers to
    other queries of the batch are."""
    earlier_batches: int = 0
    """Answers counted by the baseline's answers to similar queries in earlier batches."""
    assumed: int = 0
    """Answers counted by the tokens of the delivered answer, because nothing is known about the baseline's own."""

    @property
    def words(self) -> str:
        """For people: ``answer lengths: 12 known, 126 assumed equal``."""
        names = {"own": "known", "pairs": "estimated from this batch", "earlier_batches": "from earlier batches"}
        counts = {**names, "assumed": "assumed equal"}
        known = (f"{getattr(self, name):,} {what}" for name, what in counts.items() if getattr(self, name))
        return "answer lengths: " + (", ".join(known) or "none")


@dataclass(frozen=True, slots=True)
class SecondBaseline:
    """The cost of the same answers at a model of the user's choice. The share is None if that cost is 0."""

    model: str
    cost_usd: float
    saving_usd: float
    saving_share: float | None
    lengths: BaselineLengths


@dataclass(frozen=True, slots=True)
class BatchFigures:
    """The whole account of a batch; ``batch_costs.sql`` defines the baseline."""

    progress: Progress
    top_tier: str
    baseline_model: str
    """The model whose price the baseline uses for queries that never reached the top tier."""
    tiers: tuple[TierFigures, ...]
    failures: tuple[FailureReason, ...]
    calls: int
    open_calls: int
    failed_calls: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
    router_cost_usd: float
    baseline_cost_usd: float
    latency_ms: tuple[float, float, float] | None
    plan: Mapping[str, Any] | None = None
    """What was predicted of it when it was submitted; `against.plan_against_actual` compares."""
    quality: QualityFigures | None = None
    """The quality figures. None without a quality floor."""
    workloads: tuple[WorkloadFigures, ...] = ()
    """The workloads, the most expensive first."""
    escalated_by: Mapping[str, int] = field(default_factory=dict)
    """Escalated queries by the code of the reason for their first climb, the most frequent first."""
    kinds: tuple[str, int] | None = None
    """A key of the pilot's metadata that could name the workloads, which have no names, and how many values it has."""
    baseline_lengths: BaselineLengths = BaselineLengths()
    unsent_calls: int = 0
    """How many failed calls never reached a model."""
    failing: tuple[FailedCalls, ...] = ()
    """The failed calls by deployment, kind and cause, the most frequent first."""
    second_baseline: SecondBaseline | None = None
    """The second baseline. None if neither the fleet nor the reader names one."""
    lanes: tuple[LaneFigures, ...] = ()
    """The lanes in which calls were made, without standard."""
    unanswered_lanes: tuple[UnansweredLane, ...] = ()
    cut_off: tuple[CutOffAnswers, ...] = ()
    over_budget: int = 0
    """Queries without an answer because a budget did not cover it."""
    lowered: int = 0
    """Queries that a budget moved to a cheaper tier than their policy chose, below the top tier."""
    followers: Mapping[str, int] = field(default_factory=dict)
    """By tier: queries that share its answer to another query with the same request. No baseline counts them."""
    not_paid_usd: float = 0.0
    """What the followers would have cost if each had been sent as well: the cost of the calls for the answers they
    share."""
    baseline_range_usd: tuple[float, float] | None = None
    """The lowest and highest baseline, because it counts estimated lengths. None if all lengths are
    the baseline's own."""
    baseline_is_guess: bool = False
    """Whether the top tier gave too few answers, here and before, to estimate the lengths of others. The range allows
    for it."""
    unconfirmed_usd: float = 0.0
    """The part of the cost that no provider has confirmed: the worst case of those calls."""
    unconfirmed_baseline_usd: float = 0.0
    """The part of the baseline that belongs to unconfirmed calls of the top tier."""
    unconfirmed_usual_usd: float = 0.0
    """The usual cost of the unconfirmed calls: the mean of complete calls of their model and purpose. At most the worst
    case, which also counts if the batch has no such call."""
    unconfirmed_usual_baseline_usd: float = 0.0
    """The same for those in the baseline."""
    unanswered_usd: float = 0.0
    """The part of the cost that belongs to queries without an answer, so far or for good."""
    unanswered_baseline_usd: float = 0.0
    """The part of the baseline that belongs to queries without an answer."""
    embed_calls: int = 0
    """Calls for embeddings. Calls and cost include them. A saving does not, because no other model gives the same
    vectors."""
    embed_cost_usd: float = 0.0
    held_s: float = 0.0
    """Seconds in which the batch only waited for a budget or an account, if it took longer than its forecast's range;
    else 0."""

    @property
    def expected_cost_usd(self) -> float:
        """The cost with unconfirmed calls at their usual cost, not at the maximum that the ledger holds."""
        return round(self.cost_usd - self.unconfirmed_usd + self.unconfirmed_usual_usd, 9)

    @property
    def expected_baseline_usd(self) -> float:
        """The baseline with unconfirmed calls at their usual cost."""
        return round(self.baseline_cost_usd - self.unconfirmed_baseline_usd + self.unconfirmed_usual_baseline_usd, 9)

    @property
    def expected_baseline_range_usd(self) -> tuple[float, float] | None:
        """The baseline's range, with unconfirmed calls billed or not; None where neither makes it uncertain by
        `LEAST_RANGE`."""
        low, high = self.baseline_range_usd or (self.baseline_cost_usd, self.baseline_cost_usd)
        low = round(low - self.unconfirmed_baseline_usd, 9)
        is_narrow = self.baseline_range_usd is None and high - low < LEAST_RANGE * high
        return None if is_narrow or high == low else (max(low, 0.0), high)

    @property
    def saving_usd(self) -> float:
        """Baseline less the cost of chat, both with unconfirmed calls at their usual cost; negative where that is more
        than the top tier alone would have cost."""
        return round(self.expected_baseline_usd - (self.expected_cost_usd - self.embed_cost_usd), 9)

    @property
    def saving_share(self) -> float | None:
        """The saving as a share of the baseline, None without a baseline or an answer."""
        baseline_usd = self.expected_baseline_usd
        return self.saving_usd / baseline_usd if baseline_usd and self.progress.done else None

    @property
    def unconfirmed_words(self) -> str:
        """For people: what `unconfirmed_usd` is, and the fix where the cap of the answers makes it many times too
        high."""
        if not 0 < self.unconfirmed_usual_usd < self.unconfirmed_usd:
            return UNCONFIRMED
        is_far_off = self.unconfirmed_usd >= MANY_TIMES * self.unconfirmed_usual_usd
        fix = "; fix: lower max_output_tokens of the models" if is_far_off else ""
        return f"{UNCONFIRMED} (usually ${self.unconfirmed_usual_usd:.6f}{fix})"

    @property
    def saving_range(self) -> tuple[float, float] | None:
        """Between which the share is, by the range of the baseline, with unconfirmed calls billed or not.

        None where the baseline has no range, and unconfirmed calls make less than `LEAST_RANGE` of a difference.
        """
        if self.saving_share is None:
            return None
        shares = [
            1.0 - (self.cost_usd - self.embed_cost_usd - not_billed * self.unconfirmed_usd) / baseline_usd
            for usd in self.baseline_range_usd or (self.baseline_cost_usd,)
            for not_billed in (0, 1)
            if (baseline_usd := usd - not_billed * self.unconfirmed_baseline_usd) > 0
        ]
        least = 0.0 if self.baseline_range_usd else LEAST_RANGE
        return (min(shares), max(shares)) if shares and max(shares) - min(shares) >= least else None

    @property
    def router_share_of_saving(self) -> float | None:
        """The routers' own cost as a share of what was saved, None where nothing was."""
        return self.router_cost_usd / self.saving_usd if self.saving_usd > 0 else None

    @property
    def pilot_share(self) -> float | None:
        """The pilot's share of the cost with its grading; None without a pilot, and of a batch that has no rest."""
        if self.quality is None or not self.cost_usd or self.progress.done <= self.quality.pilot_queries:
            return None
        return (self.quality.pilot_usd + self.quality.grade_usd) / self.cost_usd

    @property
    def unassigned_usd(self) -> float:
        """The cost of calls that belong to no query: grading, audits, and routing of several queries at once."""
        return round(self.cost_usd - sum(workload.cost_usd for workload in self.workloads), 9)

    @property
    def not_paid_queries(self) -> int:
        """Queries that have the answer of another."""
        return sum(self.followers.values())

    @property
    def answered_words(self) -> str:
        """For people: the queries that the baseline is of, ``every query`` or ``the 13 answered queries``."""
        done, total = self.progress.done, self.progress.total
        return "every query" if done == total else f"the {done:,} answered queries"


async def batch_figures(engine: AsyncEngine, batch: Batch, *, baseline: ListedModel | None = None) -> BatchFigures:
    """The account of a batch, at the prices of its own price list.

    ``baseline`` is the second baseline, instead of the price list's.
    """
    prices = batch.price_list
    second = baseline or prices.baseline
    baselines = _top_of(batch)
    if second is not None:
        baselines[_SECOND] = replace(second, tier=None)
    costs, ratios = await _costs(engine, batch, baselines)
    baseline_usd: dict[str, float] = defaultdict(float)
    for part in costs.baselines:
        baseline_usd[part["name"]] += part["usd"]
    unanswered = [part for part in costs.baselines if part["name"] == _TOP and part["tier"] is None]
    tier_rows = await run_report(engine, "batch_tiers", batch_id=batch.id)
    tiers = [_tier(row) for row in tier_rows]
    cut_off: Sequence[Row[Any]] = ()
    if any(row.cut_calls for row in tier_rows):
        cut_off = await run_report(engine, "batch_cut_off", batch_id=batch.id)
    order = prices.tiers
    failures = await run_report(engine, "batch_failures", batch_id=batch.id, rows=5)
    workloads = tuple(
        from_row(WorkloadFigures, row) for row in await run_report(engine, "batch_workloads", batch_id=batch.id)
    )
    quality = await batch_quality(engine, batch.id)
    progress = await batch_progress(engine, batch.id)
    climbs: Sequence[Row[Any]] = ()
    if progress.escalated:
        climbs = await run_report(engine, "batch_escalations", batch_id=batch.id)
    departed = await run_report(engine, "departures", batch_ids=[batch.id])
    not_paid = await run_report(engine, "batch_not_paid", batch_id=batch.id)
    held_s = 0.0
    planned = (batch.plan or {}).get("wall_s")
    if planned is not None and progress.wall_s > planned["high"]:
        held_s = (await run_report(engine, "batch_held_time", batch_id=batch.id))[0].held_s
    failing: Sequence[Row[Any]] = ()
    if costs.failed_calls:
        failing = await run_report(engine, "batch_failed_calls", batch_id=batch.id)
    if costs.embed_calls:
        second = None
    return from_row(
        BatchFigures,
        costs,
        progress=progress,
        escalated_by={row.code: row.queries for row in climbs},
        top_tier=prices.ladder[-1],
        baseline_model=prices.top.model,
        tiers=tuple(sorted(tiers, key=lambda t: (order.index(t.tier) if t.tier in order else len(order), t.tier))),
        failures=tuple(from_row(FailureReason, row) for row in failures),
        over_budget=failures[0].over_budget if failures else 0,
        lowered=departed[0].lowered if departed else 0,
        failing=tuple(from_row(FailedCalls, row) for row in failing),
        cut_off=tuple(from_row(CutOffAnswers, row) for row in cut_off),
        unanswered_lanes=tuple(
            from_row(UnansweredLane, row)
            for row in await run_report(engine, "batch_unanswered_lanes", batch_id=batch.id, closed=BATCH_CLOSED)
        ),
        workloads=workloads,
        kinds=await _kinds(engine, batch.id)
        if quality is not None and not any(w.workload for w in workloads)
        else None,
        baseline_cost_usd=usd(baseline_usd[_TOP]),
        unanswered_usd=usd(sum(part["unanswered_usd"] for part in unanswered)),
        unanswered_baseline_usd=usd(sum(part["usd"] for part in unanswered)),
        latency_ms=_percentiles(costs.latency_ms),
        plan=batch.plan,
        quality=quality,
        lanes=_by_lane(await run_report(engine, "batch_lanes", batch_id=batch.id)),
        followers={row.tier: row.queries for row in not_paid},
        not_paid_usd=usd(sum(row.usd for row in not_paid)),
        embed_cost_usd=usd(costs.embed_usd),
        held_s=held_s,
        baseline_lengths=_lengths(costs.baselines, ratios, _TOP),
        **_range(costs.baselines, ratios, prices.top),
        unconfirmed_usd=usd(costs.unconfirmed_usd),
        unconfirmed_baseline_usd=usd(sum(part["unconfirmed_usd"] for part in costs.baselines if part["name"] == _TOP)),
        unconfirmed_usual_usd=usd(costs.unconfirmed_usual_usd),
        unconfirmed_usual_baseline_usd=usd(sum(part["usual_usd"] for part in costs.baselines if part["name"] == _TOP)),
        second_baseline=None
        if second is None
        else _second(second, baseline_usd[_SECOND], usd(costs.cost_usd), _lengths(costs.baselines, ratios, _SECOND)),
    )


async def _kinds(engine: AsyncEngine, batch_id: int) -> tuple[str, int] | None:
    rows = await run_report(engine, "batch_kinds", batch_id=batch_id, but=[GOLD_KEY, WORKLOAD_KEY])
    return (rows[0].key, rows[0].values) if rows else None


async def top_ratios(engine: AsyncEngine, public_id: str) -> list[LengthRatio]:
    """Return the length ratio by which the baseline of a batch counts, for each tier that answered."""
    batch = await find_batch(engine, public_id)
    if batch is None:
        return []
    return await length_ratios(
        engine, batch.id, _top_of(batch), top=_TOP, ladder=batch.price_list.ladder, plan=batch.plan
    )


def _top_of(batch: Batch) -> dict[str, ListedModel]:
    return {_TOP: replace(batch.price_list.top, model="")}


async def _costs(
    engine: AsyncEngine, batch: Batch, baselines: Mapping[str, ListedModel], *, top: str = _TOP, noted: bool = False
) -> tuple[Row[Any], list[LengthRatio]]:
    """The row of ``batch_costs``, and the ratios that it counts by. ``top`` names the top tier among ``baselines``."""
    ladder = batch.price_list.ladder
    ratios = await length_ratios(engine, batch.id, baselines, top=top, ladder=ladder, plan=batch.plan)
    (costs,) = await run_report(
        engine,
        "batch_costs",
        batch_id=batch.id,
        names=list(baselines),
        tiers=[model.tier for model in baselines.values()],
        models=[model.model for model in baselines.values()],
        **columns(list(baselines.values())),
        **as_params(ratios),
        unsent=sorted(UNSENT),
        ladder=list(ladder),
        noted=noted,
    )
    return costs, ratios


async def costs_by_router(engine: AsyncEngine, batch: Batch) -> Sequence[Mapping[str, Any]]:
    """Answers, cost_usd and baseline_usd by workload, router, version and tier, as ``batch_costs.sql`` defines them."""
    costs, _ = await _costs(engine, batch, _top_of(batch), noted=True)
    return list(costs.routed)


@dataclass(frozen=True, slots=True)
class TierAlone:
    """What a batch had cost had one tier been asked alone; and what the router expected of it, over the
    ``measured`` queries for which it logged an expectation at every rung."""

    tier: str
    cost_usd: float
    measured: int
    measured_here: int
    """How many of the ``measured`` queries this tier answered."""
    measured_usd: float
    well: float
    """The mean probability that this tier answers well."""
    spent_usd: float
    """The actual cost of the ``measured`` queries."""
    well_here: float
    """The mean of ``well`` over the tiers that answered."""


async def each_tier_alone(engine: AsyncEngine, batch: Batch) -> dict[str, TierAlone]:
    """Return the figures by tier. Empty if nothing was called."""
    prices = batch.price_list
    baselines = {tier: replace(prices.first(tier), model="") for tier in prices.tiers}
    costs, _ = await _costs(engine, batch, baselines, top=prices.ladder[-1], noted=True)
    return {
        tier: _alone(tier, parts)
        for tier in baselines
        if (parts := [part for part in costs.baselines if part["name"] == tier])
    }


def _alone(tier: str, parts: Sequence[Mapping[str, Any]]) -> TierAlone:
    totals = {name: sum(part[name] for part in parts) for name in ("measured_usd", "spent_usd")}
    measured = sum(part["measured"] for part in parts)
    return TierAlone(
        tier=tier,
        cost_usd=sum(part["usd"] for part in parts),
        measured=measured,
        measured_here=sum(part["measured"] for part in parts if part["tier"] == tier),
        well=sum(part["well"] for part in parts) / max(measured, 1),
        well_here=sum(part["well_here"] for part in parts) / max(measured, 1),
        **totals,
    )


def _lengths(parts: Sequence[Mapping[str, Any]], ratios: Sequence[LengthRatio], name: str) -> BaselineLengths:
    """Of the baseline ``name``."""
    sources = {one.tier: one.source for one in ratios if one.baseline == name and one.workload is None}
    counts: Counter[str] = Counter()
    for part in parts:
        if part["name"] == name:
            pooled = sources.get(part["tier"], LengthSource.ASSUMED)
            source = LengthSource.PAIRS if part["by_workload"] else pooled
            counts["own" if part["is_own"] else source] += part["answers"]
    return BaselineLengths(**counts)


def _range(
    parts: Sequence[Mapping[str, Any]], ratios: Sequence[LengthRatio], top: ListedModel
) -> dict[str, tuple[float, float] | bool | None]:
    """Of the top tier's baseline: all answers of a tier are misjudged alike."""
    by_tier = {one.tier: one for one in ratios if one.baseline == _TOP and one.workload is None}
    estimated = [
        part for part in parts if part["name"] == _TOP and part["estimated_usd"] > 0 and part["tier"] in by_tier
    ]
    if not estimated:
        return {"baseline_range_usd": None, "baseline_is_guess": False}
    total_usd = sum(part["usd"] for part in parts if part["name"] == _TOP)
    spread_usd = sum(part["estimated_usd"] * by_tier[part["tier"]].spread for part in estimated)
    found = interval(total_usd, spread_usd / total_usd)
    guessed = sum(part["answers"] for part in estimated if by_tier[part["tier"]].is_guess)
    unknown_usd = guessed * UNKNOWN_REASONING * top.output_usd_per_mtok * top.multiplier / 1e6
    return {"baseline_range_usd": (usd(found.low), usd(found.high + unknown_usd)), "baseline_is_guess": guessed > 0}


def _by_lane(rows: Sequence[Row[Any]]) -> tuple[LaneFigures, ...]:
    """The sums of ``batch_lanes``."""
    return tuple(
        LaneFigures(
            lane,
            calls=sum(row.calls for row in some),
            open_calls=sum(row.open_calls for row in some),
            provider_batches=sum(row.provider_batch_id is not None for row in some),
            cost_usd=usd(sum(row.cost_usd for row in some)),
            list_usd=usd(sum(row.list_usd for row in some)),
        )
        for lane, group in groupby(rows, key=lambda row: str(row.lane))
        for some in [list(group)]
    )


def _second(model: ListedModel, baseline_usd: float, cost_usd: float, lengths: BaselineLengths) -> SecondBaseline:
    baseline_usd = usd(baseline_usd)
    saving_usd = round(baseline_usd - cost_usd, 9)
    share = saving_usd / baseline_usd if baseline_usd else None
    return SecondBaseline(model.model, baseline_usd, saving_usd, share, lengths)


def _tier(row: Row[Any]) -> TierFigures:
    return from_row(TierFigures, row, latency_ms=_percentiles(row.latency_ms))


def _percentiles(values: list[float] | None) -> tuple[float, float, float] | None:
    if not values or values[0] is None:
        return None
    p50, p95, p99 = values
    return round(p50, 1), round(p95, 1), round(p99, 1)
