"""The plan of a batch: what the production router, the prices and what was before say of a sample of its lines."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson
import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from db.reports.forecast_history import load_history, load_queues
from routing.budget.degradation import fit_to_budget_share
from routing.budget.query_budget import OverQueryBudget, fit_to_query_budget
from routing.fleet import BudgetPolicy, Fleet
from routing.forecast.forecast import forecast
from routing.forecast.forecast_types import Forecast, ForecastHistory, QueueLoad, nothing
from routing.policy.decision import Decision, Predictor, decide
from routing.query import Query, read_body
from settings import Settings
from submission.forecast_json import forecast_as_json
from submission.input_line import InputLine
from submission.reservoir_sample import ReservoirSample

log = structlog.get_logger()

DECIDED_AT_ONCE: Final = 50
"""The features of a thousand long prompts are 300 MB."""

SERVED_BYTES: Final = 1024**2
"""Of a sample where a process has other work to do than to plan: half a second of a processor at most."""


SERVING_FOR_S: Final = 10.0
"""For so long the router that served still does, as far as a plan goes: to load it costs more than a short plan."""

_serving: dict[tuple[str, str], tuple[Predictor, float]] = {}
"""By database and fleet: the classifier, and until when."""


@dataclass(slots=True)
class Forecaster:
    """Samples the lines of one batch and predicts what comes of it. Nothing is written, nobody is called."""

    settings: Settings
    fleet: Fleet
    engine: AsyncEngine | None
    """Where what was before is known from; None knows nothing."""
    cap_usd: float | None = None
    """The batch's own cap; None is the fleet's."""
    policy: BudgetPolicy | None = None
    sample: ReservoirSample = field(default_factory=ReservoirSample)

    async def forecast(self) -> Forecast:
        """The prediction for the lines that the sample has seen, at least one. Raises EvaluationError."""
        past, load = ForecastHistory(), QueueLoad(default_slots(self.fleet))
        if self.engine is not None:
            past = await load_history(self.engine, self.fleet, total=self.sample.seen)
            load = await load_queues(self.engine, self.fleet, otherwise=load.slots)
        predictor = await self._predictor()
        return await asyncio.to_thread(self._forecast, predictor, past, load)

    async def plan(self) -> Mapping[str, Any] | None:
        """The prediction, as it is stored with the batch; None where it cannot be made."""
        from evaluation.data.dataset_errors import EvaluationError

        try:
            return forecast_as_json(await self.forecast())
        except EvaluationError as error:
            # A batch is not refused for want of a prediction; the workers may have the router.
            log.warning("no_plan", error=str(error))
        except Exception as error:
            # Nor for a line that the router cannot digest, again at each try, nor for a report that takes too long.
            log.warning("no_plan", error=type(error).__name__)
        return None

    async def _predictor(self) -> Predictor | None:
        """The classifier that serves. Imported here: who submits without a plan needs neither numpy nor scipy."""
        if "classifier" not in self.fleet.router.stages:
            return None
        from evaluation.models.artifact_cache import open_folder
        from evaluation.models.predictors import predictor_of
        from model_registry.resolver import load_serving

        if self.engine is None:
            return predictor_of(open_folder(self.fleet.router.classifier))
        now, key = time.monotonic(), (str(self.engine.url), self.fleet.digest)
        known = _serving.get(key)
        if known is None or now >= known[1]:
            found = await load_serving(self.engine, self.fleet, self.settings.home / "routers")
            known = _serving[key] = (found.predictor, now + SERVING_FOR_S)
        return known[0]

    def _forecast(self, predictor: Predictor | None, past: ForecastHistory, load: QueueLoad) -> Forecast:
        seen = self.sample.seen
        queries, caps = zip(*(_read(line) for line in self.sample.lines), strict=True)
        decided = [
            decision
            for at in range(0, len(queries), DECIDED_AT_ONCE)
            for decision in decide(queries[at : at + DECIDED_AT_ONCE], fleet=self.fleet, predictor=predictor)
        ]
        paid = _paid(queries, decided, caps, self.fleet)
        if not paid:
            return nothing(seen)
        total = max(len(paid), round(seen * len(paid) / len(queries)))
        payable, decisions = [query for query, _ in paid], [decision for _, decision in paid]
        cap_usd = self.fleet.budgets.batch_usd if self.cap_usd is None else self.cap_usd
        if cap_usd is not None and (self.policy or self.fleet.budgets.policy) is BudgetPolicy.DEGRADE:
            share_usd = cap_usd * len(paid) / total
            thrift = fit_to_budget_share(payable, decisions, fleet=self.fleet, share_usd=share_usd, unspent_usd=cap_usd)
            decisions = list(thrift.decisions)
        told = forecast(payable, decisions, total=total, fleet=self.fleet, past=past, load=load)
        return replace(told, too_dear=seen - total)


def default_slots(fleet: Fleet) -> dict[str, int]:
    """Calls in flight per tier with one worker process of each, as `run` starts them."""
    return {name: tier.concurrency for name, tier in fleet.tiers.items()}


def _read(line: InputLine) -> tuple[Query, float | None]:
    """The query, and its ``max_cost_usd``."""
    options = orjson.loads(line.options) if line.options else {}
    query = read_body(orjson.loads(line.body), pin=options.get("pin"), expects=options.get("expects"))
    return query, options.get("max_cost_usd")


def _paid(
    queries: Sequence[Query], decided: Sequence[Decision], caps: Sequence[float | None], fleet: Fleet
) -> list[tuple[Query, Decision]]:
    """The queries that may be asked at all, with the decision that their ``max_cost_usd`` pays for."""
    paid = []
    for query, decision, cap_usd in zip(queries, decided, caps, strict=True):
        step = decision if cap_usd is None else fit_to_query_budget(query, decision, left_usd=cap_usd, fleet=fleet)
        if not isinstance(step, OverQueryBudget):
            paid.append((query, step))
    return paid
