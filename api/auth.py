"""Authentication: the tenant of a bearer key, or the default tenant for its user on loopback while no key exists."""

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from async_lru import alru_cache
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.datastructures import Headers

from api.api_config import TrustedProxy
from api.http_errors import ApiError, unauthorized
from db.statement_errors import StatementFailed
from db.tenants import DEFAULT_TENANT, KeyLock, Role, Tenants, key_hash, key_id
from workers.local_requests import is_local_program

KEY_TTL_S: Final = 0.5
"""How long, in seconds, a revoked key may still be accepted."""
_MAX_KEYS: Final = 10_000

_NO_KEY: Final = KeyLock(id="", hash=b"\0" * 32, tenant="", requests_per_min=None)


@dataclass(frozen=True, slots=True)
class Principal:
    """The tenant that a request acts for, with its rate limit."""

    tenant: str
    requests_per_min: int | None = None
    key_name: str = ""
    """The key's name. Empty if no key is needed."""
    role: Role = Role.VIEWER
    is_by_proxy: bool = False
    """Whether a trusted proxy named the user, so that there is no key."""
    key_id: str | None = None
    """The part of the key that may be shown, or of the user's entry if a proxy named the user."""


class Authenticator:
    """Finds the principal of a request. ``keyless``: the service listens on loopback only."""

    def __init__(self, tenants: Tenants, *, keyless: bool, proxy: TrustedProxy | None = None) -> None:
        self._tenants = tenants
        self._keyless = keyless
        self._proxy = proxy
        self._find_identity = alru_cache(maxsize=_MAX_KEYS, ttl=KEY_TTL_S)(tenants.identity)
        self._find_key = alru_cache(maxsize=_MAX_KEYS, ttl=KEY_TTL_S)(self._read_key)
        self._has_keys = alru_cache(ttl=KEY_TTL_S)(tenants.has_keys)

    async def authenticate(
        self, headers: Headers, is_own_user: Callable[[], bool], peer: str | None = None
    ) -> Principal:
        """Return the principal of a request with these headers from the address ``peer``. Raises ApiError 401 or 403.

        ``is_own_user`` returns whether a process of this service's user sent the request.
        """
        scheme, _, key = headers.get("authorization", "").partition(" ")
        key = key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()  # Anthropic's
        id_ = key_id(key)
        if id_ is None and self._proxy is not None and (identity := self._proxy.identity(headers, peer)):
            if (user := await self._find_identity(identity)) is None:
                raise unauthorized(
                    "This user has no access. fix: an operator can run `pointsman keys create NAME --identity USER`."
                )
            return _principal(user, is_by_proxy=True)
        if self._keyless and not await self._has_keys():
            if not is_local_program(headers):
                raise ApiError(
                    403,
                    "Until an API key exists, this service accepts requests only from programs on this machine, not "
                    "from web pages or through a proxy. `pointsman keys create NAME` makes a key.",
                    code="local_only",
                )
            if not is_own_user():
                raise unauthorized(
                    "Until an API key exists, this service accepts requests only from the user it runs as. This "
                    "request comes from another user or container, or its sender cannot be determined. "
                    "`pointsman keys create NAME` makes a key; send it as `Authorization: Bearer KEY`."
                )
            return Principal(DEFAULT_TENANT, role=Role.ADMIN)
        if not key:
            raise unauthorized(
                "You didn't provide an API key. Send it as `Authorization: Bearer KEY`; "
                "`pointsman keys create` makes one."
            )
        found = (await self._find_key(id_) if id_ else None) or _NO_KEY
        # Also for an unknown key, so that both take the same time.
        if not hmac.compare_digest(found.hash, key_hash(key)):
            raise unauthorized("Incorrect API key provided, or it was revoked.")
        return _principal(found)

    async def is_still(
        self, principal: Principal, headers: Headers, is_own_user: Callable[[], bool], peer: str | None = None
    ) -> bool:
        """Whether such a request still belongs to ``principal``. While Postgres is down the last result holds."""
        try:
            return (await self.authenticate(headers, is_own_user, peer)).tenant == principal.tenant
        except ApiError:
            return False
        except (DBAPIError, PoolTimeout, StatementFailed):
            return True

    async def _read_key(self, id_: str) -> KeyLock | None:
        return await self._tenants.lock(id_)


def _principal(key: KeyLock, *, is_by_proxy: bool = False) -> Principal:
    return Principal(key.tenant, key.requests_per_min, key.name, key.role, is_by_proxy, key.id)
