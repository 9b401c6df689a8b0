"""OpenAI's Batch API, and whatever else speaks it: Azure, Groq, vLLM's server, gateways.

A file of lines is uploaded, a batch is made from it, and its results are in two files: answers, and everything else.
Source: https://platform.openai.com/docs/api-reference/batch and /files
"""

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, urlsplit

from providers.adapters import json_fields
from providers.adapters.error_codes import meaning_of, read_error
from providers.batch_api.batch_http import Address, BatchHttp, Spool
from providers.batch_api.batch_outcomes import BatchOutcomes, unreadable
from providers.batch_api.provider_batch_api import ProviderBatchApi
from providers.batch_api.remote_batch import (
    BatchResult,
    BeforeSending,
    RemoteBatch,
    RemoteCounts,
    RemoteState,
    broken_reply,
    not_run,
)
from routing.fleet import Protocol
from routing.outcome import Failure, FailureKind

_STATES: Final[Mapping[str, RemoteState]] = {
    "validating": RemoteState.IN_PROGRESS,
    "in_progress": RemoteState.IN_PROGRESS,
    "finalizing": RemoteState.IN_PROGRESS,
    "cancelling": RemoteState.IN_PROGRESS,
    "completed": RemoteState.ENDED,
    "expired": RemoteState.EXPIRED,
    "cancelled": RemoteState.CANCELLED,
    "canceled": RemoteState.CANCELLED,
    "failed": RemoteState.FAILED,
}
"""In any case of letters. A word that is not here, such as a gateway's ``queued``, is of a batch that is not over."""

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


class OpenAIBatches(ProviderBatchApi):
    """Of ``kind = "openai"``."""

    def __init__(self, http: BatchHttp, outcomes: BatchOutcomes) -> None:
        super().__init__(http, outcomes)
        host = f".{urlsplit(http.provider.base_url).hostname or ''}"
        self._endpoint = "/chat/completions" if host.endswith(_AZURE_HOSTS) else "/v1/chat/completions"

    async def upload(self, lines: AsyncIterator[bytes]) -> str | None:
        """By multipart/form-data (RFC 7578) with the fields purpose and file."""
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
        """With the marker in its metadata."""
        assert isinstance(source, str), "this dialect makes batches from files"
        asked = {
            "input_file_id": source,
            "endpoint": self._endpoint,
            "completion_window": _WINDOW,
            "metadata": {_MARKER: marker},
        }
        url = self._http.url("/batches")
        return self._read((await self._http.ask("POST", url, asked, before_sending=before_sending)).body)

    def _line(self, key: str, payload: Any) -> Mapping[str, Any]:
        return {"custom_id": key, "method": "POST", "url": self._endpoint, "body": payload}

    def _path(self, name: str, *, is_file: bool = False) -> str:
        return f"/{'files' if is_file else 'batches'}/{quote(name, safe='')}"

    def _output_url(self, remote: RemoteBatch, output: str) -> Address:
        return self._http.url(f"{self._path(output, is_file=True)}/content")

    async def _page(self, cursor: Mapping[str, str]) -> tuple[Sequence[RemoteBatch], Mapping[str, str] | None]:
        return await self._page_after("/batches", cursor, after="after")

    def _read(self, said: Any) -> RemoteBatch:
        known = json_fields.as_dict(said)
        status = json_fields.as_str(known.get("status")).lower()
        if not status:
            raise broken_reply("a batch without a status")
        counts = json_fields.as_dict(known.get("request_counts"))
        succeeded = None if counts.get("completed") is None else json_fields.as_count(counts["completed"])
        source = json_fields.identifier(known.get("input_file_id"))
        files = (json_fields.identifier(known.get(name)) for name in ("output_file_id", "error_file_id"))
        ended = (
            json_fields.number(known.get(f"{name}_at")) for name in ("completed", "failed", "expired", "cancelled")
        )
        return RemoteBatch(
            _id(known),
            _STATES.get(status, RemoteState.IN_PROGRESS),
            RemoteCounts(
                json_fields.as_count(counts.get("total")), succeeded, json_fields.as_count(counts.get("failed"))
            ),
            marker=json_fields.as_str(json_fields.as_dict(known.get("metadata")).get(_MARKER)) or None,
            created_at=json_fields.number(known.get("created_at")),
            ended_at=next((moment for moment in ended if moment is not None), None),
            failure=_refusal(known) if status == "failed" else None,
            outputs=tuple(filter(None, files)),
            inputs=(source,) if source else (),
        )

    def _result(self, line: Mapping[str, Any]) -> BatchResult:
        key = json_fields.as_str(line.get("custom_id"))
        error = json_fields.as_dict(line.get("error"))
        response = json_fields.as_dict(line.get("response"))
        code = json_fields.code(error.get("code"))
        if code in _NOT_RUN:
            return BatchResult(key, not_run(code))
        # Some gateways write the status of errors alone.
        status = json_fields.as_count(response.get("status_code", 200 if response.get("body") else None))
        has_body = 200 <= status <= 299 and bool(response.get("body"))
        if any(error.values()) and not has_body:  # beside a body, gateways write an error without values
            return BatchResult(key, self.outcomes.read(400, {"error": error}))
        if not 100 <= status <= 599:
            return BatchResult(key, unreadable())
        request_id = json_fields.identifier(response.get("request_id")) or None
        return BatchResult(key, self.outcomes.read(status, response.get("body"), request_id=request_id))


def _id(said: Any) -> str:
    """The id of an object. Raises BatchCallFailed where it has none."""
    if found := json_fields.identifier(json_fields.as_dict(said).get("id")):
        return found
    raise broken_reply("an object without an id")


def _refusal(known: Mapping[str, Any]) -> Failure:
    """Why a batch was refused as a whole: its first error, by the same table as any."""
    errors = json_fields.as_list(json_fields.as_dict(known.get("errors")).get("data"))
    first = json_fields.as_dict(next(iter(errors), None))
    meaning = meaning_of(Protocol.OPENAI, 400, read_error({"error": first}) if first else None)
    cause = meaning.code or "batch_failed"
    kind = _REFUSALS.get(cause, meaning.kind)
    return Failure(kind, f"the provider batch was refused: {cause}", cause=cause, param=meaning.param)
