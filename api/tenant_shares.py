"""Limits on how many requests or bytes this process holds, in all and for one tenant."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Final, Protocol, TypeVar
from weakref import WeakValueDictionary

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.http_errors import ApiError

TURN_S: Final = 0.5
"""How often a stream checks whether its key is still valid. With `api.auth.KEY_TTL_S`, a revoked key ends within a
second."""


class TenantShares:
    """The open requests, or their bytes, by tenant: at most ``most`` of one tenant and ``most_in_all`` of all."""

    def __init__(self, what: str, *, most: int, most_in_all: int) -> None:
        self._what = what
        self._most = most
        self._most_in_all = most_in_all
        self._open: Counter[str] = Counter()

    def check(self, tenant: str, *, more: int = 1) -> None:
        """Raise ApiError 429 if the tenant's share, or the rest of all shares, has no room for ``more``."""
        if self._open[tenant] + more > self._most or self._open.total() + more > self._most_in_all:
            raise quota_reached(
                f"{self._open[tenant]} {self._what} are open", self._most, "Wait until some have ended."
            )

    @contextmanager
    def opened(self, tenant: str) -> Iterator[None]:
        """Count one request while the block runs. Raises ApiError 429 if the share has no room."""
        self.check(tenant)
        self.add(tenant, 1)
        try:
            yield
        finally:
            self.add(tenant, -1)

    def add(self, tenant: str, amount: int) -> None:
        """Count ``amount`` more, or less if it is negative."""
        self._open[tenant] += amount
        if not self._open[tenant]:
            del self._open[tenant]


class CountedStream(StreamingResponse):
    """A streamed response that counts in ``shares`` from its creation to its end, which bounds a burst of requests.

    Raises ApiError 429 if the tenant's share, or all, are taken.
    """

    def __init__(
        self,
        shares: TenantShares,
        tenant: str,
        body: AsyncIterator[bytes],
        *,
        media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(body, media_type=media_type, headers=headers)
        shares.check(tenant)
        shares.add(tenant, 1)
        self._close = partial(shares.add, tenant, -1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


class HeldBody:
    """The bytes of one request's body in memory, which count in the tenant's share of ``bodies``."""

    def __init__(self, bodies: TenantShares, tenant: str) -> None:
        self._bodies = bodies
        self._tenant = tenant
        self._bytes = 0

    def add(self, size: int) -> None:
        """Count ``size`` more. Raises ApiError 429 if the share has no room for them."""
        self._bodies.check(self._tenant, more=size)
        self._bodies.add(self._tenant, size)
        self._bytes += size

    def release(self) -> None:
        """Stop counting the body, which is no longer in memory."""
        if self._bytes:
            self._bodies.add(self._tenant, -self._bytes)
            self._bytes = 0


class TenantTurns:
    """Works on ``at_once`` requests of a tenant. Its other requests wait for them, and those of other tenants do
    not."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._of: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        """Entries exist while a request of the tenant is here."""

    def of(self, tenant: str) -> asyncio.Semaphore:
        """Return a lock to hold while a request is processed."""
        turns = self._of.get(tenant)
        if turns is None:
            turns = self._of[tenant] = asyncio.Semaphore(self._at_once)
        return turns


class OfTenant(Protocol):
    """Work that is a tenant's."""

    @property
    def tenant(self) -> str:
        """The tenant of the work."""


Work = TypeVar("Work", bound=OfTenant)


class TenantJobs:
    """Background work of one kind in this process. One tenant's work never takes all places."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._open: Counter[str] = Counter()

    @asynccontextmanager
    async def taken(
        self, take: Callable[[Sequence[str]], Awaitable[Work | None]], *, most: int
    ) -> AsyncIterator[Work | None]:
        """Return what ``take`` finds for tenants with fewer than ``most``. It counts while the block runs."""
        async with self._turn:  # one at a time, so that the count is right
            work = await take([tenant for tenant, jobs in self._open.items() if jobs >= most])
            if work is not None:
                self._open[work.tenant] += 1
        try:
            yield work
        finally:
            if work is not None:
                self._open[work.tenant] -= 1
                if not self._open[work.tenant]:
                    del self._open[work.tenant]


def quota_reached(what: str, most: int, fix: str) -> ApiError:
    """Return the error of a tenant that has used up a quota."""
    message = f"{what}. The limit of a tenant is {most}. {fix}"
    return ApiError(429, message, code="quota_reached", headers={"retry-after": "5"})


def no_room(left: int, most: int) -> ApiError:
    """Return the error of a batch or chat that needs more than the ``left`` bytes of the tenant's prompts and
    answers."""
    message = (
        f"The prompts and answers need more than the {left} bytes that are left of the tenant's {most}. fix: "
        "have old batches purged (`pointsman purge --tenant`), or ask for a larger stored_bytes of "
        "[tenant_quotas]."
    )
    return ApiError(413, message, code="quota_reached")
