"""Forecasts a batch from a sample of its lines, by the serving router, the prices and earlier batches."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from db.batch_writer import BatchSpec, endpoint_of
from db.reports.batch_warnings import pilot_warnings
from db.reports.forecast_history import load_history, load_queues
from endpoints.endpoint import Endpoint
from routing.budget.degradation import QueryBudget, fit_to_share
from routing.fleet import BudgetPolicy, Fleet
from routing.forecast.forecast import forecast
from routing.forecast.forecast_types import (
    ExpectedPilot,
    Forecast,
    ForecastHistory,
    QueueLoad,
    SkippedPilot,
    nothing,
)
from routing.pilot import GraderChoice
from routing.policy.decision import Predictor, decide
from routing.policy.routing_case import Decision, RoutingContext
from routing.query import Query, read_line
from settings import Settings
from submission.forecast_json import forecast_as_json
from submission.input_line import InputLine
from submission.reservoir_sample import ReservoirSample

log = structlog.get_logger()

DECIDED_AT_ONCE: Final = 50
"""The chunk size. The features of a thousand long prompts take 300 MB."""

SERVED_BYTES: Final = 1024**2
"""The limit of a sample in services, where a forecast takes half a second of CPU at most."""

SERVING_TTL_S: Final = 10.0
"""How long, in seconds, a loaded router is used for forecasts, because loading takes longer than a small forecast."""

FITS: Final = 5
SHRINK: Final = 0.99
"""How often a degraded forecast above the budget is repeated, and the factor on the share each time beyond the ratio of
the two."""

_serving: dict[tuple[str, str], tuple[Predictor | None, float]] = {}
"""Database and fleet → the classifier, and its expiry on the monotonic clock."""


@dataclass(slots=True)
class Forecaster:
    """Samples the lines of a batch and forecasts its cost, time and tiers. It writes and calls nothing."""

    settings: Settings
    fleet: Fleet
    engine: AsyncEngine | None
    """The source of history. None: the forecast uses no history."""
    spec: BatchSpec
    sample: ReservoirSample = field(default_factory=ReservoirSample)

    async def forecast(self) -> Forecast:
        """Return the forecast for the lines seen so far, at least one. Raises EvaluationError."""
        history, load = ForecastHistory(), QueueLoad(default_slots(self.fleet))
        if self.engine is not None:
            history = await load_history(
                self.engine,
                self.fleet,
                tenant=self.spec.tenant,
                total=self.sample.seen,
                source=self.spec.source,
                floor=None if self.spec.pilot is None else self.spec.pilot.floor,
                embeds=endpoint_of(self.sample.lines[0].options) is Endpoint.EMBEDDINGS,  # a file is for one endpoint
            )
            load = await load_queues(self.engine, self.fleet, otherwise=load.slots)
        predictor = await self._predictor()
        return await asyncio.to_thread(self._forecast, predictor, history, load)

    def warnings(self, plan: Mapping[str, Any] | None) -> list[str]:
        """Return what is wrong with the options for these lines and their forecast, each with its fix."""
        grader = self._grader_warning()
        return [*([grader] if grader else []), *pilot_warnings(plan, self.spec.cap_at(self.fleet))]

    def _grader_warning(self) -> str | None:
        pilot = self.spec.pilot
        if pilot is None or pilot.grader is not GraderChoice.EXACT or not self.sample.lines:
            return None
        free = sum(b'"expects"' not in (line.options or b"") for line in self.sample.lines)
        if 2 * free <= len(self.sample.lines):
            return None
        return (
            "--grader exact compares word for word. Two sentences hardly ever match, and each difference "
            "counts as a loss. fix: for answers of more than a few words use --grader judge, or omit --grader "
            "so that the answers decide"
        )

    async def plan(self) -> Mapping[str, Any] | None:
        """Return the forecast as stored with the batch, with its `warnings`. None if it fails."""
        from evaluation.data.dataset_errors import EvaluationError

        try:
            plan = forecast_as_json(await self.forecast())
            return plan | {"warnings": self.warnings(plan)}
        except EvaluationError as error:
            # A batch is accepted without a forecast; the workers may have the router.
            log.warning("forecast_failed", error=str(error))
        except Exception as error:
            # Likewise for a line that breaks the router on each try, and for a report that times out.
            log.warning("forecast_failed", error=type(error).__name__)
        return None

    async def _predictor(self) -> Predictor | None:
        """Return the serving classifier. It is imported late, because without a forecast neither numpy nor scipy is
        needed."""
        if "classifier" not in self.fleet.router.stages:
            return None
        from evaluation.models.artifact_cache import open_folder
        from evaluation.models.predictors import predictor_of
        from trained_routers.resolver import load_serving

        if self.engine is None:
            return predictor_of(open_folder(self.fleet.router.classifier))
        now, key = time.monotonic(), (str(self.engine.url), self.fleet.digest)
        cached = _serving.get(key)
        if cached is None or now >= cached[1]:
            serving = await load_serving(self.engine, self.fleet, self.settings.home / "routers")
            cached = _serving[key] = (serving.predictor, now + SERVING_TTL_S)
        return cached[0]

    def _forecast(self, predictor: Predictor | None, history: ForecastHistory, load: QueueLoad) -> Forecast:
        seen = self.sample.seen
        lines = self.sample.lines
        decisions = [
            decision
            for at in range(0, len(lines), DECIDED_AT_ONCE)
            for decision in self._decide(predictor, lines[at : at + DECIDED_AT_ONCE])
        ]
        affordable = [decision for decision in decisions if not decision.over_budget]
        if not affordable:
            return nothing(seen)
        count = len(affordable)
        total = max(count, round(seen * count / len(decisions)))
        pilot, too_small = self._pilot(affordable, total=total)
        result = None
        if pilot is not None:
            result = forecast(affordable, total=total, fleet=self.fleet, past=history, load=load, pilot=pilot)
        if result is None or result.cannot_pay:
            default = self._by_default(affordable, history, load, total=total)
            result = default if result is None else self._worth_it(result, default)
        return replace(result, over_cap=seen - total, too_small=too_small)

    def _worth_it(self, piloted: Forecast, default: Forecast) -> Forecast:
        """Return ``piloted`` if the user asks for that pilot, or if the ``default`` policy costs more, else ``default``
        with the pilot that it skips.

        This alone decides whether a batch skips its pilot. The decision is stored with the plan, which the pilot's task
        reads. ``piloted`` cannot pay.
        """
        from evaluation.quality_floor.certification import QualityTarget
        from evaluation.quality_floor.pilot_size import least_batch

        spec, rest, total, queries = self.spec.pilot, piloted.rest, piloted.total, piloted.pilot_queries
        default_usd = default.cost_usd.expected
        if spec is None or rest is None or spec.max_queries is not None or default_usd > piloted.hoped_usd:
            return piloted
        query_usd, rest_usd = piloted.pilot_usd / queries, (piloted.hoped_usd - piloted.pilot_usd) / (total - queries)
        saved_usd, more_usd = max(rest.alone_usd, default_usd) / total - rest_usd, query_usd - rest_usd
        target = QualityTarget(spec.floor, spec.confidence)
        enough = least_batch(target, saved_usd / more_usd) if more_usd > 0 else None
        skipped = SkippedPilot(
            queries=queries,
            cost_usd=piloted.pilot_usd,
            grade_cost_usd=piloted.grade_usd,
            hoped_by=piloted.hoped_by,
            hoped_usd=piloted.hoped_usd,
            top_usd=rest.alone_usd,
            default_usd=default_usd,
            pays_from=enough if enough is not None and enough > total else None,
        )
        return replace(default, skipped=skipped)

    def _by_default(
        self, decisions: Sequence[Decision], history: ForecastHistory, load: QueueLoad, *, total: int
    ) -> Forecast:
        """Return the forecast of ``decisions`` without a pilot. If the budget degrades, they are lowered as the route
        stage does.

        The route stage has less left for later queries because escalations also cost money, so the share is reduced
        until the budget pays for them.
        """
        cap_usd = self.spec.cap_at(self.fleet)
        if cap_usd is None or (self.spec.budget_policy or self.fleet.budgets.policy) is not BudgetPolicy.DEGRADE:
            return forecast(decisions, total=total, fleet=self.fleet, past=history, load=load)
        share_usd, tiers = cap_usd * len(decisions) / total, list[str]()
        for _ in range(FITS):
            fitted = fit_to_share(
                decisions, share_usd, RoutingContext(self.fleet), unspent_usd=cap_usd, lengths=history.lengths
            )
            lowered = [decision.tier for decision in fitted]
            if lowered == tiers:
                break  # no cheaper tier is left
            tiers, result = lowered, forecast(fitted, total=total, fleet=self.fleet, past=history, load=load)
            if result.cost_usd.expected <= cap_usd:
                break
            share_usd *= SHRINK * cap_usd / result.cost_usd.expected
        return result

    def _pilot(self, decisions: Sequence[Decision], *, total: int) -> tuple[ExpectedPilot | None, str]:
        """Return the pilot; or None, with the reason if the batch is too small for one.

        There is none without a quality floor, or if only one tier answers. A judge is assumed unless the lines state an
        expected answer.
        """
        spec = self.spec.pilot
        if spec is None or len(self.fleet.ladder) < 2:
            return None, ""
        from evaluation.graders.grader_choice import choose_grader
        from evaluation.graders.text_graders import GraderKind
        from evaluation.quality_floor.certification import QualityTarget
        from evaluation.quality_floor.pilot_size import LARGEST_SAMPLE, plan_pilot

        free = round(total * sum(decision.case.pin is None for decision in decisions) / len(decisions))
        most = min(free, LARGEST_SAMPLE, spec.max_queries or free)
        planned = plan_pilot(QualityTarget(spec.floor, spec.confidence), free, most=most)
        queries = planned.size or (most if spec.stops else 0)
        if not queries:
            return None, planned.reason
        expects = [decision.case.query.expects for decision in decisions]
        free_text = spec.grader is None and choose_grader((), expects=expects) is GraderKind.JUDGE
        judged = (free_text or spec.grader is GraderChoice.JUDGE) and self.fleet.judges
        return ExpectedPilot(queries, spec.stops, self.fleet.judges[0] if judged else None), ""

    def _decide(self, predictor: Predictor | None, lines: Sequence[InputLine]) -> list[Decision]:
        queries, budgets = zip(*map(_read, lines), strict=True)
        return decide(queries, fleet=self.fleet, predictor=predictor, budgets=budgets)


def default_slots(fleet: Fleet) -> dict[str, int]:
    """Return the calls in flight per tier with one worker process each, as `run` starts them."""
    return {name: tier.concurrency for name, tier in fleet.tiers.items()}


def _read(line: InputLine) -> tuple[Query, QueryBudget]:
    """Return the query, and its ``max_cost_usd``."""
    options = orjson.loads(line.options) if line.options else {}
    query = read_line(orjson.loads(line.body), options)
    return query, QueryBudget(options.get("max_cost_usd"))
