"""Past and running work, on which forecasts are based."""

import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.reports import run_report
from db.reports.batch_progress import find_batch
from db.reports.batch_stats import costs_by_router
from db.worker_registry import WorkerRegistry
from routing.answer_lengths import AnswerLengths, LengthGroup, LengthRecord
from routing.fleet import Fleet
from routing.forecast.forecast_types import CallLatency, ForecastHistory, GradeRecord, PolicyCost, QueueLoad
from routing.outcome import Usage
from routing.price_list import ListedModel, PriceList
from routing.reason import REJECTS_NOTHING

MOST_UNSUMMED: Final = 100_000
"""Queries of batches that the feeder has not summed, whose calls a forecast reads all, the newest batches first."""

BATCHES: Final = 20
QUERIES: Final = 3000
"""Maximum sampled queries over all batches: enough for a mean per batch, and read quickly even if batches are large."""

NO_FILE: Final = frozenset({"stdin", "api", "celery"})
"""Sources that say nothing about a batch's content, so that two batches from them need not be alike."""

LEAST_PROMPT_RATIO: Final = 0.1
"""The lowest ratio of a prompt's cost: that of a prompt that was cached as a whole."""

MOST_LOST: Final = 0.05
"""Maximum share of a batch's cost that is not confirmed, for the batch to show what its policy costs: an outage shows
that of lost calls, each counted at its maximum."""

ALIKE: Final = 10
"""Maximum factor between the sizes of two batches with comparable times."""


async def load_history(
    engine: AsyncEngine,
    fleet: Fleet,
    *,
    tenant: str,
    total: int,
    source: str = "",
    floor: float | None = None,
    embeds: bool = False,
) -> ForecastHistory:
    """What is known from the newest ended batches of ``fleet``, first the tenant's, for one of ``total`` queries.

    Batches of another fleet with the same models and prices count as well.

    What pilots and policies cost is read for a batch with a quality ``floor``. One that ``embeds`` learns from batches
    of embeddings alone, the others from the rest.

    Lengths of answers are the tenant's own: with them the names of workloads are stored with its batch, and shown.
    Where the tenant has batches of a file named as ``source``, those alone say how long such answers are.
    """
    batches = await run_report(
        engine,
        "forecast_batches",
        tenant=tenant,
        fleet=fleet.name,
        price_list=PriceList.of(fleet).digest,
        simulated=fleet.simulated,
        embeds=embeds,
        batches=BATCHES,
        queries=QUERIES,
    )
    plans = {row.id: row.plan or {} for row in batches}
    own = {row.id for row in batches if row.tenant == tenant}
    if not plans:
        return ForecastHistory()
    sample = {"batch_ids": list(plans), "query_ids": [id_ for row in batches for id_ in row.sample]}
    verdicts = await run_report(engine, "forecast_verdicts", **sample, beside=sorted(REJECTS_NOTHING))
    rows = await run_report(engine, "forecast_calls", **sample)
    alike = {row.id for row in batches if row.source == source} if source not in NO_FILE else set()
    lengths: dict[LengthGroup, list[LengthRecord]] = defaultdict(list)
    repeated: dict[LengthGroup, list[LengthRecord]] = defaultdict(list)
    for row in rows:
        if embeds or row.batch_id not in own or not row.fair_answers:  # vectors have no length
            continue
        group = LengthGroup(row.tier, row.workload, row.shape)
        record = LengthRecord(row.text_tokens, row.reasoning_tokens, row.fair_answers)
        lengths[group].append(record)
        if row.batch_id in alike:
            repeated[group].append(record)
    return ForecastHistory(
        verdicts={row.tier: (row.judged, row.passed) for row in verdicts},
        latencies={tier: _latency(some) for tier, some in _grouped(rows, lambda row: row.tier).items()},
        lengths=AnswerLengths(lengths | repeated, repeated=repeated),
        prompt_ratios=_prompt_ratios(rows, {row.id: row for row in batches}, fleet),
        policy_costs=await _policy_costs(
            engine, fleet, [row for row in batches if row.id in own], rows, alike, floor=floor
        ),
        grades={} if floor is None else await _grades(engine, fleet, [row for row in batches if row.id in own]),
        time_ratios={
            has_pilot: [
                row.wall_s / estimated_s
                for row in batches
                if (estimated_s := plans[row.id].get("estimated_s"))
                and total / ALIKE <= row.total <= total * ALIKE
                and bool(plans[row.id].get("pilot")) is has_pilot
                and all(tier.get("measured_calls") for tier in plans[row.id]["tiers"].values())
            ]
            for has_pilot in (False, True)
        },
    )


async def _policy_costs(
    engine: AsyncEngine,
    fleet: Fleet,
    batches: Sequence[Row[Any]],
    calls: Sequence[Row[Any]],
    alike: Set[int],
    *,
    floor: float | None,
) -> Sequence[PolicyCost]:
    """Of those of ``batches`` whose pilot decided on answers at today's prices, whose policy no budget cut short, and
    of whose cost at most `MOST_LOST` is not confirmed.

    ``calls`` are rows of ``forecast_calls``, ``alike`` the batches of the same file.
    """
    kept = [row for row in batches if row.has_policy and all(_is_price_kept(row, tier, fleet) for tier in fleet.ladder)]
    if not kept or floor is None:
        return []
    ratios: dict[int, float] = {}
    left = MOST_UNSUMMED
    for row in kept:
        if row.is_summed:
            ratio = row.rest_cost_ratio
        elif row.total <= left:
            left -= row.total
            ratio = await _rest_cost_ratio(engine, row)
        else:
            continue
        if ratio:
            ratios[row.id] = ratio
    summed = [row for row in kept if row.id in ratios]
    query_ids = [id_ for row in summed for id_ in row.sample]
    sample = {"batch_ids": [row.id for row in summed], "query_ids": query_ids, "lost": MOST_LOST}
    cut = {row.batch_id for row in await run_report(engine, "forecast_cut_batches", **sample)}
    workloads: dict[int, set[str]] = defaultdict(set)
    for call in calls:
        workloads[call.batch_id].add(call.workload)
    return [
        PolicyCost(
            ratios[row.id],
            is_same_floor=row.floor == floor,
            is_same_file=row.id in alike,
            workloads=frozenset(workloads[row.id] - {""}),
        )
        for row in summed
        if row.id not in cut
    ]


async def _rest_cost_ratio(engine: AsyncEngine, row: Row[Any]) -> float | None:
    """Return the cost of a batch's queries beyond its pilot over their baseline, before the feeder has summed it: the
    feeder stops with the command that a batch is run by."""
    batch = await find_batch(engine, row.public_id)
    if batch is None:
        return None
    rest = [costs for costs in await costs_by_router(engine, batch) if costs["router"] != "pilot"]
    baseline_usd = sum(float(costs["baseline_usd"]) for costs in rest)
    return sum(float(costs["cost_usd"]) for costs in rest) / baseline_usd if baseline_usd else None


async def _grades(
    engine: AsyncEngine, fleet: Fleet, batches: Sequence[Row[Any]]
) -> Mapping[tuple[str, str], GradeRecord]:
    """By workload and shape: of those with a pilot."""
    piloted = [row for row in batches if row.floor is not None]
    if not piloted or not fleet.judges:
        return {}
    rows = await run_report(
        engine,
        "forecast_grades",
        batch_ids=[row.id for row in piloted],
        query_ids=[id_ for row in piloted for id_ in row.sample],
        judges=[model.name for model in fleet.judges],
    )
    return {
        (row.workload, row.shape): GradeRecord(row.queries, row.pairs, row.prompt_tokens, row.completion_tokens)
        for row in rows
    }


_Key = TypeVar("_Key", bound=Hashable)


def _grouped(rows: Sequence[Row[Any]], key: Callable[[Row[Any]], _Key]) -> Mapping[_Key, Sequence[Row[Any]]]:
    found: dict[_Key, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return found


def _mean(rows: Sequence[Row[Any]], column: str) -> float:
    """Over the answers behind ``rows``."""
    return float(sum(row.answers * getattr(row, column) for row in rows) / sum(row.answers for row in rows))


def _latency(rows: Sequence[Row[Any]]) -> CallLatency:
    """By least squares over all answers behind ``rows``, of whose groups the sums of squares are known."""
    mean_ms, mean_tokens = _mean(rows, "latency_ms"), _mean(rows, "completion_tokens")
    squares = products = 0.0
    for row in rows:
        apart = row.completion_tokens - mean_tokens
        squares += row.tokens_squared + row.answers * apart**2
        products += row.ms_by_tokens + row.answers * apart * (row.latency_ms - mean_ms)
    s_per_token = max(0.0, products / squares / 1000.0) if squares > 0 else 0.0
    return CallLatency(sum(row.answers for row in rows), mean_ms / 1000.0, mean_tokens, s_per_token)


def _prompt_ratios(
    rows: Sequence[Row[Any]], batches: Mapping[int, Row[Any]], fleet: Fleet
) -> Mapping[str, Sequence[float]]:
    """By tier: what is left of the cost of its calls without the answers, at its first model's price, over the plan.
    Calls at other prices do not count."""
    ratios: dict[str, list[float]] = defaultdict(list)
    for (batch_id, tier), some in _grouped(rows, lambda row: (row.batch_id, row.tier)).items():
        planned_usd = (batches[batch_id].plan or {}).get("tiers", {}).get(tier, {}).get("prompt_usd")
        if planned_usd and tier in fleet.tiers and _is_price_kept(batches[batch_id], tier, fleet):
            answer = Usage(completion_tokens=round(_mean(some, "completion_tokens")))
            prompt_usd = _mean(some, "cost_usd") - fleet.deployments(tier)[0].price.cost_usd(answer)
            ratios[tier].append(max(LEAST_PROMPT_RATIO, prompt_usd / planned_usd))
    return ratios


def _is_price_kept(batch: Row[Any], tier: str, fleet: Fleet) -> bool:
    """Whether the first model of ``tier`` costs today what it cost for ``batch``. No price of embeddings is stored."""
    model = fleet.deployments(tier)[0]
    if model.embeds:
        return True
    prices = PriceList.from_json(batch.price_list)
    return tier in prices.tiers and replace(prices.first(tier), version="") == replace(
        ListedModel.of(model.name, model.price, model=model.model, tier=tier), version=""
    )


async def load_queues(engine: AsyncEngine, fleet: Fleet, *, otherwise: Mapping[str, int]) -> QueueLoad:
    """Open queries per stage, and the slots of the workers that live; ``otherwise`` those where none does."""
    slots: dict[str, int] = defaultdict(int)
    for worker in await WorkerRegistry(engine).alive():
        for role in worker.role.split():
            if (tier := fleet.tiers.get(role)) is not None:
                slots[role] += tier.concurrency
    # What is held waits for money, not for us.
    return QueueLoad(
        slots={tier: slots.get(tier) or count for tier, count in otherwise.items()},
        open=await _open_by_stage(engine),
    )


_LONG_S: Final = 0.2
_OPEN_REST: Final = 10.0
"""A count of the open queries of all tenants that took longer than `_LONG_S` serves this many times as long."""
_counted_open: dict[URL, tuple[float, Mapping[str, int]]] = {}
"""By database: until when, on the monotonic clock, the last such count serves. Each dry run has a loop of its own."""


async def _open_by_stage(engine: AsyncEngine) -> Mapping[str, int]:
    began = time.monotonic()
    until, counted = _counted_open.get(engine.url, (0.0, {}))
    if began < until:
        return counted
    counted = {row.stage: row.ready + row.queued + row.running for row in await run_report(engine, "queue_depths")}
    ended = time.monotonic()
    _counted_open.clear()
    if ended - began > _LONG_S:
        _counted_open[engine.url] = ended + _OPEN_REST * (ended - began), counted
    return counted
