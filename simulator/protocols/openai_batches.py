"""OpenAI's Batch API: https://platform.openai.com/docs/api-reference/batch, and the files that it needs.

A batch is made from an uploaded file and validated after its create. What was not run when it expires is in the error
file; what was not when it is cancelled is in neither file.
"""

import re
from collections.abc import Collection
from typing import Any, Final

import orjson

from simulator.batch_behavior import BatchBehavior
from simulator.fault_rules import FaultKind
from simulator.http1 import Head
from simulator.protocols.batch_replies import created, decoded, decoded_line, download, listed, refused, shown
from simulator.protocols.protocol import ErrorCase, mapping_at
from simulator.response_plan import ResponsePlan
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

_ENDPOINTS: Final = ("/v1/chat/completions", "/chat/completions")
_PATH: Final = re.compile(r"v1/(?P<kind>files|batches)(?:/(?P<id>[^/]+)(?:/(?P<verb>content|cancel))?)?")
_BOUNDARY: Final = re.compile(rb'boundary="?([^";]+)"?')
_FIELD: Final = re.compile(rb'name="([^"]*)"')
_FILE_NAME: Final = re.compile(rb'filename="([^"]*)"')
_DAY_WINDOW: Final = "24h"


def handle(batches: SimulatedBatches, behavior: BatchBehavior, route: UrlRoute, head: Head, raw: bytes) -> ResponsePlan:
    """The reply to a request for a file or a batch."""
    found = _PATH.fullmatch(route.rest)
    try:
        match found and (found["kind"], head.method, found["id"], found["verb"]):
            case "files", "POST", None, None:
                return _upload(batches, behavior, route, head, raw)
            case "files", method, str(name), verb:
                return _on_file(batches, route, name, method, verb)
            case "batches", "POST", None, None:
                return _create(batches, behavior, route, raw)
            case "batches", "GET", None, None:
                return shown({"object": "list"} | listed(batches, route, after="after", show=_batch))
            case "batches", method, str(name), verb:
                return _on_batch(batches, route, name, method, verb)
            case _:
                raise no_such("path or method")
    except BatchRefused as error:
        return refused(route, error)


def _on_file(batches: SimulatedBatches, route: UrlRoute, name: str, method: str, verb: str | None) -> ResponsePlan:
    match method, verb:
        case "GET", None:
            return shown(_file(batches.file(route, name)))
        case "GET", "content":
            return download(batches.file(route, name).content)
        case "DELETE", None:
            batches.file(route, name)
            batches.delete(route, name)
            return shown({"id": name, "object": "file", "deleted": True})
        case _:
            raise no_such("path or method")


def _on_batch(batches: SimulatedBatches, route: UrlRoute, name: str, method: str, verb: str | None) -> ResponsePlan:
    match method, verb:
        case "GET", None:
            return shown(_batch(batches.batch(route, name)))
        case "POST", "cancel":
            batch = batches.batch(route, name)
            if batch.phase.is_over and batch.cancelled_at is None:
                raise BatchRefused(ErrorCase.BAD_REQUEST, f"cannot cancel a batch that is {_status(batch)}")
            batches.cancel(batch)
            return shown(_batch(batch))
        case _:
            raise no_such("path or method")


def _upload(
    batches: SimulatedBatches, behavior: BatchBehavior, route: UrlRoute, head: Head, raw: bytes
) -> ResponsePlan:
    fields = _form(head, raw)
    if fields.get("purpose", (b"", ""))[0] != b"batch" or "file" not in fields:
        raise BatchRefused(ErrorCase.BAD_REQUEST, "file and purpose=batch are required")
    content, name = fields["file"]
    if len(content) > behavior.max_bytes:
        raise BatchRefused(ErrorCase.TOO_LARGE, f"the file is larger than {behavior.max_bytes} bytes")
    return shown(_file(batches.store(route, content, name=name, prefix="file-")))


def _form(head: Head, raw: bytes) -> dict[str, tuple[bytes, str]]:
    """The fields of a multipart body: name → content and file name (RFC 7578)."""
    found = _BOUNDARY.search(head.header(b"content-type") or b"")
    if found is None:
        raise BatchRefused(ErrorCase.BAD_REQUEST, "the body must be multipart/form-data")
    fields = {}
    for part in (b"\r\n" + raw).split(b"\r\n--" + found[1])[1:]:
        about, _, content = part.partition(b"\r\n\r\n")
        if name := _FIELD.search(about):
            file = _FILE_NAME.search(about)
            fields[name[1].decode()] = (content, file[1].decode() if file else "")
    return fields


def _create(batches: SimulatedBatches, behavior: BatchBehavior, route: UrlRoute, raw: bytes) -> ResponsePlan:
    asked = decoded(raw)
    if asked.get("endpoint") not in _ENDPOINTS:
        raise BatchRefused(ErrorCase.BAD_REQUEST, "endpoint must be /v1/chat/completions here")
    if asked.get("completion_window") != _DAY_WINDOW:
        raise BatchRefused(ErrorCase.BAD_REQUEST, "completion_window must be 24h")
    name = str(asked.get("input_file_id"))
    content = batches.file(route, name).content
    calls, errors = _read_lines(content, behavior, endpoint=asked["endpoint"])
    model = str(calls[0].body.get("model")) if calls else ""
    faults = batches.admit(route, model, content, file_id=name)
    now = batches.wall_clock()
    batch = SimulatedBatch(
        batches.next_id("batch_"),
        route,
        model,
        calls,
        created_at=now,
        closes_at=now + behavior.window_s / behavior.clock,
        details={"input": name, "metadata": mapping_at(asked, "metadata"), "endpoint": asked["endpoint"]},
        faults=faults,
        errors=errors,
    )
    batches.start(batch, behavior, finish=lambda over: _write_files(batches, over))
    return created(batch, _batch(batch))


def _read_lines(
    content: bytes, behavior: BatchBehavior, *, endpoint: str
) -> tuple[list[BatchCall], list[dict[str, Any]]]:
    """The calls of a file, and what is wrong with it, as the validation says."""
    calls: list[BatchCall] = []
    errors: list[dict[str, Any]] = []
    keys: set[str] = set()

    def wrong(code: str, line: int | None, param: str | None = None) -> None:
        errors.append({"code": code, "message": f"[simulated] {code}", "line": line, "param": param})

    for number, raw in enumerate(content.splitlines(), 1):
        if raw.strip():
            line = decoded_line(raw)
            if (fault := _line_fault(line, keys, endpoint=endpoint, first=calls[0] if calls else None)) is not None:
                wrong(fault[0], number, fault[1])
            else:
                keys.add(line["custom_id"])
                calls.append(BatchCall(line["custom_id"], line["body"]))
    if not calls and not errors:
        wrong("empty_file", None)
    if len(calls) > behavior.max_requests:
        wrong("too_many_tasks", None)
    return calls, errors


def _line_fault(
    line: dict[str, Any], keys: Collection[str], *, endpoint: str, first: BatchCall | None
) -> tuple[str, str | None] | None:
    """What is wrong with ``line``: a code, and the field. ``keys`` and ``first`` are of the lines before."""
    if not isinstance(line.get("body"), dict):
        return "invalid_json_line", None
    key = line.get("custom_id")
    if not isinstance(key, str) or not key:
        return "missing_required_parameter", "custom_id"
    if key in keys:
        return "duplicate_custom_id", "custom_id"
    if line.get("url") != endpoint or line.get("method") != "POST":
        return "mismatched_endpoint", "url"
    is_another = first is not None and line["body"].get("model") != first.body.get("model")
    return ("mismatched_model", "body.model") if is_another else None


def _write_files(batches: SimulatedBatches, batch: SimulatedBatch) -> None:
    """The files of a batch that is over: answers in one, everything else that has a result in the other."""
    if batch.phase is BatchPhase.FAILED:
        return
    good, bad = [], []
    for call in answers_in_order(batch, seed=batches.seed, same_order=False):
        match call.state:
            case LineState.SUCCEEDED:
                good.append(_result(call))
            case LineState.ERRORED:
                bad.append(_result(call))
            case LineState.NOT_RUN if batch.phase is BatchPhase.EXPIRED:
                bad.append(_not_run(call))
    for role, lines in (("output", good), ("errors", bad)):
        if lines:
            file = batches.store(
                batch.route, b"\n".join(lines) + b"\n", name=f"{batch.id}_{role}.jsonl", prefix="file-"
            )
            batch.outputs[role] = file.id


def _result(call: BatchCall) -> bytes:
    response = {"status_code": call.status, "request_id": f"req_{call.key}", "body": orjson.Fragment(call.answer)}
    return orjson.dumps({"id": f"batch_req_{call.key}", "custom_id": call.key, "response": response, "error": None})


def _not_run(call: BatchCall) -> bytes:
    error = {"code": "batch_expired", "message": "[simulated] not executed before the completion window expired"}
    return orjson.dumps({"id": f"batch_req_{call.key}", "custom_id": call.key, "response": None, "error": error})


def _status(batch: SimulatedBatch) -> str:
    match batch.phase:
        case BatchPhase.VALIDATING | BatchPhase.RUNNING if batch.cancelled_at is not None:
            return "cancelling"
        case BatchPhase.RUNNING:
            return "in_progress"
        case BatchPhase.ENDED:
            return "completed"
        case phase:
            return phase.value


def _batch(batch: SimulatedBatch) -> dict[str, Any]:
    status = _status(batch)
    ended = None if batch.ended_at is None else int(batch.ended_at)
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.details["endpoint"],
        "errors": {"object": "list", "data": batch.errors} if batch.phase is BatchPhase.FAILED else None,
        "input_file_id": batch.details["input"],
        "completion_window": _DAY_WINDOW,
        "status": status,
        "output_file_id": batch.outputs.get("output"),
        "error_file_id": batch.outputs.get("errors"),
        "created_at": int(batch.created_at),
        "expires_at": int(batch.closes_at),
        **{f"{name}_at": ended if status == name else None for name in ("completed", "failed", "expired", "cancelled")},
        "cancelling_at": None if batch.cancelled_at is None else int(batch.cancelled_at),
        "request_counts": None
        if FaultKind.BATCH_UNCOUNTED in batch.faults
        else {
            "total": len(batch.calls),
            "completed": batch.count(LineState.SUCCEEDED),
            "failed": batch.count(LineState.ERRORED, LineState.WITHHELD),
        },
        "metadata": batch.details["metadata"],
        "simulated": True,
    }


def _file(file: SimulatedFile) -> dict[str, Any]:
    return {
        "id": file.id,
        "object": "file",
        "bytes": len(file.content),
        "created_at": int(file.created_at),
        "filename": file.name,
        "purpose": "batch",
        "status": "processed",
    }
