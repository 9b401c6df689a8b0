"""The trained router behind a name: looked up in the database, and loaded from this machine's copy or fetched."""

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from db import router_registry
from evaluation.data.dataset_errors import EvaluationError, RegistryError
from evaluation.models.artifact import Artifact
from evaluation.models.artifact_cache import DEFAULT, ArtifactCache, is_folder, load_serving_models, open_folder
from evaluation.models.predictors import predictor_of
from routing.fleet import Fleet
from trained_routers.hot_reload import LoadedRouters

log = structlog.get_logger()


async def resolve_versions(engine: AsyncEngine, fleet: Fleet) -> Mapping[str, str | None]:
    """Return the versions that the names of ``fleet`` stand for now. A change means that others are to serve."""
    serve, shadow = {fleet.router.classifier, fleet.router.scorer}, fleet.router.shadow
    # As a candidate, default is the router that is shipped, whatever is promoted.
    names = {name for name in (*serve, None if shadow == DEFAULT else shadow) if name is not None}
    found = await router_registry.resolve_router_names(engine, names)
    return {name: found[name] for name in sorted(names & found.keys())}


async def load_serving(engine: AsyncEngine, fleet: Fleet, home: Path) -> LoadedRouters:
    """Return what serves ``fleet``. ``home`` is this machine's directory of copies. Raises EvaluationError.

    ``default`` in the fleet means the promoted router, or the shipped one if none was promoted. Any other name, or a
    folder, means that artifact.
    """
    return await load_versions(await resolve_versions(engine, fleet), engine, fleet, home)


async def load_versions(
    digests: Mapping[str, str | None], engine: AsyncEngine, fleet: Fleet, home: Path
) -> LoadedRouters:
    """Return what serves ``fleet`` if its names stand for ``digests``. Raises EvaluationError."""
    shelf = ArtifactCache(home)

    async def named(name: str) -> Artifact:
        if (digest := digests.get(name)) is not None and not (name != DEFAULT and is_folder(name)):
            return await fetch_version(engine, digest, shelf)
        return await find(engine, name, shelf)

    wanted = {name for name in (fleet.router.classifier, fleet.router.scorer) if name is not None}
    found = {name: await named(name) for name in wanted}
    predictor, scorer = load_serving_models(fleet, found.__getitem__)
    shadow = None
    if fleet.router.shadow is not None:
        try:
            shadow = predictor_of(await find(engine, fleet.router.shadow, shelf))
        except EvaluationError as error:
            # A candidate that cannot be loaded keeps nobody from working.
            log.warning("no_shadow", router=fleet.router.shadow, why=str(error))
    return LoadedRouters(
        predictor,
        predictor.version,
        scorer,
        shadow,
        label=f"{predictor.name} {predictor.version}",
        resolved_versions=digests,
    )


async def find(engine: AsyncEngine, named: str, shelf: ArtifactCache) -> Artifact:
    """Return the artifact that a user names: a folder, ``default`` for the shipped one, or a registered name.

    Raises EvaluationError.
    """
    if named == DEFAULT or is_folder(named):
        return await asyncio.to_thread(open_folder, named)
    known = await router_registry.registered(engine)
    for entry in known:
        if entry.name == named:
            return await fetch_version(engine, entry.digest, shelf)
    raise unknown(named, (entry.name for entry in known))


async def promoted(engine: AsyncEngine, shelf: ArtifactCache) -> Artifact:
    """Return the artifact that serves for ``default`` in a fleet. Raises EvaluationError."""
    latest = await router_registry.promoted(engine)
    if latest is None or latest.digest is None:
        return await asyncio.to_thread(open_folder, DEFAULT)
    return await fetch_version(engine, latest.digest, shelf)


async def fetch_version(engine: AsyncEngine, digest: str, shelf: ArtifactCache) -> Artifact:
    """Return that version, from the local copy or the database. Raises EvaluationError.

    Files are read in a thread, so that a worker's loop continues.
    """
    if await asyncio.to_thread(shelf.has, digest):
        return await asyncio.to_thread(shelf.load, digest)
    files = await router_registry.files_of(engine, digest)
    if not files:
        raise RegistryError(f"version {digest[:12]} is not in the database. fix: promote another router")
    return await asyncio.to_thread(shelf.put, digest, files)


def unknown(named: str, known: Iterable[str]) -> RegistryError:
    """Return the error that lists the registered routers."""
    return RegistryError(f"no router is named {named!r}. fix: use one of {', '.join([DEFAULT, *known])}")
