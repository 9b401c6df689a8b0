"""One HTTP POST to an address that was checked: no redirects, no proxies, no more of the response than its status."""

import asyncio
import re
import ssl
from collections.abc import Mapping
from typing import Final

from api.address import Target, resolve

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})[ \r\n]")
_MAX_LINE: Final = 4096


class Undelivered(Exception):
    """No response came; the message says why, in words of ours."""


async def post(target: Target, body: bytes, headers: Mapping[str, str], *, private: bool, timeout_s: float) -> int:
    """Sends ``body`` and returns the response's status. Raises Undelivered, or NotAllowed."""
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await _connect(target, private=private)
            try:
                writer.write(_request(target, body, headers))
                await writer.drain()
                return _status(await reader.readline())
            finally:
                writer.transport.abort()
    except TimeoutError as error:
        raise Undelivered(f"no response within {timeout_s:g} s") from error
    except ssl.SSLError as error:
        raise Undelivered("no secure connection") from error
    except (OSError, ValueError) as error:  # a line without an end, or a name that is none, is a ValueError
        raise Undelivered(f"no connection ({type(error).__name__})") from error


async def _connect(target: Target, *, private: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context() if target.secure else None
    failure = OSError("the name has no address")
    for address in await resolve(target, private=private):
        try:
            return await asyncio.open_connection(
                address,
                target.port,
                ssl=context,
                # The certificate is held against the name, although the connection goes to the address.
                server_hostname=target.host if context else None,
                limit=_MAX_LINE,
            )
        except ssl.SSLError:
            raise
        except OSError as error:
            failure = error
    raise failure


def _request(target: Target, body: bytes, headers: Mapping[str, str]) -> bytes:
    lines = [
        f"POST {target.path} HTTP/1.1",
        f"host: {target.authority}",
        "connection: close",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "user-agent: pointsman",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body


def _status(line: bytes) -> int:
    found = _STATUS.match(line)
    if found is None:
        raise Undelivered("the response is not HTTP")
    return int(found.group(1))
