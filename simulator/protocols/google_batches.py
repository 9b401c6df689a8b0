"""Google's batch mode: https://ai.google.dev/api/batch-api, and the files that it needs.

A batch is made from an uploaded file and is an operation. What was cancelled or has expired has no results at all.
"""

import re
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from simulator.batch_behavior import BatchBehavior
from simulator.fault_rules import FaultKind
from simulator.http1 import Head
from simulator.protocols.batch_replies import created, decoded, decoded_line, download, refused, rfc3339, shown
from simulator.protocols.protocol import ErrorCase, mapping_at
from simulator.response_plan import JSON_HEADERS, ResponsePlan
from simulator.simulated_batch import (
    BatchCall,
    BatchPhase,
    BatchRefused,
    LineState,
    SimulatedBatch,
    SimulatedFile,
    no_such,
)
from simulator.simulated_batches import SimulatedBatches, answers_in_order
from simulator.url_routes import UrlRoute

_CREATE: Final = re.compile(r"v1beta/models/(?P<model>[^:]+):batchGenerateContent")
_BATCH: Final = re.compile(r"v1beta/batches(?:/(?P<id>[^/:]+)(?::(?P<verb>cancel))?)?")
_FILE: Final = re.compile(r"(?P<way>download/)?v1beta/(?P<name>files/[^/:]+)(?P<verb>:download)?")
_UPLOAD: Final = "upload/v1beta/files"
_TYPE: Final = "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch"
_CANCELLED: Final = {"code": 1, "message": "[simulated] the operation was cancelled"}
_CODES: Final = {400: 3, 401: 16, 403: 7, 404: 5, 429: 8, 500: 13, 503: 14, 529: 14}
"""google.rpc.Code by HTTP status: a line of results has the code."""


def handle(batches: SimulatedBatches, behavior: BatchBehavior, route: UrlRoute, head: Head, raw: bytes) -> ResponsePlan:
    """The reply to a request for a file or a batch."""
    try:
        if route.rest == _UPLOAD and head.method == "POST":
            return _upload(batches, behavior, route, head, raw)
        if found := _CREATE.fullmatch(route.rest):
            return _create(batches, behavior, route, found["model"], raw)
        if found := _FILE.fullmatch(route.rest):
            return _of_file(batches, route, head, found["name"], is_download=found["verb"] is not None)
        found = _BATCH.fullmatch(route.rest)
        if found is None:
            raise no_such("path")
        match head.method, found["id"], found["verb"]:
            case "GET", None, None:
                return _list(batches, route)
            case "GET", str(name), None:
                return shown(_operation(batches.batch(route, f"batches/{name}")))
            case "POST", str(name), "cancel":
                batches.cancel(batches.batch(route, f"batches/{name}"))
                return shown({})
            case _:
                raise no_such("path or method")
    except BatchRefused as error:
        return refused(route, error)


def _upload(
    batches: SimulatedBatches, behavior: BatchBehavior, route: UrlRoute, head: Head, raw: bytes
) -> ResponsePlan:
    """Google's resumable upload: an address for the bytes, then the bytes in one piece."""
    command = (head.header(b"x-goog-upload-command") or b"").replace(b" ", b"")
    if command == b"start":
        name = str(mapping_at(decoded(raw), "file").get("displayName") or "")
        session = batches.next_id("")
        batches.sessions[session] = name
        host = head.header(b"host") or b"localhost"
        site = f"/{route.site}" if route.site else ""
        address = b"http://%b%b/google/%b?upload_id=%b" % (host, site.encode(), _UPLOAD.encode(), session.encode())
        headers = b"x-goog-upload-status: active\r\nx-goog-upload-url: %b\r\n" % address
        return ResponsePlan(200, b"", JSON_HEADERS + headers)
    session = parse_qs(route.query).get("upload_id", [""])[0]
    if command != b"upload,finalize" or session not in batches.sessions:
        raise BatchRefused(ErrorCase.BAD_REQUEST, "no such upload")
    if len(raw) > behavior.max_bytes:
        raise BatchRefused(ErrorCase.TOO_LARGE, f"the file is larger than {behavior.max_bytes} bytes")
    file = batches.store(route, raw, name=batches.sessions.pop(session), prefix="files/")
    return shown({"file": _file(file)})


def _of_file(batches: SimulatedBatches, route: UrlRoute, head: Head, name: str, *, is_download: bool) -> ResponsePlan:
    file = batches.file(route, name)
    match head.method:
        case "GET" if is_download:
            return download(file.content)
        case "GET":
            return shown(_file(file))
        case "DELETE":
            batches.delete(route, name)
            return shown({})
        case _:
            raise no_such("method")


def _create(
    batches: SimulatedBatches, behavior: BatchBehavior, route: UrlRoute, model: str, raw: bytes
) -> ResponsePlan:
    asked = mapping_at(decoded(raw), "batch")
    name = str(mapping_at(asked, "inputConfig").get("fileName"))
    file = batches.file(route, name)
    faults = batches.admit(route, model, file.content, file_id=name)
    if not asked.get("displayName"):
        raise BatchRefused(ErrorCase.BAD_REQUEST, "batch.displayName is not specified")
    calls, errors = _read_lines(file.content)
    now = batches.wall_clock()
    batch = SimulatedBatch(
        batches.next_id("batches/"),
        route,
        model,
        calls,
        created_at=now,
        closes_at=now + 2 * behavior.window_s / behavior.clock,  # twice the time that is aimed at
        details={"name": asked["displayName"], "input": name},
        faults=faults,
        errors=errors,
    )
    batches.start(batch, behavior, finish=lambda over: _write_file(batches, over))
    return created(batch, _operation(batch))


def _read_lines(content: bytes) -> tuple[list[BatchCall], list[dict[str, Any]]]:
    calls, errors = [], []
    for number, raw in enumerate(content.splitlines(), 1):
        line = decoded_line(raw)
        if not isinstance(line.get("request"), dict):
            errors.append({"code": 3, "message": f"[simulated] line {number} is not a request"})
        else:
            calls.append(BatchCall(str(line.get("key", "")), line["request"]))
    return calls, errors


def _write_file(batches: SimulatedBatches, batch: SimulatedBatch) -> None:
    if batch.phase is not BatchPhase.ENDED:
        return
    calls = answers_in_order(batch, seed=batches.seed, same_order=True)
    content = b"".join(orjson.dumps({"key": call.key, **_result(call)}) + b"\n" for call in calls)
    file = batches.store(batch.route, content, name=f"{batch.id} responses", prefix="files/")
    batch.outputs["responses"] = file.id


def _result(call: BatchCall) -> dict[str, Any]:
    if call.state is LineState.SUCCEEDED:
        return {"response": orjson.Fragment(call.answer)}
    code = _CODES.get(call.status, 2)
    return {"error": {"code": code, "message": f"[simulated] status {call.status}"}}


def _list(batches: SimulatedBatches, route: UrlRoute) -> ResponsePlan:
    asked = parse_qs(route.query)
    size = int(asked.get("pageSize", ["10"])[0])
    start = int(asked.get("pageToken", ["0"])[0])
    found = batches.newest_first(route)
    page = {"operations": [_operation(batch) for batch in found[start : start + size]]}
    return shown(page | ({"nextPageToken": str(start + size)} if len(found) > start + size else {}))


def _operation(batch: SimulatedBatch) -> dict[str, Any]:
    phase = batch.phase
    match phase:
        case BatchPhase.VALIDATING:
            state = "PENDING"
        case BatchPhase.ENDED:
            state = "SUCCEEDED"
        case _:
            state = phase.name
    succeeded = batch.count(LineState.SUCCEEDED)
    failed = batch.count(LineState.ERRORED, LineState.WITHHELD)
    metadata = {
        "@type": _TYPE,
        "name": batch.id,
        "model": f"models/{batch.model}",
        "displayName": batch.details["name"],
        "inputConfig": {"fileName": batch.details["input"]},
        "createTime": rfc3339(batch.created_at),
        "updateTime": rfc3339(batch.created_at if batch.ended_at is None else batch.ended_at),
        "batchStats": {}
        if FaultKind.BATCH_UNCOUNTED in batch.faults
        else {
            "requestCount": str(len(batch.calls)),
            **{
                name: str(count)
                for name, count in (
                    ("successfulRequestCount", succeeded),
                    ("failedRequestCount", failed),
                    ("pendingRequestCount", len(batch.calls) - succeeded - failed),
                )
                if count
            },
        },
        "state": f"BATCH_STATE_{state}",
        "simulated": True,
    }
    operation: dict[str, Any] = {"name": batch.id, "metadata": metadata}
    if batch.ended_at is not None:
        metadata["endTime"] = rfc3339(batch.ended_at)
    if phase is BatchPhase.ENDED:
        output = {"responsesFile": batch.outputs["responses"]}
        metadata["output"] = output
        return operation | {"done": True, "response": {"@type": f"{_TYPE}Output", **output}}
    if phase is BatchPhase.CANCELLED:
        return operation | {"done": True, "error": _CANCELLED}
    if phase is BatchPhase.FAILED:
        error = batch.errors[0]
        code = error["code"] if isinstance(error["code"], int) else 8
        return operation | {"done": True, "error": {"code": code, "message": error["message"]}}
    if phase is BatchPhase.EXPIRED:
        return operation | {"done": True, "error": {"code": 4, "message": "[simulated] the batch expired"}}
    return operation


def _file(file: SimulatedFile) -> dict[str, Any]:
    return {
        "name": file.id,
        "displayName": file.name,
        "mimeType": "application/jsonl",
        "sizeBytes": str(len(file.content)),
        "createTime": rfc3339(file.created_at),
        "state": "ACTIVE",
    }
