"""Delivers webhook messages, signed by Standard Webhooks (https://www.standardwebhooks.com)."""

import asyncio
import base64
import hashlib
import hmac
import random
import time
from typing import Final

import orjson
import structlog

from api.state import AppState
from api.webhook_client import ForbiddenAddress, WebhookDeliveryError, parse_target, post_webhook
from db.webhook_store import WebhookMessage
from telemetry.tracing import suppress_tracing_errors, traces

log = structlog.get_logger()

RETRY_DELAYS_S: Final = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""Delays between attempts, as Standard Webhooks proposes: nine retries within about three days."""

_TIMEOUT_S: Final = 15.0
_LEASE_S: Final = 60.0
_MAX_CONCURRENT: Final = 20
_GONE: Final = 410


async def deliver(service: AppState) -> bool:
    """Deliver the messages that are due. Whether there were any."""
    messages = await service.webhooks.take_due(rows=_MAX_CONCURRENT, lease_s=_LEASE_S)
    await asyncio.gather(*(_deliver(message, service) for message in messages))
    return bool(messages)


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
        status = await post_webhook(target, body, headers, private=private, timeout_s=_TIMEOUT_S)
    except (ForbiddenAddress, WebhookDeliveryError) as error:
        return str(error), False
    return str(status), 200 <= status < 300


def payload(message: WebhookMessage) -> bytes:
    """OpenAI's event object as bytes: the same bytes are signed and sent."""
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
    """The headers that authenticate ``body``. ``now`` is in Unix seconds."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = b"%s.%d.%s" % (message_id.encode(), now, body)
    signature = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return {"webhook-id": message_id, "webhook-timestamp": str(now), "webhook-signature": f"v1,{signature}"}


def retry_delay_s(tries: int, *, draw: float) -> float | None:
    """Seconds until the next attempt after ``tries``, lengthened by up to a fifth; None after the last."""
    return RETRY_DELAYS_S[tries - 1] * (1 + draw / 5) if tries <= len(RETRY_DELAYS_S) else None
