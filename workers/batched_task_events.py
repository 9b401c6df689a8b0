"""Sends task events to Flower in lists: once a second instead of three times per message.

Celery also buffers events, but only until the next turn of its loop, which for few, large tasks is after each event.
"""

from functools import partial
from typing import Any, Final

from celery import bootsteps
from celery.worker.consumer.events import Events

FLUSH_S: Final = 1.0
"""The maximum delay until Flower sees an event."""

MOST_AT_ONCE: Final = 200
"""The maximum events in one list. A full list is sent before the second is over."""


class BatchedTaskEvents(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery ships no types
    """A bootstep of a worker's consumer: makes its event dispatcher buffer, and flushes it while it runs."""

    requires = (Events,)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        """Start again after each loss of the broker, with the dispatcher of the new connection."""
        dispatcher = consumer.event_dispatcher
        dispatcher.buffer_group, dispatcher.buffer_limit = frozenset({"task"}), MOST_AT_ONCE
        dispatcher.on_send_buffered = None
        # A heartbeat that cannot be sent is repeated until the broker is back, and the worker notices no SIGTERM until
        # then; what is not sent stays in the dispatcher's buffer anyway.
        dispatcher.send = partial(_send_once, dispatcher.send)
        self._timer = consumer.timer.call_repeatedly(FLUSH_S, dispatcher.flush)

    def stop(self, consumer: Any) -> None:
        """Flush the rest. Without a broker Celery keeps it for the next connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if consumer.event_dispatcher is not None:
            consumer.event_dispatcher.flush()

    def shutdown(self, consumer: Any) -> None:
        """Flush the events of the last tasks."""
        self.stop(consumer)


def _send_once(send: Any, *arguments: Any, **options: Any) -> None:
    send(*arguments, **{**options, "retry": False})
