"""The Celery tasks: what a message of each queue does. A message contains ids, never a prompt.

``_next`` is what the next release adds to a message. During an upgrade both releases work, and this one ignores it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final

import structlog
from celery import Task

from db.batch_writer import BatchSpec
from db.pilots import Pilots, TakenPilot
from db.provider_batches import ProviderBatches, TakenBatch
from settings import Settings
from submission.forecaster import SERVED_BYTES, Forecaster
from submission.input_line import InvalidInput
from submission.line_reader import read_objects
from submission.reservoir_sample import ReservoirSample
from submission.submit import IdempotencyConflict, SubmitResult, submit_with_retry
from tasks.celery_app import app
from tasks.lanes.provider_batch_step import step_provider_batch
from tasks.pilot.decide_pilot import decide_pilot
from tasks.publisher import by_stage, publish
from tasks.stages.answer import answer
from tasks.stages.fallback import fall_back
from tasks.stages.route import route
from tasks.submit_arguments import read_arguments
from tasks.worker_context import EventLoopThread, WorkerContext
from telemetry.tracing import read_traceparent

log = structlog.get_logger()

Moved = Mapping[int, tuple[str, str]]

PLACE_S: Final = 1.0
"""Maximum seconds that a pilot or a step of a provider batch waits for a place in this process."""


class WorkerState:
    """The loop and context of a worker process. `workers` fills it before the first message."""

    settings: Settings
    loop: EventLoopThread
    context: WorkerContext


@app.task(name="route", bind=True)
def route_task(self: Task, stage: str, ids: Sequence[int], **_next: object) -> None:
    """Find the tier of each query. Queries of a redelivered or lost message are claimed first."""
    redelivered = bool((self.request.delivery_info or {}).get("redelivered"))
    _run_stage(stage, ids, route(ids, WorkerState.context, redelivered=redelivered))


@app.task(name="answer")
def answer_task(stage: str, ids: Sequence[int], **_next: object) -> None:
    """Have a model of tier ``stage`` answer each query."""
    _run_stage(stage, ids, answer(stage, ids, WorkerState.context))


@app.task(name="fallback")
def fallback_task(stage: str, ids: Sequence[int], **_next: object) -> None:
    """Decide what happens to each query whose answer was rejected."""
    _run_stage(stage, ids, fall_back(ids, WorkerState.context))


@app.task(name="decide_pilot")
def decide_pilot_task(batch_id: int, epoch: int, **_next: object) -> None:
    """Grade a batch's sample and certify a policy on it, or sample more."""
    context, taken = WorkerState.context, TakenPilot(batch_id, epoch)
    _run_beside(
        lambda: decide_pilot(taken, context), context.deciding, partial(Pilots(context.engine).hand_back, taken)
    )


@app.task(name="step_provider_batch")
def step_provider_batch_task(id: int, epoch: int, **_next: object) -> None:
    """Do the next steps of a provider batch: form, upload, create, poll, collect or cancel it."""
    context, taken = WorkerState.context, TakenBatch(id, epoch)
    _run_beside(
        lambda: step_provider_batch(taken, context),
        context.buying,
        partial(ProviderBatches(context.engine).hand_back, taken),
    )


@app.task(
    name="submit_queries",
    bind=True,
    Request="tasks.redacted_request:RedactedRequest",
    throws=(InvalidInput, IdempotencyConflict),
)
def submit_queries(self: Task, queries: object = None, **options: object) -> None:
    """A batch from a producer that only speaks Celery. ``queries`` are lines as in a file.

    ``budget_usd`` caps the batch; ``budget_policy`` is hold, fail or degrade. Without either the fleet's holds.
    ``quality`` is a floor relative to the top tier's answers, certified at ``confidence`` (0.95) on a sample of at most
    ``pilot`` queries, whose answers ``grader`` compares. ``priority`` is between -100 and 100; higher goes first.
    With ``dedup`` identical lines are asked only once at any temperature.
    ``within`` says when the answers are wanted, such as 90m, 24h or 2d: cheaper lanes of the fleet are used until then.
    A plan is stored with the batch.
    Without an ``idempotency_key`` the message's own id serves: delivered twice, it is one batch.
    Raises BadInput, which Flower shows, where a line or an argument is invalid; nothing is taken then.
    """
    try:
        given = read_arguments(queries, options)
        order = given.spec(
            default_key=f"celery:{self.request.id}",
            traceparent=read_traceparent((self.request.headers or {}).get("traceparent")),
        )
        submitted = _submit(given.queries, order)
    except (InvalidInput, IdempotencyConflict) as error:
        # Nobody waits for a result: who looks for what became of a message looks here, or into Flower.
        log.warning("submission_refused", task_id=self.request.id, why=str(error))
        raise
    log.info("submitted", batch=submitted.public_id, queries=submitted.total, duplicate=submitted.duplicate)
    for warning in submitted.warnings:
        log.warning("submitted_with", batch=submitted.public_id, warning=warning)


def _submit(queries: Sequence[Mapping[str, Any]], order: BatchSpec) -> SubmitResult:
    context, settings = WorkerState.context, WorkerState.settings
    return WorkerState.loop.run(
        submit_with_retry(
            lambda: read_objects(queries, fleet=context.fleet),
            engine=context.engine,
            fleet=context.fleet,
            spec=order,
            forecaster=lambda: Forecaster(
                settings, context.fleet, context.engine, order, ReservoirSample(max_bytes=SERVED_BYTES)
            ),
        )
    )


def _run_beside(
    work: Callable[[], Awaitable[None]], places: asyncio.Semaphore, hand_back: Callable[[], Awaitable[None]]
) -> None:
    """Start ``work`` in the background: it may take minutes, and the worker's threads route the queries of all tenants.

    Its message is acknowledged at once. Work that is lost with the worker is taken again after its lease. Work that
    finds no place within `PLACE_S` is handed back: the feeder publishes it again, and another worker may have a place.
    """

    async def run() -> None:
        try:
            try:
                await asyncio.wait_for(places.acquire(), PLACE_S)
            except TimeoutError:
                await hand_back()
                return
            try:
                await work()
            finally:
                places.release()
        except Exception as error:
            log.exception("work_failed", error=type(error).__name__)

    WorkerState.loop.call(lambda: WorkerState.context.spawn_background(run()))


def _run_stage(stage: str, ids: Sequence[int], work: Coroutine[Any, Any, Moved]) -> None:
    """Run one message's work on the worker's loop, then publish the moved queries to their next stage.

    Queries that cannot be published become ready again, and the feeder publishes them later.
    """
    moved = WorkerState.loop.run(work)
    for next_stage, queued in by_stage(moved).items():
        if unsent := publish(next_stage, queued, fleet=WorkerState.context.fleet):
            WorkerState.loop.run(WorkerState.context.ledger.requeue(next_stage, unsent))
    log.info("chunk_done", stage=stage, queries=len(ids), moved=len(moved))
