"""A request's body may be so large and no larger, whether or not it says its size beforehand."""

from typing import Final

from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

MOST_BYTES: Final = 1024**2
"""Of JSON that is read whole. A file is streamed, and a chat completion may be configured larger."""

_OWN_LIMIT: Final = frozenset({"/v1/files", "/v1/chat/completions"})


def bounded(scope: Scope, receive: Receive) -> Receive:
    """``receive`` that raises HTTPException 413 beyond `MOST_BYTES`, but for routes that have a limit of their own."""
    if scope["method"] in ("GET", "HEAD") or scope["path"] in _OWN_LIMIT:
        return receive
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MOST_BYTES:
            # The one kind of exception that FastAPI passes on from where it reads a body.
            raise HTTPException(413, f"The body is larger than {MOST_BYTES} bytes.")
        return message

    return counted
