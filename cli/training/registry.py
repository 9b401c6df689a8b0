"""What `train --name`, `routers` and ``--router NAME`` do with the registered routers."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from cli.commands.batches import with_database
from cli.console import emit, out
from cli.param_types import current_user
from cli.resources import read_settings
from cli.training import tables
from db import router_registry
from evaluation.data.dataset_errors import RegistryError
from evaluation.models.artifact import Artifact
from evaluation.models.artifact_cache import (
    DEFAULT,
    ArtifactBundle,
    ArtifactCache,
    bundle,
    check_name,
    is_folder,
    open_folder,
)
from model_registry.resolver import fetch_version, find, promoted, unknown
from settings import Settings
from workers.embedded.postgres import is_initialized


def open_router(named: str | None) -> Artifact:
    """The artifact that a user means; None is the promoted one. A folder or ``default`` needs no database.

    Raises EvaluationError.
    """
    settings = read_settings()
    shelf = _shelf(settings)
    if named is None:
        if settings.embeds_postgres and not is_initialized(settings.home):
            return open_folder(DEFAULT)
        return with_database(settings, lambda engine: promoted(engine, shelf))
    if named == DEFAULT or is_folder(named):
        return open_folder(named)
    return with_database(settings, lambda engine: find(engine, named, shelf))


def check_free(name: str) -> None:
    """Before minutes of training: raises RegistryError where the name cannot be given."""
    check_name(name)

    async def work(engine: AsyncEngine) -> None:
        serves = await router_registry.promoted(engine)
        if serves is not None and serves.name == name:
            raise _stays(name)

    with_database(read_settings(), work)


def register(folder: Path) -> None:
    """Registers the artifact in ``folder`` under its own name. Raises EvaluationError."""
    parcel = bundle(folder)

    async def work(engine: AsyncEngine) -> bool:
        return await _register(engine, parcel)

    if not with_database(read_settings(), work):
        raise _stays(parcel.name)


def list_routers(*, as_json: bool) -> None:
    """See `cli.commands.routers.list_routers`."""

    async def work(
        engine: AsyncEngine,
    ) -> tuple[list[router_registry.RegisteredRouter], list[router_registry.Promotion]]:
        return await router_registry.registered(engine), await router_registry.promotions(engine)

    entries, history = with_database(read_settings(), work)
    serves = router_registry.newest(history)
    if not as_json:
        tables.show_routers(entries, history, serves)
        return
    emit(
        {
            "promoted": DEFAULT if serves is None else serves.name,
            "digest": None if serves is None else serves.digest,
            "routers": [
                {
                    "name": e.name,
                    "digest": e.digest,
                    "added_at": e.added_at,
                    "added_by": e.added_by,
                    **_brief(e.manifest),
                }
                for e in entries
            ],
            "history": [asdict(promotion) for promotion in history],
        }
    )


def promote_router(name: str, *, as_json: bool) -> None:
    """See `cli.commands.routers.promote`."""
    before = promote(name)
    words = f"{name} is promoted (before: {before}). Workers that run take it up within seconds."
    _say({"promoted": name, "before": before}, words, as_json=as_json)


def promote(name: str, *, over: str | None = None) -> str:
    """Has a registered router serve; returns the name of the one before. Raises EvaluationError.

    ``over`` is the digest of the router that it was examined against: where another serves by now, nothing changes.
    """
    settings = read_settings()
    shelf = _shelf(settings)

    async def work(engine: AsyncEngine) -> str:
        before = await router_registry.promoted(engine)
        if over is not None and (serves := await promoted(engine, shelf)).digest != over:
            raise RegistryError(
                f"{serves.name} was promoted while {name} was examined against another: {name} is registered and does "
                "not serve; retrain again"
            )
        digest = None
        if name != DEFAULT:
            known = {entry.name: entry.digest for entry in await router_registry.registered(engine)}
            if name not in known:
                raise unknown(name, known)
            digest = known[name]
            # What cannot be read must not serve.
            await fetch_version(engine, digest, shelf)
        await router_registry.promote(engine, name=name, digest=digest, by=current_user())
        return DEFAULT if before is None else before.name

    return with_database(settings, work)


def roll_back(*, as_json: bool) -> None:
    """See `cli.commands.routers.rollback`."""

    async def work(engine: AsyncEngine) -> tuple[str, str]:
        before = await router_registry.promoted(engine)
        if before is None or not await router_registry.roll_back(engine, by=current_user()):
            raise RegistryError("nothing was promoted: the default router serves already")
        now = await router_registry.promoted(engine)
        return before.name, DEFAULT if now is None else now.name

    before, name = with_database(read_settings(), work)
    words = f"Back to {name} (before: {before}). Workers that run take it up within seconds."
    _say({"promoted": name, "before": before}, words, as_json=as_json)


async def _register(engine: AsyncEngine, parcel: ArtifactBundle) -> bool:
    return await router_registry.register(
        engine, name=parcel.name, digest=parcel.digest, manifest=parcel.manifest, files=parcel.files, by=current_user()
    )


def _shelf(settings: Settings) -> ArtifactCache:
    return ArtifactCache(settings.home / "routers")


def _stays(name: str) -> RegistryError:
    return RegistryError(f"{name} is promoted and stays as it is; choose another name, or promote another first")


def _brief(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {name: manifest.get(name) for name in ("tiers", "data", "features", "metrics", "seed", "created_at")}


def _say(told: Mapping[str, Any], words: str, *, as_json: bool) -> None:
    if as_json:
        emit(dict(told))
    else:
        out.print(words)
