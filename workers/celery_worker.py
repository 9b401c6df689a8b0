"""A Celery worker process: threads that take messages and wait, and one event loop that does the work."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

import structlog
from celery.signals import worker_ready, worker_shutting_down
from celery.worker.consumer import Consumer
from celery.worker.control import Panel
from celery.worker.state import active_requests

from routing.fleet import Fleet
from settings import Settings
from tasks.celery_app import app, queue_of
from tasks.celery_tasks import WorkerState
from tasks.worker_context import EventLoopThread, open_worker_context
from workers.batched_task_events import BatchedTaskEvents
from workers.process_setup import announce_ready, keep_progress, tune_gc
from workers.stop_deadline import enforce_stop

log = structlog.get_logger()

_DELAYS = "celery.worker.consumer.delayed_delivery:DelayedDelivery"
_KEPT_COMMANDS: Final = frozenset({"enable_events", "disable_events", "heartbeat"})
"""The commands by which Flower changes what a worker does. All others that change something could stop it."""


class PointsmanConsumer(Consumer):  # type: ignore[misc]  # Celery ships no types
    """A consumer that survives any message, and does not support delayed ones, which Pointsman does not send.

    Celery's ends the worker at a message that it cannot read. The message then comes back to the next worker. With
    quorum queues Celery declares 28 more queues at each start, and waits 20 s for each broker that is away.
    """

    def create_task_handler(self, *args: Any, **options: Any) -> Callable[[Any], None]:
        """Return what handles a message. One that cannot be handled is removed: its queries come again."""
        handle = super().create_task_handler(*args, **options)

        def handle_or_drop(message: Any) -> None:
            try:
                handle(message)
            except Exception as error:
                # kombu counts KeyError among the first, for reasons of its own.
                if isinstance(error, self.connection_errors) and not isinstance(error, KeyError):
                    raise
                log.warning("message_dropped", error=type(error).__name__)
                message.reject_log_error(log, self.connection_errors)

        return handle_or_drop

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        """The steps of a consumer's start."""

        default_steps: ClassVar[list[str]] = [each for each in Consumer.Blueprint.default_steps if each != _DELAYS]


def run_celery_worker(settings: Settings, fleet: Fleet, *, name: str, roles: Sequence[str]) -> None:
    """Serve the queues of ``roles`` until SIGTERM. Then finish claimed queries and release the rest."""
    loop = EventLoopThread()
    context, registry = loop.run(open_worker_context(settings, fleet, name=name, roles=roles))
    WorkerState.settings, WorkerState.loop, WorkerState.context = settings, loop, context
    background = [
        loop.start(keep_progress()),
        loop.start(context.beat(registry)),
        loop.start(context.watch_promotions()),
    ]
    loop.start(enforce_stop(context, under_way=active_requests))
    tune_gc()
    app.steps["consumer"].add(BatchedTaskEvents)
    app.conf.worker_consumer = PointsmanConsumer
    _ignore_commands()

    @worker_ready.connect(weak=False)
    def report_ready(**_: object) -> None:
        announce_ready(context.ledger.worker_id)

    @worker_shutting_down.connect(weak=False)
    def stop_claiming(**_: object) -> None:
        loop.call(context.stopping.set)

    try:
        app.worker_main(
            [
                # Else Celery takes BROKER_URL of the environment: without the password's file, and without sentinels.
                "--broker",
                app.conf.broker_url,
                "worker",
                "--pool",
                fleet.workers.pool,
                "--concurrency",
                str(fleet.workers.chunks_in_flight),
                "--queues",
                ",".join(queue_of(role, fleet) for role in roles),
                "--hostname",
                f"{name}@%h",
                "--loglevel",
                "WARNING",
                "--without-mingle",
                "--without-gossip",
            ]
        )
    finally:
        for future in background:
            future.cancel()
        loop.run(context.close(registry))
        loop.close()


def _ignore_commands() -> None:
    """Ignore what a client of the broker may tell all workers to do, such as to stop."""
    for name, about in Panel.meta.items():
        if about.type == "control" and name not in _KEPT_COMMANDS:
            Panel.data.pop(name, None)
