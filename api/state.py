"""What the routes work with: one per process, opened and closed with it."""

import asyncio
import secrets
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request

from api.api_config import ApiConfig
from api.auth import Authenticator
from api.batch_object import ENDED, batch_object, is_finalized, status_of
from api.completion_waiter import CompletionWaiter
from api.dashboard.collector import DashboardCollector
from api.dashboard.event_stream import DashboardStream
from api.dashboard.prometheus_collector import FleetMetrics
from api.http_errors import not_found
from api.request_metrics import Metrics
from api.responses import json_response
from api.single_flight_cache import SingleFlightCache
from api.tenant_rate_limit import TenantRateLimit
from db.api_batch_types import ApiBatch
from db.api_batches import ApiBatches
from db.engine import make_engine
from db.file_store import FileStore
from db.ledger import Ledger
from db.tenants import Tenants
from db.webhook_store import WebhookStore
from redis_client import connect
from routing.fleet import Fleet
from settings import Settings

GIVE_UP_S = 10.0
"""How long a move of the ledger is tried while Postgres is away and somebody waits for the response."""


@dataclass(frozen=True, slots=True)
class Status:
    """A batch as it was a moment ago, and its object as JSON."""

    batch: ApiBatch
    status: str
    body: bytes = field(repr=False)

    @property
    def ended(self) -> bool:
        """Whether nothing more becomes of it."""
        return self.status in ENDED


class AppState:
    """Everything that a request may need."""

    def __init__(self, settings: Settings, fleet: Fleet, config: ApiConfig, metrics: Metrics) -> None:
        self.settings = settings
        self.fleet = fleet
        self.config = config
        self.metrics = metrics
        self.database_url = settings.database_url
        self.engine: AsyncEngine = make_engine(settings.database_url, pool_size=10)
        self.files = FileStore(self.engine)
        self.batches = ApiBatches(self.engine)
        self.tenants = Tenants(self.engine)
        self.webhooks = WebhookStore(self.engine)
        self.ledger = Ledger(self.engine, give_up_s=GIVE_UP_S)
        self.keyring = Authenticator(self.tenants, keyless=config.on_loopback)
        self._redis = connect(settings.redis_url) if settings.redis_url else None
        self.rate = TenantRateLimit(self._redis, prefix=settings.key_prefix, process=secrets.token_hex(6))
        self.answers = CompletionWaiter(self.batches)
        self.stopping = asyncio.Event()
        self.figures = DashboardCollector(self.engine, fleet, redis=self._redis, key_prefix=settings.key_prefix)
        self.live = DashboardStream(self.figures, stopping=self.stopping)
        metrics.add(FleetMetrics(self.figures))
        self.validate_soon = asyncio.Event()
        """Set where a batch was made, so that it need not wait for the next look."""
        self.deliver_soon = asyncio.Event()
        self.deposits = asyncio.Semaphore(4)
        """A deposit holds two connections; were all taken by first ones, none would get its second."""
        self._statuses = SingleFlightCache(self._look_up, for_s=config.status_for_s)

    async def status(self, public_id: str, *, tenant: str, param: str = "batch_id") -> Status:
        """The tenant's batch as it was at most ``status_for_s`` ago. Raises ApiError where there is none."""
        found = await self._statuses((tenant, public_id)) if _is_public_id(public_id) else None
        if found is None:
            raise not_found("Batch", public_id, param=param)
        return found

    def is_polled(self, public_id: str, *, tenant: str) -> bool:
        """Whether the tenant asked for the status of such a batch lately."""
        return (tenant, public_id) in self._statuses

    async def status_now(self, public_id: str, *, tenant: str) -> Status:
        """The same as it is."""
        self._statuses.forget((tenant, public_id))
        return await self.status(public_id, tenant=tenant)

    async def _look_up(self, wanted: tuple[str, str]) -> Status | None:
        batch = await self.batches.find(wanted)
        if batch is None:
            return None
        if not batch.adopted:
            await self.batches.adopt(batch.tenant, [batch.public_id])
        elif batch.finalized_at is not None and batch.id is not None and not is_finalized(batch):
            await self.batches.reopen(batch.public_id)
        return Status(batch, status_of(batch), bytes(json_response(batch_object(batch)).body))

    async def close(self) -> None:
        """Closes every connection."""
        await self.live.close()
        if self._redis is not None:
            await self._redis.aclose()
        await self.engine.dispose()


def get_state(request: Request) -> AppState:
    """The service of the application that a request came to."""
    service: AppState = request.app.state.service
    return service


def get_tenant(request: Request) -> str:
    """Whose request it is, as the gate found."""
    tenant: str = request.state.tenant
    return tenant


def _is_public_id(public_id: str) -> bool:
    return public_id.startswith("batch_") and len(public_id) <= 80 and public_id.isascii() and public_id.isprintable()
