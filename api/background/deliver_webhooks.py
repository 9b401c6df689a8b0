"""Delivers webhook messages, signed by Standard Webhooks (https://www.standardwebhooks.com)."""

import asyncio
import base64
import hashlib
import hmac
import random
import time
from collections import Counter
from typing import Final

import orjson
import structlog

from api.state import AppState
from api.webhook_client import MOST_LOOKUPS, ForbiddenAddress, WebhookDeliveryError, parse_target, post_webhook
from db.webhook_store import WebhookMessage
from telemetry.tracing import suppress_tracing_errors, traces

log = structlog.get_logger()

RETRY_DELAYS_S: Final = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""Delays between attempts, as Standard Webhooks proposes: nine retries within about three days."""

_TIMEOUT_S: Final = 15.0
_RETRY_TIMEOUT_S: Final = 5.0
"""The timeout of a delivery after an earlier attempt of the same message failed."""
_LEASE_S: Final = 60.0
_MAX_CONCURRENT: Final = MOST_LOOKUPS
_SHARE: Final = 4
"""Maximum concurrent deliveries for one tenant, so that its slow receivers do not block other tenants."""
_GONE: Final = 410


class WebhookDeliveries:
    """The deliveries in progress. Each one makes room for the next when it ends."""

    def __init__(self) -> None:
        self._under_way: dict[asyncio.Task[None], str] = {}
        """The tenant of each delivery."""

    async def start_due(self, service: AppState) -> bool:
        """Start delivering due messages, as far as there is room. Return whether there were any."""
        free = _MAX_CONCURRENT - len(self._under_way)
        if free <= 0:
            return False
        messages = await service.webhooks.take_due(
            rows=free, lease_s=_LEASE_S, share=_SHARE, under_way=Counter(self._under_way.values())
        )
        for message in messages:
            task = asyncio.create_task(_deliver(message, service))
            self._under_way[task] = message.tenant
            task.add_done_callback(lambda task: self._ended(task, service))
        return bool(messages)

    async def finish(self) -> None:
        """Wait for the deliveries in progress."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None], service: AppState) -> None:
        del self._under_way[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("webhook_failed", error=type(error).__name__, exc_info=error)
        service.deliver_soon.set()


async def _deliver(message: WebhookMessage, service: AppState) -> None:
    began_ns = time.time_ns()
    result, delivered = await _send(message, private=service.config.private_webhooks)
    if (tracing := traces()) is not None:
        with suppress_tracing_errors():
            tracing.delivered(
                message.batch,
                {"pointsman.event": message.event, "pointsman.tries": message.tries, "pointsman.result": result},
                traceparent=message.traceparent,
                began_ns=began_ns,
                failed=not delivered,
            )
    is_final = delivered or result == str(_GONE)
    delay_s = None if is_final else retry_delay_s(message.tries, draw=random.random())  # noqa: S311
    await service.webhooks.settle(message, result, delivered=delivered, again_in_s=delay_s)
    if result == str(_GONE):
        await service.webhooks.stop(message.webhook_id)
    log.info("webhook", message=message.id, event_type=message.event, tries=message.tries, result=result)


async def _send(message: WebhookMessage, *, private: bool) -> tuple[str, bool]:
    body = payload(message)
    try:
        target = parse_target(message.url, private=private)
        headers = signature_headers(message.id, body, secret=message.secret, now=int(time.time()))
        timeout_s = _TIMEOUT_S if message.tries == 1 else _RETRY_TIMEOUT_S
        status = await post_webhook(target, body, headers, private=private, timeout_s=timeout_s)
    except (ForbiddenAddress, WebhookDeliveryError) as error:
        return str(error), False
    return str(status), 200 <= status < 300


def payload(message: WebhookMessage) -> bytes:
    """Return OpenAI's event object as bytes. The same bytes are signed and sent."""
    return orjson.dumps(
        {
            "id": message.id,
            "object": "event",
            "created_at": int(message.created_at.timestamp()),
            "type": message.event,
            "data": {"id": message.batch},
        }
    )


def signature_headers(message_id: str, body: bytes, *, secret: str, now: int) -> dict[str, str]:
    """Return the headers that authenticate ``body``. ``now`` is in Unix seconds."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = b"%s.%d.%s" % (message_id.encode(), now, body)
    signature = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(now), "webhook-signature": f"v1,{signature}"}


def retry_delay_s(tries: int, *, draw: float) -> float | None:
    """Return the seconds until the next attempt after ``tries``, with jitter of up to 20 %. None after the last
    attempt."""
    return RETRY_DELAYS_S[tries - 1] * (1 + draw / 5) if tries <= len(RETRY_DELAYS_S) else None
