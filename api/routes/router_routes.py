"""``/v1/pointsman/routers``: lists the registered routers and the serving one, and promotes or rolls back."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.dashboard.router_info import evaluation_card
from api.http_errors import ApiError, conflict
from api.responses import JSON_OBJECT, json_response
from api.schemas import Name
from api.state import AppState, get_principal, get_state, get_tenant
from db import router_registry
from db.tenants import DEFAULT_TENANT

router = APIRouter(prefix="/v1/pointsman/routers", tags=["pointsman"])

_SHIPPED: Final = "default"


@router.get("", responses=JSON_OBJECT)
async def list_routers(request: Request) -> Response:
    """List the registered routers with their held-out figures, the serving one, and all promotions, oldest first."""
    return json_response(await _routers(_fleet_state(request)))


@router.post("/rollback", responses=JSON_OBJECT)
async def roll_back_router(request: Request) -> Response:
    """Return to the router that served before. Running workers load it within seconds."""
    from evaluation.data.dataset_errors import EvaluationError
    from trained_routers.promotion import roll_back

    service = _fleet_state(request)
    try:
        await roll_back(service.engine, by=_by(request))
    except EvaluationError as error:
        raise conflict(f"{error}.", code="nothing_promoted") from error
    return json_response(await _routers(service))


@router.post("/{name}/promote", responses=JSON_OBJECT)
async def promote_router(request: Request, name: Name) -> Response:
    """Make a registered router serve every fleet with `router.classifier` = `default`."""
    from evaluation.data.dataset_errors import EvaluationError
    from evaluation.models.artifact_cache import ArtifactCache
    from trained_routers.promotion import promote

    service = _fleet_state(request)
    try:
        cache = ArtifactCache(service.settings.home / "routers")
        await promote(service.engine, name, cache=cache, by=_by(request))
    except EvaluationError as error:
        raise conflict(f"{error}.", code="not_promoted", param="name") from error
    return json_response(await _routers(service))


async def _routers(service: AppState) -> Mapping[str, Any]:
    history = await router_registry.promotions(service.engine)
    serves = router_registry.newest(history)
    return {
        "promoted": _SHIPPED if serves is None else serves.name,
        "routers": [
            {
                "name": entry.name,
                "digest": entry.digest,
                "added_at": entry.added_at,
                "added_by": entry.added_by,
                "workload": entry.manifest.get("workload"),
                "evaluation": evaluation_card(entry.manifest),
            }
            for entry in await router_registry.registered(service.engine)
        ],
        "history": [asdict(promotion) for promotion in history],
    }


def _by(request: Request) -> str:
    return get_principal(request).key_name or DEFAULT_TENANT


def _fleet_state(request: Request) -> AppState:
    if get_tenant(request) != DEFAULT_TENANT:
        message = "The routers of the whole fleet need a key of the tenant `default`."
        raise ApiError(403, message, code="operators_only")
    return get_state(request)
