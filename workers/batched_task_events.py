"""Task events in lists: what Flower is told of messages leaves once a second, not three times per message.

Celery gathers events too, but only until its loop's next turn, which is after each of them where tasks are as few
and as large as ours.
"""

from typing import Any, Final

from celery import bootsteps
from celery.worker.consumer.events import Events

FLUSH_S: Final = 1.0
"""So much later, at most, does Flower see what a task has come to."""

MOST_AT_ONCE: Final = 200
"""Events in one list: so many are sent before the second is over."""


class BatchedTaskEvents(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """Part of a worker's consumer: sets its event dispatcher to lists, and sends them while it runs."""

    requires = (Events,)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        """Anew after each loss of the broker, with the dispatcher that Celery has made for the new connection."""
        dispatcher = consumer.event_dispatcher
        dispatcher.buffer_group, dispatcher.buffer_limit = frozenset({"task"}), MOST_AT_ONCE
        dispatcher.on_send_buffered = None
        self._timer = consumer.timer.call_repeatedly(FLUSH_S, dispatcher.flush)

    def stop(self, consumer: Any) -> None:
        """Sends what is left; where the broker is away, Celery keeps it for the next connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if consumer.event_dispatcher is not None:
            consumer.event_dispatcher.flush()

    def shutdown(self, consumer: Any) -> None:
        """The last tasks have ended by now."""
        self.stop(consumer)
