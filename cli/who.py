"""Who typed the command: what the database keeps of those who label and promote."""

import getpass
import socket


def who() -> str:
    """``user@host``."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
