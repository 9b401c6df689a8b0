"""Who asks: the tenant of a bearer key; or the default one, where no key was ever made and only this machine asks."""

import hmac
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import Headers

from api.http_errors import ApiError, unauthorized
from api.single_flight_cache import SingleFlightCache
from db.tenants import DEFAULT_TENANT, KeyLock, Tenants, key_hash, key_id

KNOWN_FOR_S: Final = 1.0
"""How long a revoked key may still open."""

_NOBODY: Final = KeyLock(hash=b"\0" * 32, tenant="", requests_per_min=None)
_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request is from."""

    tenant: str
    requests_per_min: int | None = None
    key_name: str = ""
    """Empty where no key is needed."""


class Authenticator:
    """Finds the visitor of a request. ``keyless`` is whether the service listens on loopback only."""

    def __init__(self, tenants: Tenants, *, keyless: bool) -> None:
        self._keyless = keyless
        self._locks = SingleFlightCache(tenants.lock, for_s=KNOWN_FOR_S)
        self._has_keys: SingleFlightCache[None, bool] = SingleFlightCache(
            lambda _: tenants.has_keys(), for_s=KNOWN_FOR_S
        )

    async def visitor(self, headers: Headers) -> Principal:
        """Who asks. Raises ApiError 401 or 403."""
        if self._keyless and not await self._has_keys(None):
            _refuse_web_pages(headers)
            return Principal(DEFAULT_TENANT)
        scheme, _, key = headers.get("authorization", "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise unauthorized(
                "You didn't provide an API key. Send it as `Authorization: Bearer KEY`; "
                "`pointsman keys create` makes one."
            )
        id_ = key_id(key)
        lock = (await self._locks(id_) if id_ else None) or _NOBODY
        # Also for a key that is nobody's, so that both take as long.
        if not hmac.compare_digest(lock.hash, key_hash(key)):
            raise unauthorized("Incorrect API key provided, or it was revoked.")
        return Principal(lock.tenant, lock.requests_per_min, lock.name)


def _refuse_web_pages(headers: Headers) -> None:
    """Without keys, a web page in this machine's browser could ask too: by its own origin, or by a name that it
    has point to loopback. No program of the Batch API sends either."""
    host = headers.get("host", "")
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
    origin = headers.get("origin")
    if name.lower() not in _LOCAL_NAMES or foreign or (origin is not None and origin != f"http://{host}"):
        raise ApiError(
            403,
            "Without API keys this service answers programs of this machine only; `pointsman keys create` makes one.",
            code="local_only",
        )
