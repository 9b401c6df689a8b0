"""``/v1/pointsman/dry_run``: forecasts the cost and duration of a batch before it is created."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.background.forecast_file import forecast_file
from api.responses import JSON_OBJECT, json_response, strip_nul
from api.routes.batch_routes import input_file, read_endpoint, read_pilot, window_s
from api.schemas import BatchCreate, BatchOptions
from api.state import get_state, get_tenant
from db.batch_writer import BatchSpec
from routing.fleet import BudgetPolicy

router = APIRouter(prefix="/v1/pointsman", tags=["pointsman"])


@router.post("/dry_run", responses=JSON_OBJECT)
async def dry_run(request: Request, body: BatchCreate) -> Response:
    """Forecast the cost and duration of a batch of an uploaded file. The body is that of a new batch. Creates
    nothing."""
    service, tenant = get_state(request), get_tenant(request)
    options = body.pointsman or BatchOptions()
    endpoint, pilot = read_endpoint(body, service.fleet), read_pilot(options, service.fleet)
    file = await input_file(strip_nul(body.input_file_id), service, tenant=tenant)
    spec = BatchSpec(
        source=file.filename,
        tenant=tenant,
        cap_usd=options.max_cost_usd,
        budget_policy=BudgetPolicy(options.budget_policy) if options.budget_policy else None,
        dedup=options.dedup,
        pilot=pilot,
        deadline=datetime.now(UTC) + timedelta(seconds=window_s(body.completion_window)),
    )
    with service.dry_runs.opened(tenant):
        report = await forecast_file(service, file.id, spec=spec, rows=options.rows, endpoint=endpoint)
    day = await service.tenants.day_budget(tenant)
    return json_response(report | {"day_budget": day and {name: float(usd) for name, usd in asdict(day).items()}})
