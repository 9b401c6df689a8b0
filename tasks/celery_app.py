"""The Celery application: its queues, and the settings that keep it from losing or hoarding messages.

Each setting that differs from Celery's default has its reason beside it. Known problems are in
docs/decisions/0003-celery-and-redis.md.
"""

import socket

from celery import Celery
from kombu.entity import Queue
from redis.backoff import NoBackoff
from redis.retry import Retry

from redis_client import SentinelAddress
from routing.fleet import Fleet
from routing.lifecycle import FALLBACK, INGEST, ROUTE
from settings import Settings
from tasks import redis_transport

app = Celery("pointsman", include=["tasks.celery_tasks"])


def queue_of(stage: str, fleet: Fleet) -> str:
    """Return the Celery queue of a stage: the tier's own name for it, else the stage's."""
    tier = fleet.tiers.get(stage)
    return tier.queue if tier else stage


def stages(fleet: Fleet) -> tuple[str, ...]:
    """Return every stage of a query: route, the tiers, fallback."""
    return (ROUTE, *fleet.tiers, FALLBACK)


def configure(settings: Settings, fleet: Fleet) -> Celery:
    """Connect the application to the broker and declare one queue per stage.

    Raises SettingsError if no broker is configured.
    """
    on_redis = not settings.broker_url.startswith(("amqp", "pyamqp"))
    sentinels = SentinelAddress.parse(settings.broker_url)
    if on_redis:
        redis_transport.install()
    app.conf.update(
        broker_url=settings.broker_url if sentinels is None else sentinels.celery_url,
        task_queues=[
            # On RabbitMQ a queue survives the loss of a host: it is copied to others of the cluster.
            Queue(queue_of(stage, fleet), queue_arguments=None if on_redis else {"x-queue-type": "quorum"})  # type: ignore[no-untyped-call]  # kombu is half typed
            for stage in (*stages(fleet), INGEST)
        ],
        task_default_queue=ROUTE,
        # Ids go in, nothing comes back: Postgres has the results.
        task_ignore_result=True,
        result_backend=None,
        accept_content=["json"],
        task_serializer="json",
        # A killed worker's message comes back; every task may run twice, for a claim is exclusive.
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=fleet.workers.prefetch,
        # The worker waits for its broker for ever: its supervisor judges it by progress.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A publisher does not: what it could not send it gives back to the feeder.
        task_publish_retry=False,
        broker_transport_options=redis_options(settings, sentinels) if on_redis else rabbitmq_options(settings),
        broker_connection_timeout=_CONNECT_S,
        # One message holds hundreds of queries, so the events that Flower needs are cheap.
        worker_send_task_events=False,
        task_send_sent_event=False,
        event_queue_expires=60,
        worker_hijack_root_logger=False,
        worker_disable_rate_limits=True,
        timezone="UTC",
    )
    return app


_KEEPALIVE = {
    name: value
    # Those that the system knows. A worker that waits for a message at a host that is gone would wait for hours.
    for option, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 2), ("TCP_USER_TIMEOUT", 15_000))
    if (name := getattr(socket, option, None)) is not None
}


_CONNECT_S = 4.0
"""Maximum seconds of one attempt to connect to a broker."""


def rabbitmq_options(settings: Settings) -> dict[str, object]:
    """Return Kombu's options for RabbitMQ, at one address or at several that are separated by semicolons."""
    hosts = settings.broker_url.count(";") + 1
    # A publisher tries each host in turn; with less time than that it would try the one that is gone for ever.
    return {"confirm_publish": True, "socket_settings": _KEEPALIVE, "connect_retries_timeout": _CONNECT_S * hosts}


def redis_options(settings: Settings, sentinels: SentinelAddress | None) -> dict[str, object]:
    """Return Kombu's options for Redis, at its own address or at the primary that sentinels name."""
    options: dict[str, object] = {
        "visibility_timeout": 900,
        # How long a worker that shall stop may hang on a broker that does not answer, a few times in a row.
        "socket_timeout": 3,
        "socket_connect_timeout": 5,
        "socket_keepalive": True,
        "socket_keepalive_options": _KEEPALIVE,
        "health_check_interval": 25,
        "retry_on_timeout": False,
        "global_keyprefix": settings.key_prefix,
        # Several queues on one worker take turns, so that a full one starves none.
        "queue_order_strategy": "round_robin",
    }
    if sentinels is not None:
        options["master_name"] = sentinels.name
        # One that is gone is not asked ten times, as redis-py 8 would: there are others.
        options["sentinel_kwargs"] = {"socket_timeout": 1, "socket_connect_timeout": 1, "retry": Retry(NoBackoff(), 0)}
    return options
