"""Logs as JSON lines on stderr: an event's name and its fields; never a prompt, an answer or a key."""

import logging
import sys
from collections.abc import MutableMapping
from traceback import extract_tb
from typing import Any

import structlog


def configure_logging(level: str) -> None:
    """Sends structlog's and the libraries' logs to stderr from ``level`` up."""
    number = logging.getLevelNamesMapping()[level]
    logging.basicConfig(level=max(number, logging.WARNING), stream=sys.stderr, force=True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _where_it_failed,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def _where_it_failed(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An exception's kind and places. Never its message or locals: they may quote a prompt or a key."""
    if event.pop("exc_info", None):
        kind, _value, trace = sys.exc_info()
        event["exception"] = kind.__name__ if kind else None
        event["frames"] = [f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in extract_tb(trace)][-8:]
    return event
