"""``/v1/webhook_endpoints``: webhooks for the end of batches, with the requests of the official clients."""

import base64
import secrets
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.http_errors import bad_request, not_found
from api.responses import json_response, strip_nul, unix_s
from api.routes.file_routes import page_object
from api.schemas import WebhookChange, WebhookCreate, WebhookDeleted, WebhookList, WebhookObject, WebhookWithSecret
from api.state import AppState, get_state, get_tenant
from api.tenant_shares import quota_reached
from api.webhook_client import ForbiddenAddress, parse_target
from db.webhook_store import Webhook

router = APIRouter(prefix="/v1/webhook_endpoints", tags=["webhooks"])

_SECRET_BYTES: Final = 32


@router.post("", response_model=WebhookWithSecret)
async def create_webhook(request: Request, body: WebhookCreate) -> Response:
    """Register a URL for events. Only this response contains the secret that signs each message."""
    service, tenant = get_state(request), get_tenant(request)
    _check(body.url, service)
    id_, secret = f"we_{secrets.token_hex(12)}", _new_secret()
    most = service.fleet.tenant_quotas.webhooks
    if not await service.webhooks.add(
        id_, tenant=tenant, name=body.name, url=body.url, events=body.event_types, secret=secret, most=most
    ):
        raise quota_reached(f"{most} webhooks are registered", most, "Delete one, or change its events.")
    return json_response(webhook_object(await _find_webhook(request, id_)) | {"signing_secret": secret})


@router.get("", response_model=WebhookList)
async def list_webhooks(
    request: Request, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Response:
    """List the webhooks, newest first, page by page."""
    webhooks, tenant = get_state(request).webhooks, get_tenant(request)
    cursor = None
    if after is not None and (cursor := await webhooks.find(strip_nul(after), tenant=tenant)) is None:
        raise not_found("webhook", after, param="after")
    found = await webhooks.page(tenant=tenant, after=cursor, rows=limit + 1)
    return json_response(
        page_object([webhook_object(webhook) for webhook in found[:limit]], has_more=len(found) > limit)
    )


@router.get("/{webhook_endpoint_id}", response_model=WebhookObject)
async def retrieve_webhook(request: Request, webhook_endpoint_id: str) -> Response:
    """Return one webhook."""
    return json_response(webhook_object(await _find_webhook(request, webhook_endpoint_id)))


@router.post("/{webhook_endpoint_id}", response_model=WebhookObject)
async def change_webhook(request: Request, webhook_endpoint_id: str, body: WebhookChange) -> Response:
    """Change the fields in the body."""
    service, tenant = get_state(request), get_tenant(request)
    if body.url is not None:
        _check(body.url, service)
    await service.webhooks.change(
        strip_nul(webhook_endpoint_id), tenant=tenant, name=body.name, url=body.url, events=body.event_types
    )
    return json_response(webhook_object(await _find_webhook(request, webhook_endpoint_id)))


@router.post("/{webhook_endpoint_id}/rotate_secret", response_model=WebhookWithSecret)
async def rotate_webhook_secret(request: Request, webhook_endpoint_id: str) -> Response:
    """Replace the secret. The old one signs no further message."""
    secret = _new_secret()
    webhooks = get_state(request).webhooks
    await webhooks.change(strip_nul(webhook_endpoint_id), tenant=get_tenant(request), secret=secret)
    webhook = await _find_webhook(request, webhook_endpoint_id)
    return json_response(webhook_object(webhook) | {"signing_secret": secret})


@router.delete("/{webhook_endpoint_id}", response_model=WebhookDeleted)
async def delete_webhook(request: Request, webhook_endpoint_id: str) -> Response:
    """Remove the webhook. It receives no further message."""
    if not await get_state(request).webhooks.remove(strip_nul(webhook_endpoint_id), tenant=get_tenant(request)):
        raise not_found("webhook", webhook_endpoint_id)
    return json_response({"id": webhook_endpoint_id, "object": "webhook_endpoint.deleted", "deleted": True})


def webhook_object(webhook: Webhook) -> dict[str, Any]:
    """Return OpenAI's webhook endpoint object."""
    return {
        "id": webhook.id,
        "object": "webhook_endpoint",
        "name": webhook.name,
        "url": webhook.url,
        "event_types": list(webhook.events),
        "created_at": unix_s(webhook.created_at),
        "updated_at": unix_s(webhook.updated_at),
        "signing_secret_hint": f"whsec_…{webhook.secret[-4:]}",
    }


async def _find_webhook(request: Request, id_: str) -> Webhook:
    webhook = await get_state(request).webhooks.find(strip_nul(id_), tenant=get_tenant(request))
    if webhook is None:
        raise not_found("webhook", id_)
    return webhook


def _check(url: str, service: AppState) -> None:
    try:
        parse_target(url, private=service.config.private_webhooks)
    except ForbiddenAddress as error:
        raise bad_request(str(error), param="url", code="invalid_value") from error


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
