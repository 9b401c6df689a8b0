"""Collects the data of the dashboard, once for all tenants."""

import asyncio
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from async_lru import alru_cache
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from api.dashboard.rolling_window import RollingWindow
from api.dashboard.router_info import router_card
from db.reports import run_report
from db.reports.batch_quality import QualityFigures, RecentQuality, batch_quality, recent_quality
from db.reports.drift_samples import drift_windows
from db.worker_registry import ALIVE_S
from evaluation.production.data_drift import FeatureDrift, drift_of
from providers.health.status_report import DeploymentState, overview
from routing.fleet import Fleet

RATE_S: Final = 10.0
"""The number of seconds over which queries per second are averaged."""
BATCHES: Final = 12
WAVES: Final = 20
"""The number of newest waves shown per batch."""
COUNTED: Final = ("ready", "queued", "running", "batched", "held", "waiting")
"""The states of open queries."""
_BATCH_RATE_S: Final = 30.0
_KEPT_RATES: Final = 120
_SLOW_S: Final = 10.0
_LONG_S: Final = 0.2
"""If reading all tenants' open queries takes longer than this, the next read comes after four times that duration."""
_DRIFT_S: Final = 600.0
"""The interval of drift figures, which are read from thousands of rows and change within hours."""


@dataclass(frozen=True, slots=True)
class WaveFigures:
    """The provider batches of a batch, and the sums of its calls by lane and provider batch."""

    waves: Sequence[Row[Any]]
    lanes: Sequence[Row[Any]]


@dataclass(slots=True)
class DashboardSnapshot:
    """The result of the last refresh, for all tenants."""

    at: float = 0.0
    open: Sequence[Row[Any]] = ()
    finished: Mapping[str, int] = field(default_factory=dict)
    """Queries that finished within the last `RATE_S`, by tenant."""
    reserved: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    workers: Sequence[Row[Any]] = ()
    batches: Sequence[Row[Any]] = ()
    chats: Mapping[str, Row[Any]] = field(default_factory=dict)
    """Chat completions of the last hour, by tenant."""
    unanswered: Mapping[int, Mapping[str, int]] = field(default_factory=dict)
    qualities: Mapping[int, QualityFigures] = field(default_factory=dict)
    """Quality figures by batch, for batches with a quality floor."""
    waves: Mapping[int, "WaveFigures"] = field(default_factory=dict)
    """Wave figures by batch, for batches with a deadline."""
    quality: RecentQuality | None = None
    overspent: Mapping[str, int] = field(default_factory=dict)
    """Open batches that have cost more than their ``budget`` or their ``forecast``."""
    labels: Mapping[str, Sequence[Row[Any]]] = field(default_factory=dict)
    """By tenant: its labels by tier."""
    fleet_labels: Sequence[Row[Any]] = ()
    """The newest labels of all tenants by tier."""
    router: Mapping[str, Any] = field(default_factory=dict)
    drifts: Sequence[FeatureDrift] = ()
    """The newest decisions of all tenants, compared with the first ones under the serving router."""
    deployments: Mapping[str, DeploymentState] | None = None
    """None: Redis is not configured or unavailable."""


class DashboardCollector:
    """Collects the data. ``look`` reads Postgres and Redis for all tenants, and everything else uses that result."""

    def __init__(self, engine: AsyncEngine, fleet: Fleet, *, redis: Redis | None, key_prefix: str) -> None:
        self.fleet = fleet
        self.window = RollingWindow(engine)
        self.seen = DashboardSnapshot()
        self.rates: dict[str, deque[tuple[float, float]]] = {}
        """By tenant: times (Unix seconds) and queries per second of the last minutes."""
        self._engine = engine
        self._redis = redis
        self._key_prefix = key_prefix
        self._ended: dict[tuple[int, datetime], Mapping[str, int]] = {}
        self._progress: dict[int, deque[tuple[float, int]]] = {}
        self._open: Sequence[Row[Any]] = ()
        self._open_due = 0.0
        self._quality = alru_cache(ttl=_SLOW_S, maxsize=1000)(self._read_quality)
        self._labels = alru_cache(ttl=_SLOW_S, maxsize=1000)(self._read_labels)
        self._waves = alru_cache(ttl=_SLOW_S, maxsize=1000)(self._read_waves)
        self._slow = alru_cache(ttl=_SLOW_S)(self._read_slow)
        self._drifts = alru_cache(ttl=_DRIFT_S)(self._read_drift)

    async def look(self, tenants: Collection[str], *, window: bool = True) -> float:
        """Refresh everything, but batches only of ``tenants``. Return the seconds that it took."""
        began = time.monotonic()
        seen = DashboardSnapshot(at=time.time())
        seen.open = await self._read_open()
        finished = await run_report(self._engine, "dashboard_rate", seconds=RATE_S)
        seen.finished = {row.tenant: row.finished for row in finished}
        reserved = await run_report(self._engine, "dashboard_reserved")
        seen.reserved = {row.tenant: (row.calls, float(row.reserved_usd)) for row in reserved}
        seen.workers = await run_report(self._engine, "workers", seen_within_s=ALIVE_S)
        if tenants:
            seen.batches = await run_report(self._engine, "dashboard_batches", tenants=sorted(tenants), rows=BATCHES)
            chats = await run_report(self._engine, "dashboard_chats", tenants=sorted(tenants))
            seen.chats = {row.tenant: row for row in chats}
            seen.unanswered = await self._unanswered(seen.batches)
            found = {row.id: await self._quality(row.id) for row in seen.batches if row.has_floor}
            seen.qualities = {id_: quality for id_, quality in found.items() if quality is not None}
            seen.labels = {tenant: await self._labels(tenant) for tenant in sorted(tenants)}
            seen.waves = {row.id: await self._waves(row.id) for row in seen.batches if row.has_deadline}
        if window:
            await self.window.refresh()
        seen.fleet_labels, seen.router, seen.quality, seen.overspent = await self._slow()
        seen.drifts = await self._drifts()
        seen.deployments = await self._deployments()
        self.seen = seen
        self._remember(tenants)
        return time.monotonic() - began

    def rate(self, tenant: str) -> float:
        """Return the tenant's finished queries per second."""
        return self.seen.finished.get(tenant, 0) / RATE_S

    def batch_rate(self, batch_id: int) -> float | None:
        """Return a batch's finished queries per second over half a minute. None until it was read twice."""
        points = self._progress.get(batch_id, deque())
        if len(points) < 2 or points[-1][0] <= points[0][0]:
            return None
        (since, before), (until, after) = points[0], points[-1]
        return (after - before) / (until - since)

    async def _read_open(self) -> Sequence[Row[Any]]:
        """Read the open queries of all tenants at once. A tenant with millions makes this slow, and separate reads
        would repeat it."""
        began = time.monotonic()
        if began >= self._open_due:
            self._open = await run_report(self._engine, "dashboard_open")
            ended = time.monotonic()
            self._open_due = ended + 4 * (ended - began) if ended - began > _LONG_S else 0.0
        return self._open

    async def _unanswered(self, batches: Sequence[Row[Any]]) -> Mapping[int, Mapping[str, int]]:
        """Return the unanswered queries by batch and state. An ended batch is read once; a resumed batch has another
        end."""
        ids = [row.id for row in batches if row.ended_at is None or (row.id, row.ended_at) not in self._ended]
        counted: dict[int, dict[str, int]] = {id_: {} for id_ in ids}
        if ids:
            for row in await run_report(self._engine, "dashboard_unanswered", batch_ids=ids):
                counted[row.batch_id][row.state] = row.n
        if len(self._ended) > 10_000:
            self._ended.clear()
        self._ended |= {
            (row.id, row.ended_at): counted[row.id] for row in batches if row.ended_at and row.id in counted
        }
        return {row.id: counted[row.id] if row.id in counted else self._ended[row.id, row.ended_at] for row in batches}

    async def _read_slow(self) -> tuple[Sequence[Row[Any]], Mapping[str, Any], RecentQuality, Mapping[str, int]]:
        """Read labels and the serving router, which change by hand, and floors and overspending, which change within
        minutes."""
        labels = await run_report(self._engine, "fleet_labels")
        router, quality = await router_card(self._engine, self.fleet), await recent_quality(self._engine)
        (overspent,) = await run_report(self._engine, "dashboard_overspent")
        return labels, router, quality, overspent._asdict()

    async def _read_quality(self, batch_id: int) -> QualityFigures | None:
        return await batch_quality(self._engine, batch_id, priced=False)

    async def _read_labels(self, tenant: str) -> Sequence[Row[Any]]:
        return await run_report(self._engine, "dashboard_labels", tenant=tenant)

    async def _read_waves(self, batch_id: int) -> WaveFigures:
        waves = await run_report(self._engine, "dashboard_waves", batch_id=batch_id, rows=WAVES)
        return WaveFigures(waves, await run_report(self._engine, "batch_lanes", batch_id=batch_id))

    async def _read_drift(self) -> Sequence[FeatureDrift]:
        windows = await drift_windows(self._engine)
        return drift_of(windows.reference, windows.recent)

    async def _deployments(self) -> Mapping[str, DeploymentState] | None:
        if self._redis is None:
            return None
        try:
            async with asyncio.timeout(1.0):
                return await overview(self._redis, list(self.fleet.models.values()), prefix=self._key_prefix)
        except (RedisError, OSError, TimeoutError):
            return None

    def _remember(self, tenants: Collection[str]) -> None:
        now = self.seen.at
        self.rates = {tenant: self.rates.get(tenant, deque(maxlen=_KEPT_RATES)) for tenant in tenants}
        for tenant, points in self.rates.items():
            points.append((now, self.rate(tenant)))
        still_open: dict[int, int] = {}
        for row in self.seen.open:
            still_open[row.batch_id] = still_open.get(row.batch_id, 0) + sum(getattr(row, state) for state in COUNTED)
        running = {row.id: row.total - still_open.get(row.id, 0) for row in self.seen.batches if row.ended_at is None}
        self._progress = {id_: self._progress.get(id_, deque()) for id_ in running}
        for id_, points_of in self._progress.items():
            points_of.append((now, running[id_]))
            while points_of[0][0] < now - _BATCH_RATE_S:
                points_of.popleft()
