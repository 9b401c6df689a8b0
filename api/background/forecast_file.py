"""The dry run of an uploaded file: checks each line as for a batch, and forecasts. Creates nothing."""

import io
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine

from api.background.isolated_thread import run_in_isolated_thread
from api.background.validate_batch import batch_errors, counted
from api.state import AppState
from db.batch_writer import BatchSpec
from db.file_store import PIECE_BYTES, StoredFile
from db.provider_batches import ProviderBatches
from endpoints.endpoint import Endpoint
from submission.dry_run import dry_run_report, is_covered, read_sample
from submission.forecast_json import forecast_as_json
from submission.forecaster import SERVED_BYTES, Forecaster
from submission.input_line import InputLimits, InvalidInput
from submission.input_queries import read_upload
from submission.request_key import RequestKeys
from submission.reservoir_sample import ReservoirSample
from submission.row_query import RowMapping

LONGEST_S: Final = 60.0
"""A client waits for it."""


async def forecast_file(
    service: AppState, file_id: str, *, spec: BatchSpec, mapping: RowMapping | None, endpoint: Endpoint
) -> dict[str, Any]:
    """What `pointsman submit --dry-run --json` prints, with ``covered``; or ``errors``, as a failed batch has them."""

    async def work(engine: AsyncEngine) -> dict[str, Any]:
        forecaster = Forecaster(
            service.settings,
            service.fleet,
            engine,
            cap_usd=spec.cap_usd,
            policy=spec.budget_policy,
            pilot=spec.pilot,
            sample=ReservoirSample(max_bytes=SERVED_BYTES),
        )
        with StoredFile(service.database_url, file_id) as raw, io.BufferedReader(raw, PIECE_BYTES) as stream:
            limits = InputLimits(max_bytes=8 * service.config.max_file_bytes, longest_s=LONGEST_S)
            keys = RequestKeys(service.fleet, dedup=spec.dedup)
            lines = read_upload(
                stream, mapping, name=spec.source, fleet=service.fleet, limits=limits, endpoint=endpoint
            )
            read = read_sample(counted(lines, service, longest_s=LONGEST_S), keys, forecaster.sample)
        if read.rejected:
            raise InvalidInput(read.rejections)
        forecast = forecast_as_json(await forecaster.forecast())
        ages = await ProviderBatches(engine).ages(simulated=service.fleet.simulated)
        report = dry_run_report(forecast, source=spec.source, spec=spec, fleet=service.fleet, read=read, ages=ages)
        return report | {"covered": is_covered(report), "errors": None}

    try:
        return await run_in_isolated_thread(work, database_url=service.database_url)
    except InvalidInput as error:
        return {"dry_run": True, "errors": {"object": "list", "data": batch_errors(error)}}
