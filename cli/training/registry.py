"""Registered routers, for `train --name`, `routers` and ``--router NAME``."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from cli.console import emit, out
from cli.open_services import read_settings, with_database
from cli.param_types import current_user
from cli.training import report_tables
from db import router_registry
from evaluation.data.dataset_errors import RegistryError
from evaluation.models.artifact import Artifact
from evaluation.models.artifact_cache import (
    DEFAULT,
    ArtifactCache,
    bundle,
    check_name,
    is_folder,
    open_folder,
)
from settings import Settings
from trained_routers import promotion
from trained_routers.resolver import find, promoted
from workers.embedded.postgres import is_initialized


def open_router(name: str | None) -> Artifact:
    """Return the artifact with that name or in that folder, or the promoted one. A folder or ``default`` needs no
    database.

    Raises EvaluationError.
    """
    settings = read_settings()
    cache = _cache(settings)
    if name is None:
        if settings.embeds_postgres and not is_initialized(settings.home):
            return open_folder(DEFAULT)
        return with_database(settings, lambda engine: promoted(engine, cache))
    if name == DEFAULT or is_folder(name):
        return open_folder(name)
    return with_database(settings, lambda engine: find(engine, name, cache))


def check_free(name: str) -> None:
    """Raise RegistryError if no router can be registered under ``name``. Call it before minutes of training."""
    check_name(name)

    async def work(engine: AsyncEngine) -> None:
        serves = await router_registry.promoted(engine)
        if serves is not None and serves.name == name:
            raise _name_taken(name)

    with_database(read_settings(), work)


def register(folder: Path) -> None:
    """Register the artifact in ``folder`` under its own name. Raises EvaluationError."""
    files = bundle(folder)

    async def work(engine: AsyncEngine) -> bool:
        return await router_registry.register(
            engine, name=files.name, digest=files.digest, manifest=files.manifest, files=files.files, by=current_user()
        )

    if not with_database(read_settings(), work):
        raise _name_taken(files.name)


def list_routers(*, as_json: bool) -> None:
    """See `cli.commands.routers.list_routers`."""

    async def work(
        engine: AsyncEngine,
    ) -> tuple[list[router_registry.RegisteredRouter], list[router_registry.Promotion]]:
        return await router_registry.registered(engine), await router_registry.promotions(engine)

    entries, history = with_database(read_settings(), work)
    serves = router_registry.newest(history)
    if not as_json:
        report_tables.show_routers(entries, history, serves)
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
    _show_change(f"Promoted {name}", name, before, as_json=as_json)


def promote(name: str, *, over: str | None = None) -> str:
    """Make a registered router serve, and return the name of the previous one. Raises EvaluationError.

    ``over`` is the digest of the incumbent in its promotion test. Nothing changes if another router serves by now.
    """
    settings = read_settings()

    async def work(engine: AsyncEngine) -> str:
        return await promotion.promote(engine, name, cache=_cache(settings), by=current_user(), over=over)

    return with_database(settings, work)


def roll_back(*, as_json: bool) -> None:
    """See `cli.commands.routers.rollback`."""

    async def work(engine: AsyncEngine) -> tuple[str, str]:
        return await promotion.roll_back(engine, by=current_user())

    before, name = with_database(read_settings(), work)
    _show_change(f"Returned to {name}", name, before, as_json=as_json)


def _cache(settings: Settings) -> ArtifactCache:
    return ArtifactCache(settings.home / "routers")


def _name_taken(name: str) -> RegistryError:
    return RegistryError(
        f"{name} is promoted and cannot be replaced. fix: choose another name, or promote another router first"
    )


def _brief(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {name: manifest.get(name) for name in ("tiers", "data", "features", "metrics", "seed", "created_at")}


def _show_change(change: str, name: str, before: str, *, as_json: bool) -> None:
    if as_json:
        emit({"promoted": name, "before": before})
    else:
        out.print(f"{change} (before: {before}). Running workers load it within seconds.")
