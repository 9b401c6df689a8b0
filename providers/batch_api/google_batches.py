"""Google's batch mode. Source: https://ai.google.dev/api/batch-api and https://ai.google.dev/api/files

A file of lines is uploaded, a batch is made from it, and one file has its results, once it has ended.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from providers.adapters import json_fields
from providers.adapters.error_codes import meaning_of, read_error
from providers.batch_api.batch_http import Address, Spool
from providers.batch_api.batch_outcomes import unreadable
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
from routing.outcome import Failure

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

_PAGE: Final = 50


class GoogleBatches(ProviderBatchApi):
    """Of ``kind = "google"``."""

    cancel_suffix = ":cancel"

    async def upload(self, lines: AsyncIterator[bytes]) -> str | None:
        """By the resumable protocol, in one piece."""
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
                raise broken_reply("the reply has no upload address on the provider's host")
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
        """The marker is the batch's name for people."""
        assert isinstance(source, str), "this dialect makes batches from files"
        asked = {"batch": {"displayName": marker, "inputConfig": {"fileName": source}}}
        url = self._http.url(self.outcomes.path.replace(":generateContent", ":batchGenerateContent"))
        return self._read((await self._http.ask("POST", url, asked, before_sending=before_sending)).body)

    def _line(self, key: str, payload: Any) -> Mapping[str, Any]:
        return {"key": key, "request": payload}

    def _path(self, name: str, *, is_file: bool = False) -> str:
        return "/" + "/".join(quote(part, safe="") for part in name.split("/"))

    def _output_url(self, remote: RemoteBatch, output: str) -> Address:
        return self._http.beside("download", f"{self._path(output)}:download", alt="media")

    async def _page(self, cursor: Mapping[str, str]) -> tuple[Sequence[RemoteBatch], Mapping[str, str] | None]:
        reply = await self._http.ask("GET", self._http.url("/batches", pageSize=str(_PAGE), **cursor))
        said = json_fields.as_dict(reply.body)
        next_token = json_fields.as_str(said.get("nextPageToken"))
        page = [self._read(each) for each in json_fields.as_list(said.get("operations"))]
        return page, {"pageToken": next_token} if next_token else None

    def _read(self, said: Any) -> RemoteBatch:
        operation = json_fields.as_dict(said)
        about = json_fields.as_dict(operation.get("metadata")) or operation
        word = json_fields.as_str(about.get("state")).rpartition("_")[2]
        if not word:
            raise broken_reply("a batch without a state")
        state = _STATES.get(word, RemoteState.IN_PROGRESS)
        stats = {
            key: json_fields.as_count(value) for key, value in json_fields.as_dict(about.get("batchStats")).items()
        }
        # JSON of protobuf leaves out a 0.
        succeeded = stats.get("successfulRequestCount", 0) if stats else None
        source = json_fields.identifier(json_fields.as_dict(about.get("inputConfig")).get("fileName"))
        outputs = [json_fields.as_dict(place) for place in (operation.get("response"), about.get("output"))]
        files = dict.fromkeys(json_fields.identifier(output.get("responsesFile")) for output in outputs)
        return RemoteBatch(
            _name(operation),
            state,
            RemoteCounts(stats.get("requestCount", 0), succeeded, stats.get("failedRequestCount", 0)),
            marker=json_fields.as_str(about.get("displayName")) or None,
            created_at=json_fields.moment(about.get("createTime")),
            ended_at=json_fields.moment(about.get("endTime")),
            failure=_refusal(json_fields.as_dict(operation.get("error"))) if state is RemoteState.FAILED else None,
            outputs=tuple(filter(None, files)),
            inputs=(source,) if source else (),
        )

    def _result(self, line: Mapping[str, Any]) -> BatchResult:
        key = json_fields.as_str(line.get("key"))
        if error := json_fields.as_dict(line.get("error")):
            if error.get("code") == 1:
                return BatchResult(key, not_run("batch_cancelled"))
            return BatchResult(key, self.outcomes.read(*_as_direct(error)))
        if not isinstance(line.get("response"), dict):
            return BatchResult(key, unreadable())
        return BatchResult(key, self.outcomes.read(200, line["response"]))


def _name(said: Mapping[str, Any]) -> str:
    """A resource's name. Raises BatchCallFailed where it has none."""
    if found := json_fields.identifier(said.get("name")):
        return found
    raise broken_reply("a resource without a name")


def _as_direct(error: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    """Status and body of a direct call with the same error."""
    code = error.get("code")
    name, status = _CODES.get(code, ("UNKNOWN", 500)) if isinstance(code, int) else ("UNKNOWN", 500)
    return status, {"error": {"status": name} | dict(error)}


def _refusal(error: Mapping[str, Any]) -> Failure:
    """Why a batch was refused as a whole."""
    status, body = _as_direct(error)
    meaning = meaning_of(Protocol.GOOGLE, status, read_error(body))
    cause = meaning.code or "batch_failed"
    return Failure(meaning.kind, f"the provider batch was refused: {cause}", cause=cause, param=meaning.param)
