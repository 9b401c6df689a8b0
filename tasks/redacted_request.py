"""Requests with events and log lines that hide their contents, because a producer's message contains prompts."""

from typing import Any

from celery.worker.request import Request

HIDDEN = "(not shown: prompts)"


class RedactedRequest(Request):  # type: ignore[misc]  # Celery ships no types
    """A request that Flower, events and logs show without its arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._argsrepr = self._kwargsrepr = HIDDEN
        # What a task sees as `self.request` is what a failure's report quotes.
        self._request_dict["argsrepr"] = self._request_dict["kwargsrepr"] = HIDDEN
