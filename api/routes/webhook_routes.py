"""``/v1/webhook_endpoints``: where to tell of a batch's end. The same requests as the official clients make."""

import base64
import secrets
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.http_errors import bad_request, not_found
from api.responses import json_response
from api.routes.file_routes import page_object
from api.schemas import WebhookChange, WebhookCreate, WebhookDeleted, WebhookList, WebhookObject, WebhookWithSecret
from api.state import AppState, get_state, get_tenant
from api.webhook_client import ForbiddenAddress, parse_target
from db.webhook_store import Webhook

router = APIRouter(prefix="/v1/webhook_endpoints", tags=["webhooks"])

_SECRET_BYTES: Final = 32


@router.post("", operation_id="create_webhook", response_model=WebhookWithSecret)
async def create_webhook(request: Request, asked: WebhookCreate) -> Response:
    """Have a URL told of events. The secret, with which each message is signed, is told this once."""
    service, tenant = get_state(request), get_tenant(request)
    _check(asked.url, service)
    id_, secret = f"we_{secrets.token_hex(12)}", _mint()
    await service.webhooks.add(
        id_, tenant=tenant, name=asked.name, url=asked.url, events=asked.event_types, secret=secret
    )
    return json_response(webhook_object(await _the_webhook(request, id_)) | {"signing_secret": secret})


@router.get("", operation_id="list_webhooks", response_model=WebhookList)
async def list_webhooks(
    request: Request, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Response:
    """The webhooks, the newest first, a page at a time."""
    webhooks, tenant = get_state(request).webhooks, get_tenant(request)
    cursor = None
    if after is not None and (cursor := await webhooks.find(_sound(after), tenant=tenant)) is None:
        raise not_found("webhook", after, param="after")
    found = await webhooks.page(tenant=tenant, after=cursor, rows=limit + 1)
    return json_response(page_object([webhook_object(one) for one in found[:limit]], has_more=len(found) > limit))


@router.get("/{webhook_endpoint_id}", operation_id="retrieve_webhook", response_model=WebhookObject)
async def retrieve_webhook(request: Request, webhook_endpoint_id: str) -> Response:
    """One webhook."""
    return json_response(webhook_object(await _the_webhook(request, webhook_endpoint_id)))


@router.post("/{webhook_endpoint_id}", operation_id="change_webhook", response_model=WebhookObject)
async def change_webhook(request: Request, webhook_endpoint_id: str, asked: WebhookChange) -> Response:
    """Change what is given."""
    service, tenant = get_state(request), get_tenant(request)
    if asked.url is not None:
        _check(asked.url, service)
    await service.webhooks.change(
        _sound(webhook_endpoint_id), tenant=tenant, name=asked.name, url=asked.url, events=asked.event_types
    )
    return json_response(webhook_object(await _the_webhook(request, webhook_endpoint_id)))


@router.post(
    "/{webhook_endpoint_id}/rotate_secret", operation_id="rotate_webhook_secret", response_model=WebhookWithSecret
)
async def rotate_webhook_secret(request: Request, webhook_endpoint_id: str) -> Response:
    """A new secret; the old one signs nothing any more."""
    secret = _mint()
    webhooks = get_state(request).webhooks
    await webhooks.change(_sound(webhook_endpoint_id), tenant=get_tenant(request), secret=secret)
    webhook = await _the_webhook(request, webhook_endpoint_id)
    return json_response(webhook_object(webhook) | {"signing_secret": secret})


@router.delete("/{webhook_endpoint_id}", operation_id="delete_webhook", response_model=WebhookDeleted)
async def delete_webhook(request: Request, webhook_endpoint_id: str) -> Response:
    """Tell it nothing any more."""
    if not await get_state(request).webhooks.remove(_sound(webhook_endpoint_id), tenant=get_tenant(request)):
        raise not_found("webhook", webhook_endpoint_id)
    return json_response({"id": webhook_endpoint_id, "object": "webhook_endpoint.deleted", "deleted": True})


def webhook_object(webhook: Webhook) -> dict[str, Any]:
    """OpenAI's webhook endpoint object."""
    return {
        "id": webhook.id,
        "object": "webhook_endpoint",
        "name": webhook.name,
        "url": webhook.url,
        "event_types": list(webhook.events),
        "created_at": _unix(webhook.created_at),
        "updated_at": _unix(webhook.updated_at),
        "signing_secret_hint": f"whsec_…{webhook.secret[-4:]}",
    }


async def _the_webhook(request: Request, id_: str) -> Webhook:
    webhook = await get_state(request).webhooks.find(_sound(id_), tenant=get_tenant(request))
    if webhook is None:
        raise not_found("webhook", id_)
    return webhook


def _check(url: str, service: AppState) -> None:
    try:
        parse_target(url, private=service.config.private_webhooks)
    except ForbiddenAddress as error:
        raise bad_request(str(error), param="url", code="invalid_value") from error


def _mint() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def _sound(words: str) -> str:
    return words.replace("\0", "\ufffd")


def _unix(moment: datetime) -> int:
    return int(moment.timestamp())
