"""Counts of the last hour in buckets of ten seconds. Each past span is read from Postgres once.

So a refresh costs only what has happened since the last one, whatever the size of the tables and the number of clients.
A row that commits more than `SETTLED_S` after its own time is not counted.
"""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from api.dashboard.counters import BOUNDS_MS, DashboardCounters, sum_of
from db.reports import run_report
from db.reports.batch_stats import top_ratios
from db.reports.length_ratios import LengthRatio, as_params

KEPT: Final = timedelta(minutes=60)
STEP: Final = timedelta(seconds=10)
SETTLED_S: Final = 30
_AT_ONCE: Final = timedelta(minutes=5)
"""The longest span that one statement reads."""

_BACKFILL_S: Final = 0.1
"""After this many seconds, the next refresh continues with the rest of the hour before the first one."""

_RATIOS_S: Final = 5.0
_REST: Final = 20.0
_READ_S: Final = 0.5
"""After this time a refresh reads no more lengths of batches. A tenant may have a thousand open ones."""
_KEPT_RATIOS: Final = 1000

Buckets = dict[str, dict[datetime, DashboardCounters]]
"""Counters by tenant and start of the ten seconds."""


class RollingWindow:
    """Counters of the last hour. Call ``refresh``, then read."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._buckets: Buckets = {}
        self._retired = DashboardCounters()
        self._began: datetime | None = None
        self._since: datetime | None = None
        self._final: datetime | None = None
        self._ratios: dict[tuple[int, datetime | None], tuple[list[LengthRatio], float]] = {}
        """By batch and its end, with the time on the monotonic clock at which they are read again."""
        self._lock = asyncio.Lock()
        self.now: datetime | None = None
        """The time of the last refresh, by Postgres's clock."""

    @property
    def is_whole(self) -> bool:
        """Whether the hour before the first refresh is also counted, which takes a dozen refreshes."""
        return self.now is not None and self._since is not None and self._since <= self.now - KEPT + STEP

    @property
    def since(self) -> datetime | None:
        """The start of the counted time."""
        return self._since

    async def refresh(self) -> None:
        """Count everything up to now."""
        async with self._lock:
            (clock,) = await run_report(self._engine, "dashboard_clock")
            now: datetime = clock.now
            minute = now.replace(second=0, microsecond=0)
            if self._final is None or self._began is None or self._since is None:
                self._began = self._since = self._final = minute
            self._final = max(self._final, minute - KEPT)
            while now - self._final > _AT_ONCE:
                await self._count(self._final, self._final + _AT_ONCE)
                self._final += _AT_ONCE
            await self._count(self._final, now + STEP)
            self._final = max(self._final, (now - timedelta(seconds=SETTLED_S)).replace(second=0, microsecond=0))
            until = time.monotonic() + _BACKFILL_S
            while self._since > minute - KEPT:
                await self._count(self._since - _AT_ONCE, self._since)
                self._since -= _AT_ONCE
                if time.monotonic() > until:
                    break
            self._forget(minute - KEPT)
            self.now = now

    def between(self, since: datetime, until: datetime, *, tenant: str) -> DashboardCounters:
        """Return a tenant's counters from ``since`` to ``until``, by whole buckets."""
        buckets = self._buckets.get(tenant, {})
        return sum_of(counters for start, counters in buckets.items() if since <= start < until)

    def all_between(self, since: datetime, until: datetime) -> DashboardCounters:
        """Return the counters of all tenants together."""
        return sum_of(self.between(since, until, tenant=tenant) for tenant in self._buckets)

    def series(
        self, pick: Callable[[DashboardCounters], Mapping[str, int]], *, tenant: str, step: timedelta, steps: int
    ) -> tuple[datetime, dict[str, list[int]]]:
        """Return the start of the series, and by name one figure per ``step``. The last step is incomplete."""
        now = self.now or datetime.fromtimestamp(0).astimezone()
        start = _floor(now, step) - step * (steps - 1)
        found: dict[str, list[int]] = {}
        for bucket, counters in self._buckets.get(tenant, {}).items():
            place = (bucket - start) // step
            if 0 <= place < steps:
                for name, n in pick(counters).items():
                    found.setdefault(name, [0] * steps)[place] += n
        return start, found

    def ever(self) -> DashboardCounters:
        """Return all tenants' counters since the first refresh. They only grow, as Prometheus expects."""
        if self._began is None:
            return DashboardCounters()
        began = self._began
        kept = [counters for buckets in self._buckets.values() for start, counters in buckets.items() if start >= began]
        return sum_of([self._retired, *kept])

    async def _count(self, since: datetime, until: datetime) -> None:
        """Count the span again, replacing its earlier counts."""
        bounds = {"since": since, "until": until}
        decisions = await run_report(self._engine, "dashboard_decisions", **bounds)
        ratios = await self._length_ratios(**bounds)
        answers = await run_report(self._engine, "dashboard_answers", **bounds, **ratios)
        calls = await run_report(self._engine, "dashboard_calls", **bounds, bounds_ms=list(BOUNDS_MS))
        for buckets in self._buckets.values():
            for start in [start for start in buckets if since <= start < until]:
                del buckets[start]
        for row in decisions:
            self._bucket(row).count_decision(row)
        for row in answers:
            self._bucket(row).count_answer(row)
        for row in calls:
            self._bucket(row).count_call(row)

    async def _length_ratios(self, **bounds: datetime) -> dict[str, list[Any]]:
        """How long answers of the top tier are, for the batches with answers within ``bounds``, as arrays.

        Those of an ended batch are read once; a resumed batch has another end. What took long to read is kept for as
        much longer. What there is no time to read counts as answers of equal lengths.
        """
        found: dict[tuple[int, datetime | None], list[LengthRatio]] = {}
        until = time.monotonic() + _READ_S
        for row in await run_report(self._engine, "dashboard_answered", **bounds):
            key = (row.id, row.ended_at)
            ratios, due = self._ratios.get(key, ([], 0.0))
            began = time.monotonic()
            if due <= began < until:
                ratios = await top_ratios(self._engine, row.public_id)
                ended = time.monotonic()
                kept_s = math.inf if row.ended_at is not None else max(_RATIOS_S, _REST * (ended - began))
                self._ratios[key] = (ratios, ended + kept_s)
            found[key] = ratios
        if len(self._ratios) > _KEPT_RATIOS:
            self._ratios = {key: self._ratios[key] for key in found if key in self._ratios}
        batches = [id_ for (id_, _), ratios in found.items() for _ in ratios]
        arrays = as_params([one for ratios in found.values() for one in ratios])
        del arrays["ratio_names"]
        return {"ratio_batches": batches, **arrays}

    def _bucket(self, row: Row[Any]) -> DashboardCounters:
        return self._buckets.setdefault(row.tenant, {}).setdefault(row.bucket, DashboardCounters())

    def _forget(self, before: datetime) -> None:
        for tenant, buckets in list(self._buckets.items()):
            for start in [start for start in buckets if start < before]:
                gone = buckets.pop(start)
                if self._began is not None and start >= self._began:
                    self._retired.add(gone)
            if not buckets:
                del self._buckets[tenant]


def _floor(at: datetime, step: timedelta) -> datetime:
    return datetime.fromtimestamp(at.timestamp() // step.total_seconds() * step.total_seconds(), tz=at.tzinfo)
