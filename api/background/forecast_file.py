"""The dry run of an uploaded file: checks each line as for a batch, and forecasts the cost. It creates nothing."""

from typing import Any, Final

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from api.background.isolated_thread import run_in_isolated_thread
from api.background.validate_batch import ShuttingDown, batch_errors, served_forecaster, stored_lines
from api.http_errors import conflict, name_fields, sentence, unavailable
from api.schemas import RowOptions
from api.state import AppState
from db.batch_writer import BatchSpec
from db.provider_batches import ProviderBatches
from endpoints.endpoint import Endpoint
from submission.dry_run import dry_run_report, is_covered, read_sample
from submission.forecast_json import forecast_as_json
from submission.input_line import InvalidInput
from submission.request_key import RequestKeys

log = structlog.get_logger()

LONGEST_S: Final = 60.0
"""Maximum seconds, because a client waits for the result."""


async def forecast_file(
    service: AppState, file_id: str, *, spec: BatchSpec, rows: RowOptions | None, endpoint: Endpoint
) -> dict[str, Any]:
    """Return the JSON of `pointsman submit --dry-run --json` with ``covered``, or ``errors`` as in a failed batch.

    Raises ApiError if the file or the router cannot be read.
    """
    from evaluation.data.dataset_errors import EvaluationError

    async def work(engine: AsyncEngine) -> dict[str, Any]:
        forecaster = served_forecaster(service, engine, spec)
        with stored_lines(service, file_id, spec.source, rows, endpoint, longest_s=LONGEST_S) as lines:
            read = read_sample(lines, RequestKeys(service.fleet, dedup=spec.dedup), forecaster.sample)
        if read.rejected:
            raise InvalidInput(read.rejections)
        forecast = forecast_as_json(await forecaster.forecast())
        ages = await ProviderBatches(engine).ages(simulated=service.fleet.simulated)
        report = dry_run_report(
            forecast,
            source=spec.source,
            spec=spec,
            fleet=service.fleet,
            read=read,
            ages=ages,
            warnings=[name_fields(warning) for warning in forecaster.warnings(forecast)],
        )
        return report | {"covered": is_covered(report), "errors": None}

    try:
        return await run_in_isolated_thread(work, database_url=service.database_url)
    except InvalidInput as error:
        return {"dry_run": True, "errors": {"object": "list", "data": batch_errors(error)}}
    except (ShuttingDown, OSError) as error:
        log.warning("dry_run_failed", error=type(error).__name__)
        raise unavailable() from error
    except EvaluationError as error:
        raise conflict(f"{sentence(str(error))}.", code="no_forecast") from error
