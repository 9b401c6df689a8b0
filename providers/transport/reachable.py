"""Whether a server listens at an address, for reports."""

import socket


def accepts_connections(host: str, port: int, *, timeout_s: float) -> bool:
    """Whether a TCP connection to ``host`` can be made now."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s):
            return True
    except OSError:
        return False
