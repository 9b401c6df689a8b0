"""The trained routers of a worker: at its start the promoted ones, later those promoted since."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.ext.asyncio import AsyncEngine

from routing.answer_checks.judge import Scorer
from routing.fleet import Fleet
from routing.lifecycle import ROUTE
from routing.policy.decision import Predictor
from routing.query import Query


@dataclass(frozen=True, slots=True)
class LoadedRouters:
    """The trained routers of one process.

    It is replaced as a whole when another router is promoted, so a reader that takes it once uses and names one
    version.
    """

    predictor: Predictor | None = None
    version: str | None = None
    """The version of the predictor. Decisions that used it name it."""
    scorer: Scorer | None = None
    shadow: Predictor | None = None
    """The shadow router: it decides in addition to the predictor, and is only logged."""
    label: str | None = None
    """The name and version in `workers.router`."""
    resolved_versions: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    """The versions of the fleet's names at the time of loading: see `db.router_registry.resolve_router_names`."""


log = structlog.get_logger()

LOOK_S: Final = 2.0
"""Approximate seconds until a worker notices a promotion."""

RETRY_S: Final = 60.0
"""How long a router that failed to load is not retried, unless another one is promoted."""

_ASKED_FIRST: Final = Query("Which tier would you send this to?")


@dataclass(frozen=True, slots=True)
class RequiredRouters:
    """The trained routers that a worker's roles need."""

    predictor: bool
    scorer: bool
    shadow: bool

    @classmethod
    def of(cls, fleet: Fleet, roles: Sequence[str]) -> "RequiredRouters":
        """Return the classifier for routing, the scorer for judging, and the shadow router."""
        return cls(
            predictor=ROUTE in roles and "classifier" in fleet.router.stages,
            scorer=fleet.router.scorer is not None and any(role in fleet.tiers for role in roles),
            shadow=ROUTE in roles and fleet.router.shadow is not None,
        )

    @property
    def any(self) -> bool:
        """Whether there is anything to load."""
        return self.predictor or self.scorer or self.shadow


class RouterReloader:
    """The trained routers of one worker, over time. ``home`` is this machine's directory of copies."""

    def __init__(self, engine: AsyncEngine, fleet: Fleet, home: Path, needs: RequiredRouters) -> None:
        self._engine = engine
        self._fleet = fleet
        self._home = home
        self._needs = needs
        self._refused: Mapping[str, str | None] | None = None
        self._retry_at = 0.0

    async def first(self) -> LoadedRouters:
        """Return the current ones. Raises EvaluationError, because a worker without its router does not start."""
        return await self._load(await self._meant()) if self._needs.any else LoadedRouters()

    async def after(self, now: LoadedRouters) -> LoadedRouters:
        """Return the routers that follow ``now``: the same if nothing was promoted, or if the new one cannot be
        loaded."""
        if not self._needs.any:
            return now
        try:
            resolve_versions = await self._meant()
        except (DBAPIError, NoConnection):
            return now  # who looks again in a moment
        except Exception as error:
            # Whoever looks must not end: this worker would never follow a promotion again.
            log.error("router_not_looked_up", keeps=now.label, error=type(error).__name__)
            return now
        if resolve_versions == now.resolved_versions or (
            resolve_versions == self._refused and time.monotonic() < self._retry_at
        ):
            return now
        try:
            trained = await self._load(resolve_versions)
        except Exception as error:
            # If it cannot be loaded, the router before it serves on; `pointsman doctor` shows a worker that lags.
            self._refused, self._retry_at = resolve_versions, time.monotonic() + RETRY_S
            log.error("router_refused", keeps=now.label, error=type(error).__name__, why=str(error)[:500])
            return now
        log.info("router_taken_up", router=trained.label, before=now.label)
        return trained

    async def _meant(self) -> Mapping[str, str | None]:
        # Imported only where it is needed: numpy and scipy take a third of a second and 60 MB.
        from trained_routers.resolver import resolve_versions

        return await resolve_versions(self._engine, self._fleet)

    async def _load(self, resolve_versions: Mapping[str, str | None]) -> LoadedRouters:
        from trained_routers.resolver import load_versions

        found = await load_versions(resolve_versions, self._engine, self._fleet, self._home)
        if self._needs.predictor and found.predictor is not None:
            # What cannot decide is not to serve; and the first query does not wait for what is made at the first use.
            await asyncio.to_thread(found.predictor, [_ASKED_FIRST])
        return replace(
            found,
            predictor=found.predictor if self._needs.predictor else None,
            version=found.version if self._needs.predictor else None,
            scorer=found.scorer if self._needs.scorer else None,
            shadow=found.shadow if self._needs.shadow else None,
        )
