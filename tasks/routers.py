"""Which trained router a name means: by the database, from this machine's copy or fetched into it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from db import routers
from evaluation.artefact import Artefact
from evaluation.faults import EvaluationError, RegistryError
from evaluation.registry import DEFAULT, Shelf, is_folder, open_folder, roles
from evaluation.router import TrainedPredictor, TrainedScorer, predictor_of
from routing.fleet import Fleet

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Serving:
    """The trained routers of one process."""

    predictor: TrainedPredictor
    scorer: TrainedScorer | None
    shadow: TrainedPredictor | None = None
    """Decides beside the predictor, and is only logged."""

    @property
    def told(self) -> str:
        """Name and version, as `workers.router` has them."""
        return f"{self.predictor.name} {self.predictor.version}"


async def serving(engine: AsyncEngine, fleet: Fleet, home: Path) -> Serving:
    """What serves ``fleet``. ``home`` is this machine's shelf. Raises EvaluationError.

    ``default`` in the fleet means the promoted router, or the shipped one while nothing was
    promoted; any other name, or a folder, means that artefact.
    """
    wanted = {name for name in (fleet.router.classifier, fleet.router.scorer) if name is not None}
    found = {name: await _meant(engine, name, Shelf(home)) for name in wanted}
    return Serving(*roles(fleet, found.__getitem__), shadow=await _shadow(engine, fleet, Shelf(home)))


async def _shadow(engine: AsyncEngine, fleet: Fleet, shelf: Shelf) -> TrainedPredictor | None:
    """The candidate that decides beside the live router. One that cannot be loaded keeps nobody from working."""
    if fleet.router.shadow is None:
        return None
    try:
        return predictor_of(await find(engine, fleet.router.shadow, shelf))
    except EvaluationError as error:
        log.warning("no_shadow", router=fleet.router.shadow, why=str(error))
        return None


async def find(engine: AsyncEngine, named: str, shelf: Shelf) -> Artefact:
    """The artefact that a user means: a folder, ``default`` for the shipped one, or a registered name.

    Raises EvaluationError.
    """
    if named == DEFAULT or is_folder(named):
        return open_folder(named)
    known = await routers.registered(engine)
    for entry in known:
        if entry.name == named:
            return await fetched(engine, entry.digest, shelf)
    raise unknown(named, (entry.name for entry in known))


async def promoted(engine: AsyncEngine, shelf: Shelf) -> Artefact:
    """The artefact that serves where a fleet says ``default``. Raises EvaluationError."""
    latest = await routers.promoted(engine)
    if latest is None or latest.digest is None:
        return open_folder(DEFAULT)
    return await fetched(engine, latest.digest, shelf)


async def fetched(engine: AsyncEngine, digest: str, shelf: Shelf) -> Artefact:
    """That version, from the shelf or else from the database. Raises EvaluationError."""
    if shelf.has(digest):
        return shelf.load(digest)
    files = await routers.files_of(engine, digest)
    if not files:
        raise RegistryError(f"version {digest[:12]} is not in the database; promote another router")
    return shelf.put(digest, files)


def unknown(named: str, known: Iterable[str]) -> RegistryError:
    """The error that tells what there is."""
    return RegistryError(f"no router is named {named!r}; there are: {', '.join([DEFAULT, *known])}")


async def _meant(engine: AsyncEngine, name: str, shelf: Shelf) -> Artefact:
    return await promoted(engine, shelf) if name == DEFAULT else await find(engine, name, shelf)
