"""OpenAI's Batch API, and whatever else speaks it: Azure, Groq, vLLM's server, gateways.

A file of lines is uploaded, a batch is made from it, and its results are in two files: answers, and everything else.
Source: https://platform.openai.com/docs/api-reference/batch and /files
"""

import secrets
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlsplit

from providers.adapters import json_fields
from providers.adapters.error_codes import meaning_of, read_error
from providers.answer_reading import encode
from providers.batch_api.batch_http import MOST_PAGES, BatchHttp, Spool, endless_listing, listed
from providers.batch_api.batch_outcomes import BatchOutcomes, decode_line, unreadable
from providers.batch_api.provider_batch_api import (
    BatchCallFailed,
    BatchLine,
    BatchResult,
    BeforeSending,
    CreateAttempt,
    RemoteBatch,
    RemoteCounts,
    RemoteState,
    not_run,
)
from routing.fleet import Model, Protocol
from routing.outcome import Failure, FailureKind

_STATES: Final[Mapping[str, RemoteState]] = {
    "validating": RemoteState.IN_PROGRESS,
    "in_progress": RemoteState.IN_PROGRESS,
    "finalizing": RemoteState.IN_PROGRESS,
    "cancelling": RemoteState.IN_PROGRESS,
    "completed": RemoteState.ENDED,
    "expired": RemoteState.EXPIRED,
    "cancelled": RemoteState.CANCELLED,
    "failed": RemoteState.FAILED,
}

_REFUSALS: Final[Mapping[str, FailureKind]] = {
    "token_limit_exceeded": FailureKind.RATE_LIMITED,
    "request_limit_exceeded": FailureKind.RATE_LIMITED,
    "too_many_tasks": FailureKind.TOO_LARGE,
    "invalid_json_line": FailureKind.MALFORMED,
    "duplicate_custom_id": FailureKind.MALFORMED,
    "empty_file": FailureKind.MALFORMED,
}
"""Codes of a batch that is refused as a whole. The first two are of what is enqueued: they cost time alone."""

_NOT_RUN: Final = frozenset({"batch_expired", "batch_cancelled", "request_cancelled"})
"""Codes of lines that were never run."""

_AZURE_HOSTS: Final = (".azure.com", ".azure.us", ".azure-api.net")
"""Where the endpoint of a line has no version."""

_WINDOW: Final = "24h"
_MARKER: Final = "pointsman"
"""The key of our marker in a batch's metadata."""
_PAGE: Final = 100
_CLOCK_SKEW_S: Final = 300.0


class OpenAIBatches:
    """`ProviderBatchApi` for ``kind = "openai"``."""

    takes_files: Final = True
    can_find: Final = True
    listing_settles_s: Final = 60.0

    def __init__(self, http: BatchHttp, outcomes: BatchOutcomes) -> None:
        self._http = http
        self._outcomes = outcomes
        host = f".{urlsplit(http.provider.base_url).hostname or ''}"
        self._endpoint = "/chat/completions" if host.endswith(_AZURE_HOSTS) else "/v1/chat/completions"

    @property
    def model(self) -> Model:
        """The deployment."""
        return self._outcomes.model

    def line(self, key: str, body: Mapping[str, Any], *, added: frozenset[str] = frozenset()) -> BatchLine:
        """As in `ProviderBatchApi`."""
        prepared = self._outcomes.prepare(body, added)
        line = {"custom_id": key, "method": "POST", "url": self._endpoint, "body": prepared.payload}
        return BatchLine(encode(line), prepared.notes)

    async def upload(self, lines: AsyncIterator[bytes]) -> str | None:
        """As in `ProviderBatchApi`: multipart/form-data (RFC 7578) with the fields purpose and file."""
        boundary = secrets.token_hex(16)
        with Spool() as spool:
            part = f'--{boundary}\r\ncontent-disposition: form-data; name="%s"%s\r\n\r\n'
            spool.write((part % ("purpose", "") + "batch\r\n").encode())
            file = '; filename="batch.jsonl"\r\ncontent-type: application/jsonl'
            spool.write((part % ("file", file)).encode())
            async for line in lines:
                spool.write(line + b"\n")
            spool.write(f"\r\n--{boundary}--\r\n".encode())
            headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
            reply = await self._http.ask("POST", self._http.url("/files"), spool, headers=headers)
        return _id(reply.body)

    async def create(
        self, source: str | AsyncIterator[bytes], *, marker: str, before_sending: BeforeSending
    ) -> RemoteBatch:
        """As in `ProviderBatchApi`."""
        assert isinstance(source, str), "this dialect makes batches from files"
        asked = {
            "input_file_id": source,
            "endpoint": self._endpoint,
            "completion_window": _WINDOW,
            "metadata": {_MARKER: marker},
        }
        url = self._http.url("/batches")
        return _batch((await self._http.ask("POST", url, asked, before_sending=before_sending)).body)

    async def find(self, attempt: CreateAttempt, *, known: Collection[str] = ()) -> tuple[RemoteBatch, ...]:
        """As in `ProviderBatchApi`: pages back to the time of the attempt."""
        after: dict[str, str] = {}
        for _ in range(MOST_PAGES):
            reply = await self._http.ask("GET", self._http.url("/batches", limit=str(_PAGE), **after))
            page = [_batch(each) for each in listed(reply.body)]
            for batch in page:
                if batch.marker == attempt.marker:
                    return () if batch.id in known else (batch,)
            oldest = min((batch.created_at for batch in page if batch.created_at is not None), default=None)
            is_past = oldest is not None and oldest < attempt.sent_at - _CLOCK_SKEW_S
            if is_past or not page or json_fields.as_dict(reply.body).get("has_more") is not True:
                return ()
            after = {"after": page[-1].id}
        raise endless_listing()

    async def retrieve(self, remote_id: str) -> RemoteBatch:
        """As in `ProviderBatchApi`."""
        return _batch((await self._http.ask("GET", self._http.url(f"/batches/{quote(remote_id, safe='')}"))).body)

    async def cancel(self, remote_id: str) -> RemoteBatch:
        """As in `ProviderBatchApi`."""
        try:
            url = self._http.url(f"/batches/{quote(remote_id, safe='')}/cancel")
            return _batch((await self._http.ask("POST", url)).body)
        except BatchCallFailed as error:
            if error.failure.status in (400, 409) and (batch := await self.retrieve(remote_id)).is_over:
                return batch
            raise

    async def results(self, remote: RemoteBatch) -> AsyncIterator[BatchResult]:
        """As in `ProviderBatchApi`: the files of answers and of errors."""
        for file in remote.outputs:
            async for line in self._http.lines(self._http.url(f"/files/{quote(file, safe='')}/content")):
                yield self._result(line)._replace(size=len(line))

    async def discard(self, files: Sequence[str]) -> None:
        """As in `ProviderBatchApi`."""
        for file in files:
            try:
                await self._http.ask("DELETE", self._http.url(f"/files/{quote(file, safe='')}"))
            except BatchCallFailed as error:
                if not error.is_gone:
                    raise

    def _result(self, raw: bytes) -> BatchResult:
        line = decode_line(raw)
        key = json_fields.as_str(line.get("custom_id"))
        error = json_fields.as_dict(line.get("error"))
        response = json_fields.as_dict(line.get("response"))
        code = json_fields.code(error.get("code"))
        if code in _NOT_RUN:
            return BatchResult(key, not_run(code))
        if error:
            return BatchResult(key, self._outcomes.read(400, {"error": error}))
        status = json_fields.as_count(response.get("status_code"))
        if not 100 <= status <= 599:
            return BatchResult(key, unreadable())
        request_id = json_fields.identifier(response.get("request_id")) or None
        return BatchResult(key, self._outcomes.read(status, response.get("body"), request_id=request_id))


def _id(said: Any) -> str:
    """The id of an object. Raises BatchCallFailed where it has none."""
    if found := json_fields.identifier(json_fields.as_dict(said).get("id")):
        return found
    raise BatchCallFailed(Failure(FailureKind.BROKEN_BODY, "an object without an id", status=200))


def _batch(said: Any) -> RemoteBatch:
    """What a batch object says. Raises BatchCallFailed for what is none."""
    known = json_fields.as_dict(said)
    status = json_fields.as_str(known.get("status"))
    if status not in _STATES:
        raise BatchCallFailed(Failure(FailureKind.BROKEN_BODY, "a batch without a status that is known", status=200))
    counts = json_fields.as_dict(known.get("request_counts"))
    succeeded = None if counts.get("completed") is None else json_fields.as_count(counts["completed"])
    source = json_fields.identifier(known.get("input_file_id"))
    files = (json_fields.identifier(known.get(name)) for name in ("output_file_id", "error_file_id"))
    ended = (json_fields.number(known.get(f"{name}_at")) for name in ("completed", "failed", "expired", "cancelled"))
    return RemoteBatch(
        _id(known),
        _STATES[status],
        RemoteCounts(json_fields.as_count(counts.get("total")), succeeded, json_fields.as_count(counts.get("failed"))),
        marker=json_fields.as_str(json_fields.as_dict(known.get("metadata")).get(_MARKER)) or None,
        created_at=json_fields.number(known.get("created_at")),
        ends_at=json_fields.number(known.get("expires_at")),
        ended_at=next((moment for moment in ended if moment is not None), None),
        cancels=status == "cancelling",
        failure=_refusal(known) if status == "failed" else None,
        outputs=tuple(filter(None, files)),
        inputs=(source,) if source else (),
    )


def _refusal(known: Mapping[str, Any]) -> Failure:
    """Why a batch was refused as a whole: its first error, by the same table as any."""
    errors = json_fields.as_list(json_fields.as_dict(known.get("errors")).get("data"))
    first = json_fields.as_dict(next(iter(errors), None))
    meaning = meaning_of(Protocol.OPENAI, 400, read_error({"error": first}) if first else None)
    cause = meaning.code or "batch_failed"
    kind = _REFUSALS.get(cause, meaning.kind)
    return Failure(kind, f"the provider batch was refused: {cause}", cause=cause, param=meaning.param)
