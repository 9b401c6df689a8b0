"""Reads a response's body with a maximum number of bytes in memory."""

import asyncio
import zlib
from collections.abc import AsyncIterable, AsyncIterator
from typing import Final, TypeVar

import httpx

from providers.provider_errors import OVERSIZED, InvalidResponse

Body = TypeVar("Body", bytes, bytearray)

_ANY_ZLIB: Final = 32 + zlib.MAX_WBITS
"""zlib detects the header itself: gzip or deflate."""


STEP_BYTES: Final = 262_144
"""Maximum bytes inflated at a time, which takes a millisecond. A chunk of a bomb could otherwise become the whole cap
while the deadlines of all other calls wait."""


async def read_body(response: httpx.Response, *, cap: int) -> bytes:
    """Return the body of ``response``, decompressed. Raises as `read_capped` does, or what its transport raises."""
    # The raw pairs: each look into httpx's headers decodes all of them.
    raw = next((value for name, value in response.headers.raw if name.lower() == b"content-encoding"), b"")
    encoding, stream = raw.decode("latin-1"), response.stream
    if isinstance(stream, httpx.ByteStream) and not is_compressed(encoding):  # nearly always: it is in memory already
        return _within(cap, b"".join(stream))
    return await read_capped(stream, encoding=encoding, cap=cap)  # type: ignore[arg-type]


async def read_capped(chunks: AsyncIterable[bytes], *, encoding: str, cap: int) -> bytes:
    """Return the body, decompressed. Stops reading and raises InvalidResponse above ``cap`` bytes.

    A compressed chunk is inflated step by step, so that a bomb takes no more memory than a normal body.
    """
    body = bytearray()
    async for chunk in inflated(chunks) if is_compressed(encoding) else chunks:
        body += chunk
        _within(cap, body)
    return bytes(body)


def is_compressed(encoding: str) -> bool:
    """Whether a body with this Content-Encoding is to be inflated. Raises InvalidResponse for one that was not
    requested."""
    match encoding.strip().lower():
        case "" | "identity":
            return False
        case "gzip" | "x-gzip" | "deflate":
            return True
        case _:
            raise InvalidResponse("a body in an encoding that was not asked for")


async def inflated(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Yield a compressed body in pieces of at most `STEP_BYTES`.

    Raises InvalidResponse for one that is damaged or cut off, and for extra bytes behind it, because zlib would copy
    these each time.
    """
    inflater = zlib.decompressobj(_ANY_ZLIB)
    try:
        async for chunk in chunks:
            if inflater.eof and chunk:
                raise InvalidResponse("extra bytes after a compressed body")
            while True:
                step = inflater.decompress(chunk, STEP_BYTES)
                if step:
                    yield step
                chunk = inflater.unconsumed_tail
                if not chunk and len(step) < STEP_BYTES:  # a full step may have left some of its output inside
                    break
                await asyncio.sleep(0)
            if inflater.unused_data:
                raise InvalidResponse("extra bytes after a compressed body")
    except zlib.error as error:
        raise InvalidResponse("a compressed body that is damaged") from error
    if not inflater.eof:
        raise InvalidResponse("a compressed body that is cut")


def _within(cap: int, body: Body) -> Body:
    if len(body) > cap:
        raise InvalidResponse(f"a body of more than {cap} bytes", cause=OVERSIZED)
    return body
