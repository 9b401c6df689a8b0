"""The whole account of a batch, as ``pointsman report`` shows it: one statement of db/reports/sql/ per section."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.audit_seals import AuditReport, verify
from db.reports import run_report
from db.reports.batch_progress import Batch
from db.reports.batch_stats import BatchFigures, TierAlone, batch_figures, each_tier_alone
from db.reports.forecast_vs_actual import forecast_vs_actual
from db.rows import from_row, usd
from routing.model_name import plain_name
from routing.price_list import ListedModel, PriceList
from routing.reason import REJECTS_NOTHING

SLOTS: Final = 48
"""How many equal slots a batch's time is divided into, for the chart of the providers' health."""

TEXT_CHARS: Final = 600
"""Maximum characters of a prompt that are shown if texts are requested."""

_AT_RANDOM: Final = "at random, with equal shares"
_BLINDLY: Final = "the same shares, at random"
_TINY: Final = 1e-9

BINS_PER_OCTAVE: Final = 4
"""Bins of latencies per doubling, as in batch_latencies.sql."""


@dataclass(frozen=True, slots=True)
class QueryFlow:
    """The number of queries with this path. Tiers and ``router`` are None if a query has not reached them."""

    router: str | None
    first_tier: str | None
    last_tier: str | None
    escalated: bool
    state: str
    accepted: bool | None
    queries: int

    @property
    def outcome(self) -> str:
        """``accepted``, ``best available``, ``open``, or the state in which it ended."""
        if self.state == "done":
            return "accepted" if self.accepted is not False else "best available"
        return self.state if self.state in ("failed", "dead", "cancelled", "expired") else "open"


@dataclass(frozen=True, slots=True)
class LatencyBin:
    """Complete calls of a tier that took ``from_ms`` to ``to_ms``."""

    tier: str
    from_ms: float
    to_ms: float
    calls: int


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """The calls of one deployment for a batch and purpose."""

    tier: str
    deployment: str
    provider: str
    model: str
    purpose: str
    calls: int
    ok: int
    rate_limited: int
    open_calls: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    cost_usd: float
    p95_ms: float | None
    cache_write_tokens: int
    """Tokens written to caches that last minutes, and to caches that last an hour."""
    reported_usd: float | None
    """The cost by the provider's figures, if there are any. ``computed_usd`` is our figure for the same calls."""
    computed_usd: float | None


@dataclass(frozen=True, slots=True)
class AnsweringModel:
    """Another model that answered at a deployment, as its answers name it; a snapshot of ``model`` is none."""

    deployment: str
    model: str
    answered_by: str
    answers: int


@dataclass(frozen=True, slots=True)
class HealthSlot:
    """The calls of a provider in one of `SLOTS` equal parts of the batch's time; ``slot`` counts from 0."""

    provider: str
    slot: int
    calls: int
    ok: int
    open_calls: int

    @property
    def failed(self) -> int:
        """Calls that ended without an answer."""
        return self.calls - self.ok - self.open_calls


@dataclass(frozen=True, slots=True)
class RejectionFigures:
    """Why so many answers of a tier were rejected; an answer can have several reasons."""

    tier: str
    reason: str
    answers: int


@dataclass(frozen=True, slots=True)
class ConfidenceBin:
    """Answers whose confidence lies in a tenth, 0 to 9; None if there is none."""

    tier: str
    tenth: int | None
    answers: int
    unaccepted: int


@dataclass(frozen=True, slots=True)
class SourceFigures:
    """Answers of a tier that were judged by one source of confidence, and of how many it was calibrated."""

    tier: str
    source: str
    judged: int
    calibrated: int
    passed_on: int
    """Answers that were not accepted: the query climbed, or the answer was the best available."""


@dataclass(frozen=True, slots=True)
class LabelFigures:
    """Labeled answers of a tier: the final ones, or the rejected ones. ``grade`` is the mean, 0 to 1."""

    tier: str
    stood: bool
    labels: int
    grade: float


@dataclass(frozen=True, slots=True)
class BaselineFigures:
    """The cost of another policy for the same answers."""

    name: str
    cost_usd: float


@dataclass(frozen=True, slots=True)
class ChartPoint:
    """The cost of a policy, and its quality: the share of answers that the router expects to be good."""

    name: str
    cost_usd: float
    well: float


@dataclass(frozen=True, slots=True)
class CostQualityChart:
    """The batch and its controls by one yardstick, over the answered queries of which the router logged what it
    expected of every rung. What the judge found counts for nothing here, so the batch has no advantage by it."""

    queries: int
    batch: ChartPoint
    alone: tuple[ChartPoint, ...]
    """The expected cost and quality of each rung alone, from the bottom."""
    mixed: tuple[ChartPoint, ...]
    """The expected cost and quality of policies that do not look at the query."""


@dataclass(frozen=True, slots=True)
class QueryFigures:
    """A query that the report lists. ``text`` is the end of its prompt, if it was requested."""

    query_id: int
    custom_id: str
    state: str
    tier: str | None
    model: str | None
    confidence: float | None
    accepted: bool | None
    escalations: int
    calls: int
    cost_usd: float
    reasons: tuple[str, ...]
    text: str | None


@dataclass(frozen=True, slots=True)
class BatchReport:
    """All contents of a batch's report."""

    figures: BatchFigures
    made_at: datetime
    fleet: str
    ladder: tuple[str, ...]
    tiers: tuple[str, ...]
    routes: tuple[QueryFlow, ...]
    latencies: tuple[LatencyBin, ...]
    models: tuple[ModelFigures, ...]
    other_models: tuple[AnsweringModel, ...]
    health: tuple[HealthSlot, ...]
    health_began: datetime | None
    health_took_s: float
    rejections: tuple[RejectionFigures, ...]
    confidences: tuple[ConfidenceBin, ...]
    sources: tuple[SourceFigures, ...]
    mean_confidence: float | None
    """The mean of the judge's confidence, over answers that have one."""
    controls: tuple[BaselineFigures, ...]
    picture: CostQualityChart | None
    """The router's expectations. None if it logged none, for example because the gate decided everything."""
    most_expensive: tuple[QueryFigures, ...]
    least_confident: tuple[QueryFigures, ...]
    labels: tuple[LabelFigures, ...]
    plan: Mapping[str, Any] | None
    """The prediction of a dry run or the submission, compared with the outcome."""
    audit: AuditReport | None
    """The check of the audit log. None if it was not requested."""


def labelled_right(labels: Sequence[LabelFigures]) -> tuple[int, float] | None:
    """Return how many final answers are labeled, and their mean grade. None if none is labeled."""
    stood = [label for label in labels if label.stood]
    count = sum(label.labels for label in stood)
    return (count, sum(label.labels * label.grade for label in stood) / count) if count else None


async def load_batch_report(
    engine: AsyncEngine,
    batch: Batch,
    *,
    now: datetime,
    baseline: ListedModel | None = None,
    rows: int = 10,
    with_text: bool = False,
    audited: bool = True,
) -> BatchReport:
    """The account of ``batch`` at ``now``. ``rows`` is how many queries of note are listed; prompts' text only
    ``with_text``. ``baseline`` is the second baseline, instead of the fleet's. ``audited`` holds every decision against
    its seal, which reads all of them."""

    async def answer(name: str, **params: object) -> Sequence[Row[Any]]:
        return await run_report(engine, name, batch_id=batch.id, **params)

    figures = await batch_figures(engine, batch, baseline=baseline)
    prices = batch.price_list
    health = await answer("batch_health", slots=SLOTS)
    confidences = await answer("batch_confidences")
    most_expensive = await answer("batch_most_expensive", rows=rows, with_text=with_text)
    least_confident = await answer("batch_least_confident", rows=rows, with_text=with_text)
    listed = [row.query_id for row in (*most_expensive, *least_confident)]
    reasons = {row.query_id: tuple(row.reasons) for row in await run_report(engine, "batch_reasons", query_ids=listed)}
    priced = await each_tier_alone(engine, batch)
    return BatchReport(
        figures=figures,
        made_at=now,
        fleet=batch.fleet,
        ladder=prices.ladder,
        tiers=prices.tiers,
        routes=tuple(from_row(QueryFlow, row) for row in await answer("batch_routes")),
        latencies=tuple(_latency(row) for row in await answer("batch_latencies")),
        models=tuple(from_row(ModelFigures, row) for row in await answer("batch_models")),
        other_models=tuple(
            from_row(AnsweringModel, row)
            for row in await answer("batch_other_models")
            if plain_name(row.answered_by) != plain_name(row.model)
        ),
        health=tuple(from_row(HealthSlot, row) for row in health),
        health_began=min((row.began for row in health), default=None),
        health_took_s=health[0].took_s if health else 0.0,
        rejections=tuple(
            from_row(RejectionFigures, row)
            for row in await answer("batch_rejections", beside=sorted(REJECTS_NOTHING), rows=20)
        ),
        confidences=tuple(from_row(ConfidenceBin, row) for row in confidences),
        sources=tuple(from_row(SourceFigures, row) for row in await answer("batch_sources")),
        mean_confidence=_mean_confidence(confidences),
        controls=_controls(priced, figures, prices),
        picture=_picture(priced, prices),
        most_expensive=tuple(_query(row, reasons) for row in most_expensive),
        least_confident=tuple(_query(row, reasons) for row in least_confident),
        labels=tuple(from_row(LabelFigures, row) for row in await answer("batch_labels")),
        plan=forecast_vs_actual(figures),
        audit=await verify(engine, batch.id) if audited else None,
    )


def _controls(rows: Mapping[str, TierAlone], figures: BatchFigures, prices: PriceList) -> tuple[BaselineFigures, ...]:
    cost = {tier: row.cost_usd for tier, row in rows.items()}
    alone = [tier for tier in prices.ladder if tier in cost]
    if not alone:
        return ()
    controls = [BaselineFigures(f"always {tier}", usd(cost[tier])) for tier in alone]
    if (second := figures.second_baseline) is not None:
        controls.append(BaselineFigures(f"always {second.model}", second.cost_usd))
    controls.append(BaselineFigures(_AT_RANDOM, usd(sum(cost[tier] for tier in alone) / len(alone))))
    answered = {tier.tier: tier.answered for tier in figures.tiers if tier.answered}
    total = sum(answered.values())
    if total and answered.keys() <= cost.keys():
        controls.append(
            BaselineFigures(_BLINDLY, usd(sum(cost[tier] * count for tier, count in answered.items()) / total))
        )
    return tuple(controls)


def _picture(rows: Mapping[str, TierAlone], prices: PriceList) -> CostQualityChart | None:
    if not rows or set(prices.ladder) - rows.keys():
        return None
    alone = [rows[tier] for tier in prices.ladder]
    measured = alone[0].measured
    if not measured:
        return None
    shares = [row.measured_here / measured for row in alone]
    return CostQualityChart(
        queries=measured,
        batch=ChartPoint("this batch", usd(alone[0].spent_usd), alone[0].well_here),
        alone=tuple(ChartPoint(f"always {row.tier}", usd(row.measured_usd), row.well) for row in alone),
        mixed=(
            _mixed(_AT_RANDOM, [1 / len(alone)] * len(alone), alone),
            *([_mixed(_BLINDLY, shares, alone)] if abs(sum(shares) - 1) < _TINY else []),
        ),
    )


def _mixed(name: str, shares: Sequence[float], alone: Sequence[TierAlone]) -> ChartPoint:
    """What a policy comes to on average that sends each query to a rung by these chances."""
    return ChartPoint(
        name,
        usd(sum(share * row.measured_usd for share, row in zip(shares, alone, strict=True))),
        sum(share * row.well for share, row in zip(shares, alone, strict=True)),
    )


def _latency(row: Row[Any]) -> LatencyBin:
    return LatencyBin(row.tier, 2 ** (row.bin / BINS_PER_OCTAVE), 2 ** ((row.bin + 1) / BINS_PER_OCTAVE), row.calls)


def _mean_confidence(rows: Sequence[Row[Any]]) -> float | None:
    known = [row for row in rows if row.tenth is not None]
    answers = sum(row.answers for row in known)
    return sum(row.total for row in known) / answers if answers else None


def _query(row: Row[Any], reasons: Mapping[int, tuple[str, ...]]) -> QueryFigures:
    return from_row(QueryFigures, row, reasons=reasons.get(row.query_id, ()), text=_text(row.body))


def _text(body: str | None) -> str | None:
    """The last thing that the user says in a chat-completions body; "" once it is purged."""
    if body is None:
        return None
    messages = orjson.loads(body).get("messages") or []
    texts = [message.get("content") for message in messages if message.get("role") == "user"]
    content = texts[-1] if texts else ""
    if isinstance(content, list):
        content = " ".join(str(part.get("text") or f"[{part.get('type')}]") for part in content)
    text = str(content or "")
    return text if len(text) <= TEXT_CHARS else f"{text[:TEXT_CHARS]} …"
