"""Trained routers in the database: the truth for all workers on all machines.

A version is known by its digest, under which its files never change; a name points at one version.
Which one serves is a history of promotions: the newest that was not undone. Without any, the router
that is shipped serves.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import fetch
from db.sql import statement


@dataclass(frozen=True, slots=True)
class RegisteredRouter:
    name: str
    digest: str
    manifest: Mapping[str, Any] = field(repr=False)
    added_at: datetime
    added_by: str


@dataclass(frozen=True, slots=True)
class Promotion:
    """That a version began to serve. ``digest`` None is the shipped router, whatever version that is."""

    name: str
    digest: str | None
    promoted_at: datetime
    promoted_by: str
    undone_at: datetime | None
    undone_by: str | None


async def registered(engine: AsyncEngine) -> list[RegisteredRouter]:
    """All that are registered, oldest first."""
    rows = await fetch(engine, "SELECT name, digest, manifest, added_at, added_by FROM routers ORDER BY added_at, name")
    return [RegisteredRouter(**row._mapping) for row in rows]


async def promotions(engine: AsyncEngine) -> list[Promotion]:
    """The whole history, oldest first."""
    columns = "name, digest, promoted_at, promoted_by, undone_at, undone_by"
    rows = await fetch(engine, f"SELECT {columns} FROM router_promotions ORDER BY id")  # noqa: S608  # ours
    return [Promotion(**row._mapping) for row in rows]


async def promoted(engine: AsyncEngine) -> Promotion | None:
    """What serves; None where the shipped one does because nothing was promoted."""
    return newest(await promotions(engine))


def newest(history: Sequence[Promotion]) -> Promotion | None:
    """The promotion that counts of a history, which runs from the oldest."""
    return next((promotion for promotion in reversed(history) if promotion.undone_at is None), None)


async def resolve_router_names(engine: AsyncEngine, names: Collection[str]) -> dict[str, str | None]:
    """The digest for which each of ``names`` stands now, without those that are not registered.

    ``default`` is always in it: the promoted one, None while nothing is promoted.
    """
    rows = await fetch(engine, statement("resolve_router_names"), names=list(names))
    return {row.name: row.digest for row in rows}


async def files_of(engine: AsyncEngine, digest: str) -> dict[str, bytes]:
    """The files of that version by their names; none where it is not here."""
    rows = await fetch(engine, "SELECT file, content FROM router_files WHERE digest = :digest", digest=digest)
    return {row.file: bytes(row.content) for row in rows}


async def register(
    engine: AsyncEngine,
    *,
    name: str,
    digest: str,
    manifest: Mapping[str, Any],
    files: Mapping[str, bytes],
    by: str,
) -> bool:
    """Puts a router under its name, in place of its namesake. False, and nothing done, where that one serves."""
    rows = await fetch(
        engine,
        statement("router_register"),
        name=name,
        digest=digest,
        data_sha256=manifest["data"]["sha256"],
        manifest=json.dumps(manifest),
        files=list(files),
        contents=list(files.values()),
        added_by=by,
    )
    return bool(rows)


async def promote(engine: AsyncEngine, *, name: str, digest: str | None, by: str) -> bool:
    """Has that version serve. False where it does already, or where the name stands for another by now."""
    return bool(await fetch(engine, statement("router_promote"), name=name, digest=digest, promoted_by=by))


async def roll_back(engine: AsyncEngine, *, by: str) -> bool:
    """Undoes the newest promotion. False where there is none."""
    return bool(await fetch(engine, statement("router_roll_back"), undone_by=by))
