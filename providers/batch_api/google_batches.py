"""Google's batch mode. Source: https://ai.google.dev/api/batch-api and https://ai.google.dev/api/files

A file of lines is uploaded, a batch is made from it, and one file has its results, once it has ended.
"""

import re
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from providers.adapters import json_fields
from providers.adapters.error_codes import meaning_of, read_error
from providers.answer_reading import encode
from providers.batch_api.batch_http import MOST_PAGES, BatchHttp, Spool, endless_listing
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
    "PENDING": RemoteState.IN_PROGRESS,
    "RUNNING": RemoteState.IN_PROGRESS,
    "UNSPECIFIED": RemoteState.IN_PROGRESS,
    "SUCCEEDED": RemoteState.ENDED,
    "FAILED": RemoteState.FAILED,
    "CANCELLED": RemoteState.CANCELLED,
    "EXPIRED": RemoteState.EXPIRED,
}
"""By the last word of the state: its prefix is BATCH_STATE_ or JOB_STATE_."""

_CODES: Final[Mapping[int, tuple[str, int]]] = {
    1: ("CANCELLED", 499),
    2: ("UNKNOWN", 500),
    3: ("INVALID_ARGUMENT", 400),
    4: ("DEADLINE_EXCEEDED", 504),
    5: ("NOT_FOUND", 404),
    7: ("PERMISSION_DENIED", 403),
    8: ("RESOURCE_EXHAUSTED", 429),
    9: ("FAILED_PRECONDITION", 400),
    10: ("ABORTED", 409),
    11: ("OUT_OF_RANGE", 400),
    12: ("UNIMPLEMENTED", 501),
    13: ("INTERNAL", 500),
    14: ("UNAVAILABLE", 503),
    15: ("DATA_LOSS", 500),
    16: ("UNAUTHENTICATED", 401),
}
"""google.rpc.Code: its name, and the status of a direct call. Source: google/rpc/code.proto"""

_WINDOW_S: Final = 48 * 3600.0
"""After which a batch expires."""
_INT64: Final = re.compile(r"[0-9]{1,19}")
_PAGE: Final = 50
_CLOCK_SKEW_S: Final = 300.0


class GoogleBatches:
    """`ProviderBatchApi` for ``kind = "google"``."""

    takes_files: Final = True
    can_find: Final = True
    listing_settles_s: Final = 60.0

    def __init__(self, http: BatchHttp, outcomes: BatchOutcomes) -> None:
        self._http = http
        self._outcomes = outcomes

    @property
    def model(self) -> Model:
        """The deployment."""
        return self._outcomes.model

    def line(self, key: str, body: Mapping[str, Any], *, added: frozenset[str] = frozenset()) -> BatchLine:
        """As in `ProviderBatchApi`."""
        prepared = self._outcomes.prepare(body, added)
        return BatchLine(encode({"key": key, "request": prepared.payload}), prepared.notes)

    async def upload(self, lines: AsyncIterator[bytes]) -> str | None:
        """As in `ProviderBatchApi`: the resumable protocol, in one piece."""
        with Spool() as spool:
            async for line in lines:
                spool.write(line + b"\n")
            start = {
                "x-goog-upload-protocol": "resumable",
                "x-goog-upload-command": "start",
                "x-goog-upload-header-content-length": str(spool.bytes),
                "x-goog-upload-header-content-type": "application/jsonl",
            }
            about = {"file": {"displayName": "batch.jsonl"}}
            reply = await self._http.ask("POST", self._http.beside("upload", "/files"), about, headers=start)
            url = self._http.named(reply.headers.get("x-goog-upload-url", ""))
            if url is None:
                raise BatchCallFailed(
                    Failure(FailureKind.BROKEN_BODY, "no address for the upload on the provider's host", status=200)
                )
            send = {
                "content-type": "application/octet-stream",
                "x-goog-upload-offset": "0",
                "x-goog-upload-command": "upload, finalize",
            }
            reply = await self._http.ask("POST", url, spool, headers=send)
        return _name(json_fields.as_dict(json_fields.as_dict(reply.body).get("file")))

    async def create(
        self, source: str | AsyncIterator[bytes], *, marker: str, before_sending: BeforeSending
    ) -> RemoteBatch:
        """As in `ProviderBatchApi`. The marker is the batch's name for people."""
        assert isinstance(source, str), "this dialect makes batches from files"
        asked = {"batch": {"displayName": marker, "inputConfig": {"fileName": source}}}
        url = self._http.url(self._outcomes.path.replace(":generateContent", ":batchGenerateContent"))
        return _batch((await self._http.ask("POST", url, asked, before_sending=before_sending)).body)

    async def find(self, attempt: CreateAttempt, *, known: Collection[str] = ()) -> tuple[RemoteBatch, ...]:
        """As in `ProviderBatchApi`: pages back to the time of the attempt."""
        token: dict[str, str] = {}
        for _ in range(MOST_PAGES):
            reply = await self._http.ask("GET", self._http.url("/batches", pageSize=str(_PAGE), **token))
            said = json_fields.as_dict(reply.body)
            page = [_batch(each) for each in json_fields.as_list(said.get("operations"))]
            for batch in page:
                if batch.marker == attempt.marker:
                    return () if batch.id in known else (batch,)
            oldest = min((batch.created_at for batch in page if batch.created_at is not None), default=None)
            next_token = json_fields.as_str(said.get("nextPageToken"))
            if not next_token or (oldest is not None and oldest < attempt.sent_at - _CLOCK_SKEW_S):
                return ()
            token = {"pageToken": next_token}
        raise endless_listing()

    async def retrieve(self, remote_id: str) -> RemoteBatch:
        """As in `ProviderBatchApi`."""
        return _batch((await self._http.ask("GET", self._http.url(f"/{_quoted(remote_id)}"))).body)

    async def cancel(self, remote_id: str) -> RemoteBatch:
        """As in `ProviderBatchApi`."""
        try:
            await self._http.ask("POST", self._http.url(f"/{_quoted(remote_id)}:cancel"))
        except BatchCallFailed as error:
            if error.failure.status in (400, 409) and (batch := await self.retrieve(remote_id)).is_over:
                return batch
            raise
        return await self.retrieve(remote_id)

    async def results(self, remote: RemoteBatch) -> AsyncIterator[BatchResult]:
        """As in `ProviderBatchApi`."""
        for file in remote.outputs:
            url = self._http.beside("download", f"/{_quoted(file)}:download", alt="media")
            async for line in self._http.lines(url):
                yield self._result(line)._replace(size=len(line))

    async def discard(self, files: Sequence[str]) -> None:
        """As in `ProviderBatchApi`."""
        for file in files:
            try:
                await self._http.ask("DELETE", self._http.url(f"/{_quoted(file)}"))
            except BatchCallFailed as error:
                if not error.is_gone:
                    raise

    def _result(self, raw: bytes) -> BatchResult:
        line = decode_line(raw)
        key = json_fields.as_str(line.get("key"))
        if error := json_fields.as_dict(line.get("error")):
            code = error.get("code")
            if code == 1:
                return BatchResult(key, not_run("batch_cancelled"))
            name, status = _CODES.get(code, ("UNKNOWN", 500)) if isinstance(code, int) else ("UNKNOWN", 500)
            return BatchResult(key, self._outcomes.read(status, {"error": {"status": name} | dict(error)}))
        if not isinstance(line.get("response"), dict):
            return BatchResult(key, unreadable())
        return BatchResult(key, self._outcomes.read(200, line["response"]))


def _quoted(name: str) -> str:
    """A resource's name, such as ``batches/123``, for a path."""
    return "/".join(quote(part, safe="") for part in name.split("/"))


def _name(said: Mapping[str, Any]) -> str:
    """A resource's name. Raises BatchCallFailed where it has none."""
    if found := json_fields.identifier(said.get("name")):
        return found
    raise BatchCallFailed(Failure(FailureKind.BROKEN_BODY, "a resource without a name", status=200))


def _batch(said: Any) -> RemoteBatch:
    """What an operation, or the batch in it, says. Raises BatchCallFailed for what is neither."""
    operation = json_fields.as_dict(said)
    about = json_fields.as_dict(operation.get("metadata")) or operation
    word = json_fields.as_str(about.get("state")).rpartition("_")[2]
    if word not in _STATES:
        raise BatchCallFailed(Failure(FailureKind.BROKEN_BODY, "a batch without a state that is known", status=200))
    state = _STATES[word]
    stats = {key: _count(value) for key, value in json_fields.as_dict(about.get("batchStats")).items()}
    # JSON of protobuf leaves out a 0.
    succeeded = stats.get("successfulRequestCount", 0) if stats else None
    source = json_fields.identifier(json_fields.as_dict(about.get("inputConfig")).get("fileName"))
    outputs = [json_fields.as_dict(place) for place in (operation.get("response"), about.get("output"))]
    files = dict.fromkeys(json_fields.identifier(output.get("responsesFile")) for output in outputs)
    created = _time(about.get("createTime"))
    return RemoteBatch(
        _name(operation),
        state,
        RemoteCounts(stats.get("requestCount", 0), succeeded, stats.get("failedRequestCount", 0)),
        marker=json_fields.as_str(about.get("displayName")) or None,
        created_at=created,
        ends_at=None if created is None else created + _WINDOW_S,
        ended_at=_time(about.get("endTime")),
        failure=_refusal(json_fields.as_dict(operation.get("error"))) if state is RemoteState.FAILED else None,
        outputs=tuple(filter(None, files)),
        inputs=(source,) if source else (),
    )


def _refusal(error: Mapping[str, Any]) -> Failure:
    """Why a batch was refused as a whole."""
    code = error.get("code")
    name, status = _CODES.get(code, ("UNKNOWN", 500)) if isinstance(code, int) else ("UNKNOWN", 500)
    meaning = meaning_of(Protocol.GOOGLE, status, read_error({"error": {"status": name} | dict(error)}))
    cause = meaning.code or "batch_failed"
    return Failure(meaning.kind, f"the provider batch was refused: {cause}", cause=cause, param=meaning.param)


def _count(value: Any) -> int:
    """An int64 of protobuf's JSON, which is a string."""
    return json_fields.as_count(int(value) if isinstance(value, str) and _INT64.fullmatch(value) else value)


def _time(said: Any) -> float | None:
    """The Unix seconds of a time by RFC 3339; None where it is none."""
    try:
        return datetime.fromisoformat(said).timestamp() if isinstance(said, str) else None
    except ValueError:
        return None
