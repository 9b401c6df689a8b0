"""Whether the broker that the environment names can be reached: looked at before workers are started on it."""

from typing import Final

from amqp.exceptions import AMQPError
from kombu.connection import Connection
from kombu.exceptions import OperationalError

_PATIENCE_S: Final = 5.0


def reaches_broker(url: str) -> bool:
    """Whether a connection with these credentials can be had; takes at most some seconds."""
    options = {"socket_connect_timeout": _PATIENCE_S, "socket_timeout": _PATIENCE_S}
    try:
        made = Connection(url, connect_timeout=_PATIENCE_S, transport_options=options)  # type: ignore[no-untyped-call]  # kombu is half typed
        with made as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=_PATIENCE_S)
            channel = connection.default_channel  # Redis is only asked by its channel
            return channel is not None
    except (OperationalError, OSError, AMQPError):
        return False
