"""A Celery worker process: threads that take messages and wait, and one loop that does the work."""

from collections.abc import Sequence

from celery.signals import worker_ready, worker_shutting_down

from routing.fleet import Fleet
from settings import Settings
from tasks.celery_app import app, queue_of
from tasks.celery_tasks import Post
from tasks.worker_context import Loop, open_station
from workers.batched_task_events import GroupedEvents
from workers.process_setup import announce_ready, spare_garbage


def run_celery_worker(settings: Settings, fleet: Fleet, *, name: str, roles: Sequence[str]) -> None:
    """Serves the queues of ``roles`` until SIGTERM; then finishes what is claimed and gives back the rest."""
    loop = Loop()
    station, presence = loop.run(open_station(settings, fleet, name=name, roles=roles))
    Post.settings, Post.loop, Post.station = settings, loop, station
    lasting = [loop.start(station.beat(presence)), loop.start(station.keep_up())]
    spare_garbage()
    app.steps["consumer"].add(GroupedEvents)

    @worker_ready.connect(weak=False)
    def tell_starter(**_: object) -> None:
        announce_ready()

    @worker_shutting_down.connect(weak=False)
    def stop_claiming(**_: object) -> None:
        loop.call(station.stopping.set)

    try:
        app.worker_main(
            [
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
        for each in lasting:
            each.cancel()
        loop.run(station.close(presence))
        loop.close()
