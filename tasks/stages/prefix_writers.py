"""Prompts that begin alike: one of them is sent first, and the others once its answer has arrived.

Only then can they see what it has written to the provider's cache. If several processes have some of them, one writes
(`tasks.stages.prefix_leases`).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from db.ledger_types import QueuedQuery
from routing.fleet import CachedBy, Fleet, Model
from routing.outcome import Completion, Outcome
from routing.prompt_caching import SharedPrefix, pays, shared_prefixes
from tasks.stages.prefix_leases import CachedPrefix, PrefixLeases

log = structlog.get_logger()

_KEPT: Final = 1000
"""Maximum number of remembered prefixes."""

_LOOK_S: Final = 0.1
"""How often a process checks whether another one has written what its queries wait for."""

_SAFE_SHARE: Final = 0.8
"""The share of a cache's lifetime during which a prefix counts as cached. Later it may have to be written again."""


@dataclass(slots=True)
class _Prefix:
    tokens: int
    unsent: set[int] = field(default_factory=set)
    """Queries that wait here, or are about to be sent."""
    writer: int | None = None
    is_writing: bool = False
    """Whether the writer's call that writes the prefix is in flight."""
    written: "asyncio.Future[CachedPrefix | None] | None" = None
    """Ends the writer's lease."""
    look_at: float = 0.0
    """The next check whether another process still writes it."""
    warm_until: dict[str, float] = field(default_factory=dict)
    """The end of its lifetime in the cache, by deployment."""
    is_useless: bool = False
    """Whether the cache did not write it, or did not read it back, so that no query waits for it any more."""


class PrefixWriters:
    """The shared prefixes of the queries that this process works on. For one event loop."""

    def __init__(self, fleet: Fleet, leases: PrefixLeases, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._leases = leases
        self._clock = clock
        self._caching = {
            tier: tuple(model for model in fleet.deployments(tier) if model.prompt_caching is not None)
            for tier in fleet.tiers
        }
        self._prefixes: dict[bytes, _Prefix] = {}
        self._of: dict[int, tuple[SharedPrefix, str]] = {}
        """By active query: its prefix, and its tier."""
        self._changed = asyncio.Event()

    def add(self, stage: str, waiting: Sequence[QueuedQuery]) -> None:
        """Find what ``waiting`` share. Nothing if no deployment of ``stage`` has a usable cache."""
        if not (models := self._caching.get(stage)):
            return
        least = min(model.prompt_caching.min_tokens for model in models if model.prompt_caching is not None)
        for batch_id in {queued.batch_id for queued in waiting}:
            bodies = {queued.id: queued.body for queued in waiting if queued.batch_id == batch_id}
            seed = f"{stage}/{batch_id}".encode()
            found = shared_prefixes(bodies, seed=seed, least_tokens=least, known=self._prefixes)
            for query_id, prefix in found.items():
                self._of[query_id] = (prefix, stage)
                self._prefixes.setdefault(prefix.key, _Prefix(prefix.tokens)).unsent.add(query_id)

    def of(self, query_id: int) -> SharedPrefix | None:
        """Return the prefix that an active query shares with others."""
        known = self._of.get(query_id)
        return None if known is None else known[0]

    async def next(self, unclaimed: "deque[QueuedQuery]", stopping: asyncio.Event) -> QueuedQuery | None:
        """Take the first of ``unclaimed`` that need not wait for a writer. None if the process is to stop."""
        while not stopping.is_set():
            if not self._of:  # nothing is shared
                return unclaimed.popleft()
            place = next((place for place, queued in enumerate(unclaimed) if self._may_go(queued.id)), None)
            if place is not None:
                queued = unclaimed[place]
                del unclaimed[place]
                if not self._is_writer(queued.id) or await self._acquire(queued.id):
                    return queued
                unclaimed.insert(place, queued)
                continue
            looks = any(prefix.look_at for queued in unclaimed if (prefix := self._prefix(queued.id)) is not None)
            changed, stopped = asyncio.ensure_future(self._changed.wait()), asyncio.ensure_future(stopping.wait())
            _, pending = await asyncio.wait(
                [changed, stopped], timeout=_LOOK_S if looks else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in pending:
                task.cancel()
        return None

    def warm_at(self, query_id: int) -> str | None:
        """Return the deployment that has the query's prefix in its cache."""
        prefix = self._prefix(query_id)
        now = self._clock()
        return (
            None if prefix is None else next((name for name, until in prefix.warm_until.items() if until > now), None)
        )

    def marks(self, query_id: int, model: Model) -> bool:
        """Whether a call of the query to ``model`` now is to be cached, because it reads or writes its prefix."""
        prefix = self._prefix(query_id)
        if prefix is None or prefix.is_useless or model.prompt_caching is None:
            return False
        if prefix.warm_until.get(model.name, 0.0) > self._clock():
            return True
        may_write = prefix.writer == query_id and not prefix.is_writing
        if may_write and pays(model, tokens=prefix.tokens, readers=len(prefix.unsent)):
            prefix.is_writing = True
            return True
        return False

    def returned(self, query_id: int, model: Model, outcome: Outcome, *, marked: bool, sent_at: float) -> None:
        """Record the outcome of the query's call, sent at ``sent_at``. After an answer the readers continue."""
        prefix, caching = self._prefix(query_id), model.prompt_caching
        if prefix is None or caching is None or not (marked or caching.by is not CachedBy.CACHE_CONTROL):
            return
        if not isinstance(outcome, Completion):
            prefix.is_writing = prefix.is_writing and prefix.writer != query_id  # the writer's next call writes
            return
        usage = outcome.usage
        was_warm = prefix.warm_until.get(model.name, 0.0) > sent_at
        cached = usage.cached_tokens + (0 if was_warm else usage.cache_write_tokens + usage.cache_write_1h_tokens)
        if not cached and (was_warm or caching.by is CachedBy.CACHE_CONTROL):
            prefix.is_useless = True
            log.info("prompt_cache_unused", deployment=model.name, tokens=prefix.tokens)
        lasts_s = _SAFE_SHARE * caching.lifetime_s
        prefix.warm_until[model.name] = sent_at + lasts_s
        left_s = max(prefix.warm_until[model.name] - self._clock(), 0.001)
        self._let_go(prefix, query_id, CachedPrefix(None if prefix.is_useless else model.name, left_s))

    def end(self, query_id: int) -> None:
        """Record that the query is no longer active here."""
        prefix = self._prefix(query_id)
        if prefix is None:
            return
        del self._of[query_id]
        prefix.unsent.discard(query_id)
        self._let_go(prefix, query_id)
        if len(self._prefixes) > _KEPT:
            now = self._clock()
            self._prefixes = {
                key: each
                for key, each in self._prefixes.items()
                if each.unsent or each.writer is not None or any(until > now for until in each.warm_until.values())
            }

    def _may_go(self, query_id: int) -> bool:
        """Whether the query need not wait. If it has to write, it becomes the writer."""
        known, prefix = self._of.get(query_id), self._prefix(query_id)
        if known is None or prefix is None:
            return True
        now = self._clock()
        need_not_wait = prefix.is_useless or any(until > now for until in prefix.warm_until.values())
        if not need_not_wait and (prefix.writer is not None or prefix.look_at > now):
            return False
        prefix.unsent.discard(query_id)
        written_elsewhere, prefix.look_at = prefix.look_at > 0.0, 0.0
        if need_not_wait:
            return True
        if written_elsewhere or any(
            pays(model, tokens=prefix.tokens, readers=len(prefix.unsent)) for model in self._caching[known[1]]
        ):
            prefix.writer, prefix.is_writing = query_id, False
        return True

    def _prefix(self, query_id: int) -> _Prefix | None:
        known = self._of.get(query_id)
        return None if known is None else self._prefixes.get(known[0].key)

    def _is_writer(self, query_id: int) -> bool:
        prefix = self._prefix(query_id)
        return prefix is not None and prefix.writer == query_id

    async def _acquire(self, query_id: int) -> bool:
        """Whether the query, its process's writer, may start: no other process writes now, or one has written."""
        shared, _ = self._of[query_id]
        prefix = self._prefixes[shared.key]
        written: asyncio.Future[CachedPrefix | None] = asyncio.get_running_loop().create_future()
        found = await self._leases.acquire(shared.key, written)
        if found is True:
            prefix.written = written
            return True
        self._let_go(prefix, query_id)
        now = self._clock()
        if found is False:
            prefix.unsent.add(query_id)
            prefix.look_at = now + _LOOK_S
            return False
        if found.deployment is None:
            prefix.is_useless = True
        else:
            prefix.warm_until[found.deployment] = now + found.lasts_s
        return True

    def _let_go(self, prefix: _Prefix, query_id: int, cached: CachedPrefix | None = None) -> None:
        """Let the readers of a writer continue that has its answer, or has none."""
        if prefix.writer == query_id:
            prefix.writer, prefix.is_writing = None, False
            if prefix.written is not None:
                prefix.written.set_result(cached)
                prefix.written = None
        self._changed.set()
        self._changed = asyncio.Event()
