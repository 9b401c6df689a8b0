"""Which trained routers a worker decides by: at its start those that are meant, later those promoted since."""

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

    Replaced as a whole when another is promoted: who reads it once decides by one version, and names that one.
    """

    predictor: Predictor | None = None
    version: str | None = None
    """Of the predictor: decisions in which it took part name it."""
    scorer: Scorer | None = None
    shadow: Predictor | None = None
    """Decides beside the predictor, and is only logged."""
    label: str | None = None
    """Name and version, as `workers.router` has them."""
    resolved_versions: Mapping[str, str | None] = field(default_factory=dict, repr=False)
    """What the fleet's names stood for when they were loaded: see `db.router_registry.resolve_router_names`."""


log = structlog.get_logger()

LOOK_S: Final = 2.0
"""The approximate time until a worker knows of a promotion."""

RETRY_S: Final = 60.0
"""How long what could not be loaded is left alone, unless something else is promoted."""

_ASKED_FIRST: Final = Query("Which tier would you send this to?")


@dataclass(frozen=True, slots=True)
class RequiredRouters:
    """The trained routers that a worker's roles need."""

    predictor: bool
    scorer: bool
    shadow: bool

    @classmethod
    def of(cls, fleet: Fleet, roles: Sequence[str]) -> "RequiredRouters":
        """The classifier to route, the scorer to judge, the shadow to decide beside."""
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
    """The trained routers of one worker, one after the other. ``home`` is this machine's shelf of copies."""

    def __init__(self, engine: AsyncEngine, fleet: Fleet, home: Path, needs: RequiredRouters) -> None:
        self._engine = engine
        self._fleet = fleet
        self._home = home
        self._needs = needs
        self._refused: Mapping[str, str | None] | None = None
        self._retry_at = 0.0

    async def first(self) -> LoadedRouters:
        """Those that are meant now. Raises EvaluationError: a worker without its router does not start."""
        return await self._load(await self._meant()) if self._needs.any else LoadedRouters()

    async def after(self, now: LoadedRouters) -> LoadedRouters:
        """What is to serve after ``now``: the same while nothing else is meant, and where that cannot be loaded."""
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
