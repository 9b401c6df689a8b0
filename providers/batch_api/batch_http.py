"""Requests to a batch API: short ones with an answer in JSON, and streamed uploads and downloads."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import IO, Any, Final, NamedTuple, TypeAlias

import httpx
import orjson

from providers.answer_reading import decode, read_failure
from providers.batch_api.remote_batch import BatchCallFailed, BeforeSending
from providers.failure_kinds import kind_of, kind_of_status
from providers.provider_connection import ProviderConnection, time_limits
from providers.provider_errors import InvalidResponse
from providers.transport.failures import TRANSPORT_ERRORS, Cause, cause_of
from providers.transport.response_body import inflated, is_compressed, read_body
from routing.fleet import Provider
from routing.outcome import Failure, FailureKind

Address: TypeAlias = httpx.URL

MOST_JSON_BYTES: Final = 64_000_000
"""Maximum bytes of an answer in JSON. A page of a listing may hold the results of other programs' batches."""

_MOST_LINES: Final = 1_000_000
"""Maximum lines, including empty ones. No provider accepts so many calls in one batch."""

_ENVELOPE_BYTES: Final = 65_536
"""Bytes of a line of results around the body that a direct call would get."""

_CHUNK: Final = 262_144
_SPOOL_BYTES: Final = 4_000_000
"""Larger data waits on disk, in a file without a name that ends with this process."""

_SLOWEST_BYTES_PER_S: Final = 100_000.0
"""The minimum rate. An upload may take this long in addition to the provider's deadline, a download in addition to
`_SLOW_START_S`."""

_SLOW_START_S: Final = 300.0
_LONGEST_DOWNLOAD_S: Final = 3600.0

_SILENCE_S: Final = 60.0
"""A download that sends nothing for this many seconds has broken off."""


class BatchReply(NamedTuple):
    """A complete answer. ``body`` is its JSON. ``headers`` have lowercase names."""

    body: Any
    headers: Mapping[str, str]


class Spool(httpx.AsyncByteStream):
    """Bytes to send, in memory or on disk. A context manager."""

    def __init__(self) -> None:
        # Closed in __exit__.
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115
        self.bytes = 0

    def __enter__(self) -> "Spool":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self.bytes += len(data)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield all of it, from the start."""
        self._file.seek(0)
        while chunk := self._file.read(_CHUNK):
            yield chunk


class BatchHttp:
    """Sends through ``connection``. ``now`` gives Unix seconds. Every fault becomes a BatchCallFailed."""

    def __init__(self, connection: ProviderConnection, *, now: Callable[[], float] = time.time) -> None:
        self._connection = connection
        self.now = now
        self._host = httpx.URL(connection.provider.base_url).host

    @property
    def provider(self) -> Provider:
        return self._connection.provider

    def url(self, path: str, **query: str) -> Address:
        """Return ``path`` below the provider's ``base_url``."""
        return self._connection.url(path).copy_merge_params(query)

    def beside(self, root: str, path: str, **query: str) -> Address:
        """Return ``path`` at Google's file address: ``root`` goes before the last part of ``base_url``, the version."""
        base, _, version = self.provider.base_url.rpartition("/")
        return httpx.URL(f"{base}/{root}/{version}{path}").copy_merge_params({**self.provider.query, **query})

    def named(self, address: str) -> Address | None:
        """Return the provider's address if it is on the fleet's host, because our key is sent nowhere else."""
        try:
            url = httpx.URL(address)
        except httpx.InvalidURL:
            return None
        base = httpx.URL(self.provider.base_url)
        if (url.scheme, url.host, url.port) != (base.scheme, base.host, base.port):
            return None
        return url.copy_merge_params(self.provider.query)

    async def ask(
        self,
        method: str,
        url: Address,
        body: Mapping[str, Any] | Spool | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        before_sending: BeforeSending | None = None,
    ) -> BatchReply:
        """Return the answer to a request. ``body`` is JSON or ready bytes. Raises BatchCallFailed."""
        deadline_s = self.provider.deadline_s
        if isinstance(body, Spool):
            deadline_s += body.bytes / _SLOWEST_BYTES_PER_S
        if before_sending is not None:
            await before_sending(deadline_s)
        async with self._open(method, url, body, headers, deadline_s, within_s=deadline_s) as response:
            answer = decode(await read_body(response, cap=MOST_JSON_BYTES) or b"{}")
            return BatchReply(answer, {name.lower(): value for name, value in response.headers.items()})

    async def lines(self, url: Address, *, headers: Mapping[str, str] | None = None) -> AsyncIterator[bytes]:
        """Yield the lines of a download, as they arrive. Raises BatchCallFailed, also in the middle."""
        most_bytes = self.provider.max_response_bytes + _ENVELOPE_BYTES
        async with self._open("GET", url, None, headers, self.provider.deadline_s) as response:
            async for line in _split(_plain(response), most_bytes=most_bytes):
                yield line

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        url: Address,
        body: Mapping[str, Any] | Spool | None,
        given: Mapping[str, str] | None,
        deadline_s: float,
        *,
        within_s: float | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Return the response to a request once its head has arrived. Faults, also of the block, become
        BatchCallFailed.

        ``within_s``: the block has to end this long after the request.
        """
        request = self._request(method, url, body, given, deadline_s)
        status = None
        try:
            async with asyncio.timeout(within_s):
                response = await self._connection.transport().handle_async_request(request)
                try:
                    if response.status_code < 200:
                        raise httpx.RemoteProtocolError("an interim status in place of a response")
                    status = response.status_code
                    if kind_of_status(status) is not None:
                        async with asyncio.timeout(_SILENCE_S):
                            raise BatchCallFailed(await self._refusal(response))
                    yield response
                finally:
                    await response.aclose()
        except TimeoutError:
            raise _failed(status, Cause.DEADLINE, None) from None
        except TRANSPORT_ERRORS as error:
            raise _failed(status, cause_of(error), error) from error
        except InvalidResponse as error:
            raise BatchCallFailed(Failure(FailureKind.BROKEN_BODY, str(error), status=status)) from error

    def _request(
        self,
        method: str,
        url: Address,
        body: Mapping[str, Any] | Spool | None,
        given: Mapping[str, str] | None,
        deadline_s: float,
    ) -> httpx.Request:
        """Raises BatchCallFailed where the host is not the provider's, or there is no key."""
        if url.host != self._host:
            raise BatchCallFailed(
                Failure(FailureKind.NEVER_SENT, "its host is not the provider's", cause="foreign host")
            )
        key = self._connection.key()
        if isinstance(key, Failure):
            raise BatchCallFailed(key)
        headers = self._connection.headers(url.netloc.decode("ascii"), key) | dict(given or {})
        stream: httpx.AsyncByteStream
        if isinstance(body, Spool):
            stream, size = body, body.bytes
        else:
            content = b"" if body is None else orjson.dumps(body)
            stream, size = httpx.ByteStream(content), len(content)
        if body is not None or method == "POST":
            headers["content-length"] = str(size)
        return httpx.Request(
            method, url, headers=headers, stream=stream, extensions=time_limits(self.provider, deadline_s)
        )

    async def _refusal(self, response: httpx.Response) -> Failure:
        try:
            answer = decode(await read_body(response, cap=self.provider.max_response_bytes))
        except InvalidResponse:
            answer = {}  # an error without a readable body is still that error
        adapter = self._connection.adapter
        return read_failure(adapter, response.status_code, answer, headers=response.headers, now=self.now())


def _failed(status: int | None, cause: Cause, error: BaseException | None) -> BatchCallFailed:
    """Return the failure of a broken connection: before the status, or in the body that belongs to it."""
    if status is None:
        kind = FailureKind.UNKNOWN if error is None else kind_of(error)
    else:
        kind = kind_of_status(status) or FailureKind.BROKEN_BODY
    return BatchCallFailed(Failure(kind, cause.value, status=status, cause=cause.value))


async def _plain(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yield the body's chunks, decompressed."""
    encoding = response.headers.get("content-encoding", "")
    async for chunk in inflated(_timed(response)) if is_compressed(encoding) else _timed(response):
        yield chunk


async def _timed(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yield the body's chunks as they come. Raises TimeoutError after a silence, and if it is too slow or too long."""
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)
    chunks = stream.__aiter__()
    waited_s, received = 0.0, 0  # what is done with the chunks does not count
    while True:
        began = time.monotonic()
        try:
            async with asyncio.timeout(_SILENCE_S):
                chunk = await chunks.__anext__()
        except StopAsyncIteration:
            return
        received += len(chunk)
        waited_s += time.monotonic() - began
        if waited_s > min(_SLOW_START_S + received / _SLOWEST_BYTES_PER_S, _LONGEST_DOWNLOAD_S):
            raise TimeoutError
        yield chunk


async def _split(chunks: AsyncIterator[bytes], *, most_bytes: int) -> AsyncIterator[bytes]:
    """Yield the lines that are not empty. Raises InvalidResponse for one above ``most_bytes``, and for too many."""
    rest = bytearray()
    count = 0
    async for chunk in chunks:
        first, *others = chunk.split(b"\n")
        rest += first
        for each in others:
            if line := bytes(rest).strip():
                yield line
            rest = bytearray(each)
        count += len(others)
        if len(rest) > most_bytes:
            raise InvalidResponse(f"a line of more than {most_bytes} bytes")
        if count > _MOST_LINES:
            raise InvalidResponse(f"more than {_MOST_LINES} lines")
    if line := bytes(rest).strip():
        yield line
