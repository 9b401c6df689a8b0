"""The application's state, one per process, which the routes use."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from async_lru import alru_cache
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request

from api.api_config import ApiConfig
from api.auth import Authenticator, Principal
from api.batch_object import ENDED, batch_object, is_finalized, status_of
from api.completion_waiter import CompletionWaiter
from api.dashboard.collector import DashboardCollector
from api.dashboard.event_stream import DashboardStream
from api.dashboard.prometheus_collector import FleetMetrics
from api.http_errors import ApiError, not_found
from api.request_metrics import Metrics
from api.responses import json_response
from api.tenant_rate_limit import TenantRateLimit
from api.tenant_shares import HeldBody, TenantJobs, TenantShares, TenantTurns, no_room
from db.api_batch_types import ApiBatch
from db.api_batches import ApiBatches
from db.engine import ReadTooSlow, bounded_read, make_engine
from db.file_store import FileStore
from db.ledger import Ledger
from db.reports import run_report
from db.stored_bytes import stored_bytes
from db.tenants import Tenants
from db.webhook_store import WebhookStore
from redis_client import connect
from routing.fleet import Fleet
from settings import Settings

GIVE_UP_S = 10.0
"""How long, in seconds, a statement of the ledger is retried while Postgres is unavailable and a client waits."""

_PING_TTL_S = 0.5
_MAX_STATUSES = 10_000
_MAX_TENANTS = 10_000
_MOST_STREAMS = 1_000
_MOST_CHATS = 10_000
_MOST_MESSAGE_BATCHES = 32
_MOST_BODY_BYTES = 36 * 1024**2
"""Maximum body bytes per tenant: the largest request (a message batch) plus small ones."""
_MOST_BODY_BYTES_IN_ALL = 128 * 1024**2
_CONNECTIONS = 10
_REQUESTS_AT_ONCE = 4
"""Maximum concurrent requests per tenant that use connections to Postgres and are not long-lived streams. It is below
`_CONNECTIONS`."""
_CHATS_CHECKED_AT_ONCE = 2
"""Maximum chat completions per tenant that are checked at the same time."""
_ANSWERS_SENT_AT_ONCE = 8
"""Maximum answers per tenant that are sent at the same time. An answer of megabytes is in memory until the client has
read it."""
READ_S = 10.0
"""Maximum seconds of one request's statements that may read all of a tenant's batches."""
_HEAVY_READS_AT_ONCE = 2
_HEAVY_READS_IN_ALL = 6
"""Maximum such requests of all tenants: less than half of the connections, however slow they are."""
_MOST_REQUESTS = 1_000
_MOST_REQUESTS_IN_ALL = 5_000
"""Maximum requests of all tenants that use connections: half of the connections."""
_MOST_DOWNLOADS = 16
_MOST_DOWNLOADS_IN_ALL = 128
"""Maximum downloads of all tenants. Each holds a page of a file, however slowly the client reads."""
_MOST_UPLOADS = 16
_MOST_UPLOADS_IN_ALL = 64
"""Maximum uploads of all tenants. Each holds some megabytes, and is parsed between other requests."""
_MOST_DRY_RUNS = 2
"""Maximum dry runs. Each is a thread that reads a file."""


@dataclass(frozen=True, slots=True)
class Status:
    """A batch as of its last read, and its object as JSON."""

    batch: ApiBatch
    status: str
    body: bytes = field(repr=False)

    @property
    def ended(self) -> bool:
        """Whether the status is final."""
        return self.status in ENDED


class AppState:
    """Everything that a request may need. It opens with the process and closes with it."""

    def __init__(self, settings: Settings, fleet: Fleet, config: ApiConfig, metrics: Metrics) -> None:
        self.settings = settings
        self.fleet = fleet
        self.config = config
        self.metrics = metrics
        self.database_url = settings.database_url
        self.engine: AsyncEngine = make_engine(settings.database_url, pool_size=_CONNECTIONS)
        self.files = FileStore(self.engine)
        self.batches = ApiBatches(self.engine)
        self.tenants = Tenants(self.engine)
        self.webhooks = WebhookStore(self.engine)
        self.ledger = Ledger(self.engine, give_up_s=GIVE_UP_S)
        self.authenticator = Authenticator(self.tenants, keyless=config.on_loopback, proxy=config.proxy)
        self._redis = connect(settings.redis_url) if settings.redis_url else None
        self.rate = TenantRateLimit(self._redis, prefix=settings.key_prefix, process=secrets.token_hex(6))
        self.completions = CompletionWaiter(self.batches)
        self.stopping = asyncio.Event()
        self.figures = DashboardCollector(self.engine, fleet, redis=self._redis, key_prefix=settings.key_prefix)
        quotas = fleet.tenant_quotas
        self.streams = TenantShares("streams", most=quotas.streams, most_in_all=_MOST_STREAMS)
        self.chats = TenantShares("chat completions", most=quotas.waiting_chats, most_in_all=_MOST_CHATS)
        self.dry_runs = TenantShares("dry runs", most=1, most_in_all=_MOST_DRY_RUNS)
        self.message_batches = TenantShares("message batches", most=2, most_in_all=_MOST_MESSAGE_BATCHES)
        """Requests that are being read and checked. Each is in memory as a whole."""
        self.downloads = TenantShares("downloads", most=_MOST_DOWNLOADS, most_in_all=_MOST_DOWNLOADS_IN_ALL)
        self.uploads = TenantShares("uploads", most=_MOST_UPLOADS, most_in_all=_MOST_UPLOADS_IN_ALL)
        self.turns = TenantTurns(_REQUESTS_AT_ONCE)
        self.requests = TenantShares("requests", most=_MOST_REQUESTS, most_in_all=_MOST_REQUESTS_IN_ALL)
        """Requests that wait for a turn, or have one."""
        self.bodies = TenantShares(
            "bytes of request bodies", most=_MOST_BODY_BYTES, most_in_all=_MOST_BODY_BYTES_IN_ALL
        )
        self.live = DashboardStream(self.figures, stopping=self.stopping)
        metrics.add(FleetMetrics(self.figures))
        self.validate_soon = asyncio.Event()
        """Set when a batch is created, so that its validation does not wait for the next poll."""
        self.deliver_soon = asyncio.Event()
        self.checks = asyncio.Semaphore(1)
        """A schema is compiled without interruption for up to 0.2 s, so schemas are compiled one at a time, with other
        work in between."""
        self.validations, self.finalizations = TenantJobs(), TenantJobs()
        self.chat_turns = TenantTurns(_CHATS_CHECKED_AT_ONCE)
        """Acquired before ``submissions`` and ``checks``, which serve requests in order of arrival, so that a tenant's
        many requests wait here."""
        self._heavy_turns = TenantTurns(_HEAVY_READS_AT_ONCE)
        """Acquired before ``_heavy_reads``, as ``chat_turns``."""
        self._heavy_reads = asyncio.Semaphore(_HEAVY_READS_IN_ALL)
        self.answers = TenantTurns(_ANSWERS_SENT_AT_ONCE)
        self.submissions = asyncio.Semaphore(4)
        """A submission holds two connections. With more submissions at once, none might get its second connection."""
        self._stored_bytes = alru_cache(maxsize=_MAX_TENANTS, ttl=config.status_ttl_s)(
            partial(stored_bytes, self.engine)
        )
        self.ask_postgres = alru_cache(ttl=_PING_TTL_S)(self._ask_postgres)
        """One query for all requests within `_PING_TTL_S`, because `/readyz` needs no key."""
        self._read_status = alru_cache(maxsize=_MAX_STATUSES, ttl=config.status_ttl_s)(self._read_status_now)

    async def status(self, public_id: str, *, tenant: str, param: str = "batch_id") -> Status:
        """Return the tenant's batch, at most ``status_ttl_s`` old. Raises ApiError 404 for an unknown id."""
        found = await self._read_status(tenant, public_id) if is_public_id(public_id) else None
        if found is None:
            raise not_found("Batch", public_id, param=param)
        return found

    async def status_now(self, public_id: str, *, tenant: str) -> Status:
        """Return the tenant's current batch. Raises ApiError 404 for an unknown id."""
        self._read_status.cache_invalidate(tenant, public_id)
        return await self.status(public_id, tenant=tenant)

    async def _read_status_now(self, tenant: str, public_id: str) -> Status | None:
        batch = await self.batches.find(public_id, tenant=tenant)
        if batch is None:
            return None
        if not batch.adopted:
            await self.batches.adopt(batch.tenant, [batch.public_id])
        elif batch.finalized_at is not None and batch.id is not None and not is_finalized(batch):
            await self.batches.reopen(batch.public_id)
        return Status(batch, status_of(batch), bytes(json_response(batch_object(batch)).body))

    @asynccontextmanager
    async def heavy_read(self, tenant: str, *, fix: str) -> AsyncIterator[None]:
        """Hold a turn for statements that may read all of a tenant's batches. Raises ApiError 503 after `READ_S`."""
        async with self._heavy_turns.of(tenant), self._heavy_reads:
            try:
                with bounded_read(READ_S):
                    yield
            except ReadTooSlow:
                message = f"Reading this took longer than the limit of {READ_S:g} s. fix: {fix}."
                raise ApiError(503, message, kind="server_error", code="read_too_slow", should_retry=False) from None

    async def check_stored(self, tenant: str) -> None:
        """Raise ApiError 413 if the tenant's batches had used up its quota at most ``status_ttl_s`` ago."""
        most = self.fleet.tenant_quotas.stored_bytes
        if await self._stored_bytes(tenant) >= most:
            raise no_room(0, most)

    async def _ask_postgres(self) -> None:
        await run_report(self.engine, "dashboard_clock")

    async def close(self) -> None:
        """Close every connection."""
        await self.live.close()
        if self._redis is not None:
            await self._redis.aclose()
        await self.engine.dispose()


def get_state(request: Request) -> AppState:
    """Return the state of the application that serves the request."""
    service: AppState = request.app.state.service
    return service


def get_principal(request: Request) -> Principal:
    """Return the caller that the middleware found."""
    principal: Principal = request.state.principal
    return principal


def get_tenant(request: Request) -> str:
    return get_principal(request).tenant


def get_recheck(request: Request) -> Callable[[], Awaitable[bool]]:
    """Return a function that checks whether the request's key is still valid. A stream calls it before each of its
    turns."""
    recheck: Callable[[], Awaitable[bool]] = request.state.recheck
    return recheck


def get_held_body(request: Request) -> HeldBody:
    """Return the counter of the request's body, for a route that waits long after it needs the body."""
    held: HeldBody = request.state.held_body
    return held


def get_until_sent(request: Request) -> AsyncExitStack:
    """Return an exit stack that closes when the response has been sent, and read except for `MAX_UNSENT_BYTES`."""
    until_sent: AsyncExitStack = request.state.until_sent
    return until_sent


def is_public_id(text: str) -> bool:
    """Whether ``text`` has the form of a batch's public id."""
    return text.startswith("batch_") and len(text) <= 80 and text.isascii() and text.isprintable() and "/" not in text
