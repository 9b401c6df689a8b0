"""``/v1/pointsman/keys``: the API keys of the tenant."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from api.http_errors import not_found
from api.responses import JSON_OBJECT, json_response, unix_s
from api.schemas import KeyCreate
from api.state import get_state, get_tenant
from api.tenant_shares import quota_reached
from db.tenants import MOST_KEYS, ApiKey, TooManyKeys, key_id

router = APIRouter(prefix="/v1/pointsman/keys", tags=["pointsman"])


@router.get("", responses=JSON_OBJECT)
async def list_keys(request: Request) -> Response:
    """List the tenant's keys by their public part, oldest first: at most 1,000, with only the newest of the revoked
    ones."""
    found = await get_state(request).tenants.keys(tenant=get_tenant(request), most=MOST_KEYS)
    return json_response({"object": "list", "data": [_key_object(key) for key in found]})


@router.post("", responses=JSON_OBJECT)
async def create_key(request: Request, body: KeyCreate) -> Response:
    """Create a key of the tenant. Only this response shows it."""
    tenants, tenant = get_state(request).tenants, get_tenant(request)
    try:
        key = await tenants.create_key(tenant=tenant, name=body.name, role=body.role, most=MOST_KEYS)
    except TooManyKeys:
        what = f"The tenant has {MOST_KEYS} valid keys, or made {10 * MOST_KEYS} in a day or {100 * MOST_KEYS} in all"
        raise quota_reached(what, MOST_KEYS, "Revoke some, or ask the operator for `pointsman keys create`.") from None
    return json_response({"object": "key", "id": key_id(key), "name": body.name, "role": body.role, "key": key})


@router.delete("/{id}", responses=JSON_OBJECT)
async def revoke_key(request: Request, id: Annotated[str, Path(pattern="^[0-9a-f]{12}$")]) -> Response:
    """Revoke a key of the tenant. It stops working within one second."""
    if not await get_state(request).tenants.revoke_key(id, tenant=get_tenant(request)):
        raise not_found("key", id)
    return json_response({"object": "key", "id": id, "revoked": True})


def _key_object(key: ApiKey) -> dict[str, Any]:
    return {
        "object": "key",
        "id": key.id,
        "name": key.name,
        "role": key.role,
        "identity": key.identity,
        "created_at": unix_s(key.created_at),
        "revoked_at": unix_s(key.revoked_at),
    }
