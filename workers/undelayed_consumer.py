"""A Celery consumer without what serves messages with a delay, of which Pointsman sends none."""

from typing import ClassVar

from celery.worker.consumer import Consumer

_DELAYS = "celery.worker.consumer.delayed_delivery:DelayedDelivery"


class UndelayedConsumer(Consumer):  # type: ignore[misc]  # Celery ships no types
    """With quorum queues Celery declares 28 more at each start, and waits 20 s for each broker that is away."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        """The steps of a consumer's start."""

        default_steps: ClassVar[list[str]] = [each for each in Consumer.Blueprint.default_steps if each != _DELAYS]
