"""JSON logs on stderr: an event name and fields, but never a prompt, an answer or a key."""

import logging
import sys
from collections.abc import MutableMapping
from traceback import extract_tb
from typing import Any

import structlog


def configure_logging(level: str) -> None:
    """Send the logs of structlog and of libraries to stderr, from ``level`` up."""
    number = logging.getLevelNamesMapping()[level]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_processors()],
        )
    )
    logging.basicConfig(level=max(number, logging.WARNING), handlers=[handler], force=True)
    structlog.configure(
        processors=_processors(),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )


def configure_command_logging() -> None:
    """Send warnings and errors of structlog to the current stderr, because a command's stdout is its output."""
    structlog.configure(
        processors=[_only_warnings, *_processors()],
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _processors() -> list[structlog.typing.Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _format_exception,
        structlog.processors.JSONRenderer(),
    ]


def _only_warnings(_: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if method in ("debug", "info"):
        raise structlog.DropEvent
    return event


def _format_exception(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Return an exception's type and frames, but never its message or locals, which may quote a prompt or a key."""
    if given := event.pop("exc_info", None):
        kind, _value, trace = given if isinstance(given, tuple) else sys.exc_info()
        event["exception"] = kind.__name__ if kind else None
        event["frames"] = [f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in extract_tb(trace)][-8:]
    return event
