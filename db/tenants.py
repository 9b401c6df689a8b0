"""Tenants, their API keys and their limits.

A key is ``pm-<id>-<secret>``; only its SHA-256 is kept. A plain hash is enough for a secret of 256 bits of
chance: there is nothing to guess.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncEngine

from db.group_commit import GroupCommit
from db.sql import Statements

DEFAULT_TENANT: Final = "default"
_LOCKS: Final = (
    "SELECT k.id, k.hash, k.tenant, t.requests_per_min, k.name, k.role FROM api_keys AS k"
    " LEFT JOIN tenants AS t ON t.name = k.tenant"
)
_KEY: Final = re.compile(r"pm-([0-9a-f]{12})-([0-9A-Za-z_-]{43})")


class Role(StrEnum):
    """What a key may do, from the least; `api.roles` says what each needs."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


MOST_KEYS: Final = 1000
"""How many unrevoked keys a tenant may have when it creates one over HTTP, and how many the HTTP listing returns."""


class TooManyKeys(Exception):
    """The tenant has as many keys as it may make."""


class IdentityTaken(Exception):
    """The identity has a row that is not revoked."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is listed. It cannot be shown again."""

    id: str
    tenant: str
    name: str
    created_at: datetime
    revoked_at: datetime | None
    requests_per_min: int | None
    day_usd: Decimal | None
    role: Role
    identity: str | None
    """The user whom a trusted proxy names, instead of a key."""


@dataclass(frozen=True, slots=True)
class KeyLock:
    """The data that a key is checked with."""

    id: str
    hash: bytes = field(repr=False)
    tenant: str
    requests_per_min: int | None
    name: str = ""
    """The key's name."""
    role: Role = Role.VIEWER


@dataclass(frozen=True, slots=True)
class DayBudget:
    """What a tenant may spend today and has spent, in US dollars; calls under way at their reservation."""

    cap_usd: Decimal
    spent_usd: Decimal


def key_id(key: str) -> str | None:
    """The part of a key that may be shown, None where it is not a key at all."""
    found = _KEY.fullmatch(key)
    return found.group(1) if found else None


def key_hash(key: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key.encode()).digest()


class Tenants(Statements):
    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self.lock = GroupCommit(self.locks, key=lambda id_: id_, gather_s=0.0)
        """``lock(id)`` → `KeyLock` of that key, or None if there is no such key. One statement serves many keys."""

    async def create_key(
        self,
        *,
        tenant: str,
        name: str,
        role: Role = Role.OPERATOR,
        identity: str | None = None,
        requests_per_min: int | None = None,
        day_usd: float | None = None,
        most: int | None = None,
    ) -> str:
        """Makes a key for ``tenant``, and the tenant where there is none; returns the key, this once.

        A limit that is given is the tenant's from now on; one that is not stays as it is. For an ``identity`` the key
        opens nothing. Raises `IdentityTaken`, or `TooManyKeys` where the tenant has ``most`` that are not revoked.
        """
        key = f"pm-{secrets.token_hex(6)}-{secrets.token_urlsafe(32)}"
        made = await self._fetch(
            "create_key",
            id=key_id(key),
            hash=key_hash(key),
            tenant=tenant,
            name=name,
            role=role,
            identity=identity,
            requests_per_min=requests_per_min,
            day_usd=day_usd,
            most=most,
        )
        if not made and identity is None:
            raise TooManyKeys
        if not made:
            raise IdentityTaken(f"{identity} already has access")
        await self.renew_own_day_budgets()
        return key

    async def keys(self, *, tenant: str | None = None, most: int | None = None) -> Sequence[ApiKey]:
        """All keys, of ``tenant`` if given, the oldest first. ``most``: so many, of those revoked the newest alone."""
        rows = await self._query(
            "SELECT k.id, k.tenant, k.name, k.created_at, k.revoked_at, t.requests_per_min, t.day_usd,"
            " k.role, k.identity"
            " FROM api_keys AS k LEFT JOIN tenants AS t ON t.name = k.tenant"
            " WHERE k.tenant = coalesce(CAST(:tenant AS text), k.tenant)"
            " ORDER BY k.revoked_at IS NOT NULL, k.created_at DESC, k.id DESC LIMIT CAST(:most AS bigint)",
            tenant=tenant,
            most=most,
        )
        found = [ApiKey(**(dict(row._mapping) | {"role": Role(row.role)})) for row in rows]
        return sorted(found, key=lambda key: (key.created_at, key.id))

    async def revoke_key(self, id_: str, *, tenant: str | None = None) -> bool:
        """The key, of ``tenant`` if given, is good for nothing any more. False where there is none that was."""
        rows = await self._query(
            "UPDATE api_keys SET revoked_at = now() WHERE id = :id AND revoked_at IS NULL"
            " AND tenant = coalesce(CAST(:tenant AS text), tenant) RETURNING id",
            id=id_,
            tenant=tenant,
        )
        return bool(rows)

    async def locks(self, ids: Sequence[str]) -> dict[str, KeyLock]:
        """Those of the keys ``ids``, as far as they were not revoked."""
        rows = await self._query(
            f"{_LOCKS} WHERE k.id = ANY(CAST(:ids AS text[])) AND k.identity IS NULL AND k.revoked_at IS NULL",
            ids=list(ids),
        )
        return {row.id: _lock(row) for row in rows}

    async def identity(self, identity: str) -> KeyLock | None:
        """What a user of a trusted proxy may do; None where it was given no access."""
        rows = await self._query(f"{_LOCKS} WHERE k.identity = :identity AND k.revoked_at IS NULL", identity=identity)
        return _lock(rows[0]) if rows else None

    async def has_keys(self) -> bool:
        """Whether a key was ever made; a revoked one counts."""
        return bool(await self._query("SELECT 1 FROM api_keys LIMIT 1"))

    async def renew_own_day_budgets(self) -> None:
        """Today's and tomorrow's budget of each tenant that has a limit of its own."""
        await self._fetch("renew_tenant_budgets")

    async def day_budget(self, tenant: str) -> DayBudget | None:
        """Today's, None where there is no limit."""
        rows = await self._query(
            "SELECT cap_usd, reserved_usd + settled_usd AS spent_usd FROM budgets"
            " WHERE tenant = :tenant AND day = CAST(now() AT TIME ZONE 'UTC' AS date)",
            tenant=tenant,
        )
        return DayBudget(rows[0].cap_usd, rows[0].spent_usd) if rows else None


def _lock(row: Row[Any]) -> KeyLock:
    return KeyLock(row.id, bytes(row.hash), row.tenant, row.requests_per_min, row.name, Role(row.role))
