"""``/v1/models``: the model names that a line may request."""

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.http_errors import ApiError
from api.responses import json_response
from api.schemas import ModelList, ModelObject
from api.state import get_state
from routing.fleet import ANY_NAME, Fleet

router = APIRouter(prefix="/v1/models", tags=["models"])


@router.get("", response_model=ModelList)
async def list_models(request: Request) -> Response:
    """List the names that a line may request: ``auto``, which routes; tiers and models of the fleet, which pin; and
    aliases."""
    return json_response({"object": "list", "data": list(_models(get_state(request).fleet))})


@router.get("/{model:path}", response_model=ModelObject)
async def retrieve_model(request: Request, model: str) -> Response:
    """Return one model name."""
    fleet = get_state(request).fleet
    for known in _models(fleet):
        if known["id"] == model:
            return json_response(known)
    if ANY_NAME in fleet.aliases:
        return json_response(_object(model, "pointsman"))
    raise ApiError(404, f"The model '{model[:100]}' does not exist", param="model", code="model_not_found")


def _models(fleet: Fleet) -> Iterator[dict[str, Any]]:
    owners = {"auto": "pointsman"} | dict.fromkeys(fleet.tiers, "pointsman")
    for deployment in fleet.models.values():
        owners.setdefault(deployment.name, deployment.provider)
        owners.setdefault(deployment.model, deployment.provider)
    owners |= dict.fromkeys((alias for alias in fleet.aliases if alias != ANY_NAME), "pointsman")
    for name, owner in owners.items():
        yield _object(name, owner)


def _object(name: str, owner: str) -> dict[str, Any]:
    # A fleet has no creation dates.
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
