"""The dashboard's data for Prometheus, over all tenants: open queries as gauges, finished work as counters.

Counters start at this process's first refresh and restart with it. No label contains user text. Each is a tier, stage,
model, provider, outcome, or a class of reasons, with at most `MOST` values.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from api.dashboard.collector import RATE_S, DashboardCollector
from api.dashboard.counters import BOUNDS_MS, DashboardCounters
from api.dashboard.payload import DRIFT
from api.dashboard.rolling_window import KEPT, STEP
from evaluation.production.data_drift import SHIFT, stability_index
from providers.health.circuit_breaker import CircuitState
from routing.lifecycle import FALLBACK, INGEST, ROUTE

MOST: Final = 50
OTHER: Final = "other"
_WORD: Final = re.compile(r"[\w .:+@/-]{1,64}", re.ASCII)
_BREAKER: Final = {CircuitState.CLOSED: 0.0, CircuitState.HALF_OPEN: 0.5, CircuitState.OPEN: 1.0}


class FleetMetrics(Collector):
    """Exports what ``figures`` read at its last refresh."""

    def __init__(self, figures: DashboardCollector) -> None:
        self._figures = figures
        self._known: dict[str, set[str]] = {}
        self._baseline_usd = 0.0
        """The most that it was, as a counter only grows: a resumed query takes back what it had counted."""

    def describe(self) -> Iterable[Metric]:
        """Return nothing, because the families are known only when they are collected."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield all families. Those without a figure yet have no samples."""
        yield from self._open()
        yield from self._workers()
        yield from self._deployments()
        yield from self._router()
        yield from self._happened(self._figures.window.ever())

    def _word(self, kind: str, value: str) -> str:
        known = self._known.setdefault(kind, set())
        if value not in known:
            if len(known) >= MOST or not _WORD.fullmatch(value):
                return OTHER
            known.add(value)
        return value

    def _open(self) -> Iterator[Metric]:
        fleet, seen = self._figures.fleet, self._figures.seen
        queries = GaugeMetricFamily(
            "pointsman_stage_queries", "Open queries by stage and state, from Postgres.", labels=("stage", "state")
        )
        oldest = GaugeMetricFamily(
            "pointsman_stage_oldest_wait_seconds",
            "Waiting time of the oldest waiting query.",
            labels=("stage",),
        )
        stages = [ROUTE, *fleet.tiers, FALLBACK]
        for stage in [*stages, *sorted({row.stage for row in seen.open} - set(stages))]:
            rows = [row for row in seen.open if row.stage == stage]
            for state in ("ready", "queued", "running", "batched", "held"):
                queries.add_metric((self._word("stage", stage), state), sum(getattr(row, state) for row in rows))
            oldest.add_metric(
                (self._word("stage", stage),), max((row.oldest_wait_s or 0.0 for row in rows), default=0.0)
            )
        yield queries
        yield oldest
        yield GaugeMetricFamily(
            "pointsman_batches_open", "Batches with open queries.", value=len({row.batch_id for row in seen.open})
        )
        overspent = GaugeMetricFamily(
            "pointsman_batches_overspent",
            "Open batches that have cost more than their budget or their forecast.",
            labels=("beyond",),
        )
        for beyond, n in seen.overspent.items():
            overspent.add_metric((beyond,), n)
        yield overspent
        calls, usd = (sum(parts) for parts in zip((0, 0.0), *seen.reserved.values(), strict=True))
        yield GaugeMetricFamily("pointsman_open_calls", "Provider calls without an outcome.", value=calls)
        yield GaugeMetricFamily("pointsman_reserved_usd", "Cost reserved for these calls, in US dollars.", value=usd)
        yield GaugeMetricFamily(
            "pointsman_queries_per_second",
            f"Finished queries per second, over the last {RATE_S:g} s.",
            value=sum(seen.finished.values()) / RATE_S,
        )

    def _workers(self) -> Iterator[Metric]:
        fleet, rows = self._figures.fleet, self._figures.seen.workers
        alive = GaugeMetricFamily("pointsman_workers", "Live worker processes by stage.", labels=("stage",))
        for role in (ROUTE, *fleet.tiers, FALLBACK, INGEST, "feeder"):
            alive.add_metric((role,), sum(role in str(row.role).split() for row in rows))
        slots = GaugeMetricFamily("pointsman_worker_slots", "Calls that may be in flight.", labels=("stage",))
        flight = GaugeMetricFamily(
            "pointsman_worker_calls_in_flight", "Calls in flight, as workers last reported.", labels=("stage",)
        )
        for tier in fleet.tiers:
            serving = [row for row in rows if tier in str(row.role).split()]
            slots.add_metric((tier,), fleet.tiers[tier].concurrency * len(serving))
            # A worker of several tiers reports the sum of its calls: they count at its first tier.
            flight.add_metric((tier,), sum(row.in_flight for row in serving if _first(row.role, fleet.tiers) == tier))
        yield from (alive, slots, flight)

    def _deployments(self) -> Iterator[Metric]:
        fleet, states = self._figures.fleet, self._figures.seen.deployments
        yield GaugeMetricFamily(
            "pointsman_limiter_up",
            "Whether Redis provides the state of the deployments.",
            value=0 if states is None else 1,
        )
        labels = ("deployment", "provider", "tier")
        breaker = GaugeMetricFamily(
            "pointsman_breaker_open", "0: closed, 0.5: half open (a probe decides), 1: open (no calls).", labels=labels
        )
        rest = GaugeMetricFamily(
            "pointsman_deployment_rest_seconds", "Remaining cooldown of a deployment after a rate limit.", labels=labels
        )
        used = GaugeMetricFamily(
            "pointsman_limit_used_ratio", "Use of a limit over the last minute.", labels=("deployment", "limit")
        )
        for name, state in (states or {}).items():
            model = fleet.models[name]
            breaker.add_metric((name, model.provider, model.tier), _BREAKER[state.circuit])
            rest.add_metric((name, model.provider, model.tier), state.rest_s)
            for limit, taken, most in (
                ("requests_per_min", state.used_requests, model.requests_per_min),
                ("tokens_per_min", state.used_tokens, model.tokens_per_min),
                ("max_concurrency", state.in_flight, model.max_concurrency),
            ):
                if most:
                    used.add_metric((name, limit), taken / most)
        yield from (breaker, rest, used)

    def _router(self) -> Iterator[Metric]:
        window, seen = self._figures.window, self._figures.seen
        drift = GaugeMetricFamily(
            "pointsman_tier_mix_psi", "Stability index of the tier mix: the last 10 min against the rest of the hour."
        )
        if window.now is not None:
            lately = window.all_between(window.now - DRIFT, window.now + STEP)
            before = window.all_between(window.now - KEPT, window.now - DRIFT)
            index = stability_index(lately.routed_by_tier(), before.routed_by_tier())
            if index is not None:
                drift.add_metric((), index)
        yield drift
        router_drift = GaugeMetricFamily(
            "pointsman_router_drift_psi",
            "Stability index of the newest decisions against the first under this router. Absent for small samples.",
            labels=("figure",),
        )
        for feature in seen.drifts:
            # Not where sampling noise alone could raise an alarm.
            if feature.psi is not None and feature.by_chance < SHIFT:
                router_drift.add_metric((feature.feature,), feature.psi)
        yield router_drift
        grade = GaugeMetricFamily("pointsman_label_grade", "Mean grade, 0 to 1, of labeled answers.", labels=("tier",))
        labels = GaugeMetricFamily("pointsman_labels", "Labeled answers among the newest labels.", labels=("tier",))
        for row in sorted(seen.fleet_labels, key=lambda row: row.tier):
            labels.add_metric((self._word("tier", row.tier),), row.total)
            grade.add_metric((self._word("tier", row.tier),), row.grade)
        yield from (grade, labels)
        yield from self._floors()
        evaluation = seen.router.get("evaluation") or {}
        apgr = GaugeMetricFamily("pointsman_router_apgr", "APGR of the serving router on held-out lines. 1 is best.")
        if evaluation.get("apgr") is not None:
            apgr.add_metric((), evaluation["apgr"])
        yield apgr

    def _floors(self) -> Iterator[Metric]:
        seen = self._figures.seen.quality
        batches = GaugeMetricFamily(
            "pointsman_quality_batches",
            "Batches with a quality floor of the last day, by the state of their certificate.",
            labels=("state",),
        )
        # Always there, so that an alert on it can be tested before there is a breach.
        for state, n in ({"broken": 0} | dict(seen.batches if seen is not None else {})).items():
            batches.add_metric((self._word("state", state),), n)
        measured = GaugeMetricFamily(
            "pointsman_quality_measured",
            "Quality relative to the top tier, 0 to 1, by the audits of the last day, with its 95 % interval.",
            labels=("bound",),
        )
        if seen is not None and seen.quality is not None and seen.interval is not None:
            for bound, value in (("estimate", seen.quality), ("low", seen.interval[0]), ("high", seen.interval[1])):
                measured.add_metric((bound,), value)
        audits = GaugeMetricFamily("pointsman_quality_audits", "Audited answers of the last day.")
        audits.add_metric((), 0 if seen is None else seen.audits)
        yield from (batches, measured, audits)

    def _happened(self, ever: DashboardCounters) -> Iterator[Metric]:
        yield self._counter("pointsman_queries_finished", "Finished queries.", ("state",), ever.ended)
        yield self._counter("pointsman_queries_routed", "Routing decisions.", ("tier", "router"), ever.routed)
        yield self._counter("pointsman_answers", "Answers by tier.", ("tier",), ever.answered)
        judged: Counter[tuple[str, str]] = Counter()
        for (tier, accepted, _), n in ever.judged.items():
            judged[tier, "accepted" if accepted else "rejected"] += n
        yield self._counter("pointsman_answers_judged", "Verdicts on answers.", ("tier", "verdict"), judged)
        yield self._counter(
            "pointsman_answers_doubted", "Rejected answers, by reason.", ("tier", "reason"), ever.rejected
        )
        yield self._counter(
            "pointsman_escalations", "Escalations, by the tier that they led to.", ("tier",), ever.escalated
        )
        yield from self._calls(ever)
        self._baseline_usd = max(self._baseline_usd, ever.baseline_usd)
        yield CounterMetricFamily(
            "pointsman_baseline_usd", "Cost of all answers at the top tier's price.", value=self._baseline_usd
        )
        yield self._latencies(ever)
        yield self._confidences(ever)

    def _calls(self, ever: DashboardCounters) -> Iterator[Metric]:
        by_outcome: dict[tuple[str, ...], float] = defaultdict(float)
        cost: dict[tuple[str, ...], float] = defaultdict(float)
        tokens: dict[tuple[str, ...], float] = defaultdict(float)
        differs: dict[tuple[str, ...], float] = defaultdict(float)
        for key, n in ever.calls.items():
            model = (key.tier, key.provider, key.model)
            by_outcome[*model, key.purpose, key.outcome] += n
            cost[*model, key.purpose] += ever.cost_usd[key]
            differs[model] += ever.cost_differs[key]
            tokens[*model, "prompt"] += ever.prompt_tokens[key]
            tokens[*model, "completion"] += ever.completion_tokens[key]
        labels = ("tier", "provider", "model")
        yield self._counter(
            "pointsman_calls", "Provider calls that ended.", (*labels, "purpose", "outcome"), by_outcome
        )
        yield self._counter("pointsman_call_cost_usd", "Cost of calls, in US dollars.", (*labels, "purpose"), cost)
        yield self._counter(
            "pointsman_call_cost_differs",
            "Calls for which the provider reports a cost more than 1 % off the price table.",
            labels,
            differs,
        )
        yield self._counter("pointsman_call_tokens", "Tokens of calls.", (*labels, "direction"), tokens)

    def _latencies(self, ever: DashboardCounters) -> Metric:
        family = HistogramMetricFamily(
            "pointsman_call_seconds", "Latency of complete provider calls.", labels=("deployment",)
        )
        spent_ms: dict[str, float] = defaultdict(float)
        for key, latency_ms in ever.latency_ms.items():
            if key.outcome == "ok":
                spent_ms[key.deployment] += latency_ms
        for deployment in sorted({name for name, _ in ever.latencies}):
            counts = [ever.latencies[deployment, place] for place in range(len(BOUNDS_MS) + 1)]
            bounds = [*(f"{bound / 1000:g}" for bound in BOUNDS_MS), "+Inf"]
            buckets = [(bound, float(sum(counts[: place + 1]))) for place, bound in enumerate(bounds)]
            label = self._word("deployment", deployment)
            family.add_metric((label,), buckets, spent_ms[deployment] / 1000)
        return family

    def _confidences(self, ever: DashboardCounters) -> Metric:
        family = HistogramMetricFamily(
            "pointsman_answer_confidence", "Confidence of judged answers, if known.", labels=("tier",)
        )
        for tier in sorted({tier for tier, _, _ in ever.judged}):
            counts = [
                sum(n for (at, _, tenth), n in ever.judged.items() if at == tier and tenth == place)
                for place in range(10)
            ]
            bounds = [*(f"{(place + 1) / 10:g}" for place in range(10)), "+Inf"]
            buckets = [(bound, float(sum(counts[: place + 1]))) for place, bound in enumerate(bounds)]
            # Only the tenth is known: the sum uses its middle.
            middle = sum(n * (place + 0.5) / 10 for place, n in enumerate(counts))
            family.add_metric((self._word("tier", tier),), buckets, middle)
        return family

    def _counter(
        self,
        name: str,
        help_text: str,
        labels: tuple[str, ...],
        counts: Mapping[tuple[str, ...], float] | Mapping[tuple[str, str], int] | Mapping[str, int],
    ) -> Metric:
        bounded: dict[tuple[str, ...], float] = defaultdict(float)
        for key, n in counts.items():
            values = (key,) if isinstance(key, str) else key
            bounded[tuple(self._word(label, value) for label, value in zip(labels, values, strict=True))] += n
        family = CounterMetricFamily(name, help_text, labels=labels)
        for values, n in sorted(bounded.items()):
            family.add_metric(values, n)
        return family


def _first(role: str, tiers: Mapping[str, object]) -> str | None:
    return next((name for name in str(role).split() if name in tiers), None)
