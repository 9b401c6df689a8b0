"""Promotion of a registered router, and the return to the one before."""

from sqlalchemy.ext.asyncio import AsyncEngine

from db import router_registry
from evaluation.data.dataset_errors import RegistryError
from evaluation.models.artifact_cache import DEFAULT, ArtifactCache
from trained_routers.resolver import fetch_version, promoted, unknown


async def promote(engine: AsyncEngine, name: str, *, cache: ArtifactCache, by: str, over: str | None = None) -> str:
    """Make a registered router serve, and return the name of the previous one. Raises EvaluationError.

    ``over`` is the digest of the incumbent in its promotion test. Nothing changes if another router serves by now.
    """
    before = await router_registry.promoted(engine)
    if over is not None and (serves := await promoted(engine, cache)).digest != over:
        raise RegistryError(
            f"{serves.name} was promoted while {name} was tested against another router, so {name} is registered "
            "but does not serve. fix: retrain again"
        )
    digest = None
    if name != DEFAULT:
        known = {entry.name: entry.digest for entry in await router_registry.registered(engine)}
        if name not in known:
            raise unknown(name, known)
        digest = known[name]
        await fetch_version(engine, digest, cache)  # raises for an artifact that cannot be read
    await router_registry.promote(engine, name=name, digest=digest, by=by)
    return DEFAULT if before is None else before.name


async def roll_back(engine: AsyncEngine, *, by: str) -> tuple[str, str]:
    """Return to the router before the promoted one, and return the names of both. Raises RegistryError."""
    before = await router_registry.promoted(engine)
    if before is None or not await router_registry.roll_back(engine, by=by):
        raise RegistryError("no router was promoted, so the default router already serves")
    now = await router_registry.promoted(engine)
    return before.name, DEFAULT if now is None else now.name
