"""Anthropic's Message Batches: https://docs.anthropic.com/en/api/creating-message-batches.

The requests come with the create, without a name or metadata. Everything has a line among the results, once all ended.
"""

import re
from typing import Any, Final

import orjson

from simulator.batch_behavior import BatchBehavior
from simulator.fault_rules import FaultKind
from simulator.http1 import Head
from simulator.protocols.batch_replies import created, decoded, download, listed, refused, rfc3339, shown
from simulator.protocols.protocol import ErrorCase, list_at
from simulator.response_plan import ResponsePlan
from simulator.simulated_batch import BatchCall, BatchPhase, BatchRefused, LineState, SimulatedBatch, no_such
from simulator.simulated_batches import SimulatedBatches, answers_in_order
from simulator.url_routes import UrlRoute

_PATH: Final = re.compile(r"v1/messages/batches(?:/(?P<id>[^/]+)(?:/(?P<verb>results|cancel))?)?")
_KEY: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def handle(batches: SimulatedBatches, behavior: BatchBehavior, route: UrlRoute, head: Head, raw: bytes) -> ResponsePlan:
    """The reply to a request for a batch."""
    found = _PATH.fullmatch(route.rest)
    try:
        if found is None:
            raise no_such("path")
        match head.method, found["id"], found["verb"]:
            case "POST", None, None:
                return _create(batches, behavior, route, head, raw)
            case "GET", None, None:
                return shown(listed(batches, route, after="after_id", show=lambda batch: _batch(batch, head)))
            case "GET", str(name), None:
                return shown(_batch(batches.batch(route, name), head))
            case "GET", str(name), "results":
                return _results(batches, batches.batch(route, name))
            case "POST", str(name), "cancel":
                batch = batches.batch(route, name)
                if batch.phase.is_over:
                    raise BatchRefused(ErrorCase.BAD_REQUEST, "a batch that has ended cannot be canceled")
                batches.cancel(batch)
                return shown(_batch(batch, head))
            case _:
                raise no_such("path or method")
    except BatchRefused as error:
        return refused(route, error)


def _create(
    batches: SimulatedBatches, behavior: BatchBehavior, route: UrlRoute, head: Head, raw: bytes
) -> ResponsePlan:
    if len(raw) > behavior.max_bytes:
        raise BatchRefused(ErrorCase.TOO_LARGE, f"the batch is larger than {behavior.max_bytes} bytes")
    calls = _read_requests(decoded(raw))
    if not calls or len(calls) > behavior.max_requests:
        raise BatchRefused(ErrorCase.BAD_REQUEST, f"requests: there must be 1 to {behavior.max_requests}")
    model = str(calls[0].body.get("model"))
    faults = batches.admit(route, model, raw)
    if FaultKind.BATCH_FAILED in faults:
        raise BatchRefused(ErrorCase.RATE_LIMITED, "too many requests are enqueued", wait_s=1.0)
    now = batches.wall_clock()
    batch = SimulatedBatch(
        batches.next_id("msgbatch_"),
        route,
        model,
        calls,
        created_at=now,
        closes_at=now + behavior.window_s / behavior.clock,
        faults=faults,
    )
    batches.start(batch, behavior, finish=_keep_results)
    return created(batch, _batch(batch, head))


def _read_requests(asked: dict[str, Any]) -> list[BatchCall]:
    calls = []
    keys = set()
    for number, request in enumerate(list_at(asked, "requests")):
        key = request.get("custom_id") if isinstance(request, dict) else None
        if not isinstance(key, str) or not _KEY.fullmatch(key):
            raise BatchRefused(ErrorCase.BAD_REQUEST, f"requests.{number}.custom_id: 1 to 64 of a-z, A-Z, 0-9, _ and -")
        if key in keys:
            raise BatchRefused(ErrorCase.BAD_REQUEST, f"requests.{number}.custom_id: must be unique")
        if not isinstance(request.get("params"), dict):
            raise BatchRefused(ErrorCase.BAD_REQUEST, f"requests.{number}.params: Field required")
        keys.add(key)
        calls.append(BatchCall(key, request["params"]))
    return calls


def _keep_results(batch: SimulatedBatch) -> None:
    batch.outputs["results"] = "results"


def _results(batches: SimulatedBatches, batch: SimulatedBatch) -> ResponsePlan:
    if not batch.phase.is_over or FaultKind.BATCH_OUTPUT_GONE in batch.faults:
        raise no_such("results")
    lines = [
        orjson.dumps({"custom_id": call.key, "result": _result(call, batch)})
        for call in answers_in_order(batch, seed=batches.seed, same_order=False)
    ]
    return download(b"".join(line + b"\n" for line in lines))


def _result(call: BatchCall, batch: SimulatedBatch) -> dict[str, Any]:
    match call.state:
        case LineState.SUCCEEDED:
            return {"type": "succeeded", "message": orjson.Fragment(call.answer)}
        case LineState.ERRORED:
            return {"type": "errored", "error": orjson.Fragment(call.answer)}
        case _:
            return {"type": "expired" if batch.phase is BatchPhase.EXPIRED else "canceled"}


def _batch(batch: SimulatedBatch, head: Head) -> dict[str, Any]:
    is_over = batch.phase.is_over
    counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
    if is_over:
        counts["succeeded"] = batch.count(LineState.SUCCEEDED)
        counts["errored"] = batch.count(LineState.ERRORED, LineState.WITHHELD)
        counts["expired" if batch.phase is BatchPhase.EXPIRED else "canceled"] = batch.count(LineState.NOT_RUN)
    else:
        counts["processing"] = len(batch.calls)  # one by one they are counted at the end alone
    host = (head.header(b"host") or b"localhost").decode("latin-1")
    site = f"/{batch.route.site}" if batch.route.site else ""
    results = f"http://{host}{site}/anthropic/v1/messages/batches/{batch.id}/results"
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": "ended" if is_over else "in_progress" if batch.cancelled_at is None else "canceling",
        "request_counts": None if FaultKind.BATCH_UNCOUNTED in batch.faults else counts,
        "ended_at": rfc3339(batch.ended_at),
        "created_at": rfc3339(batch.created_at),
        "expires_at": rfc3339(batch.closes_at),
        "archived_at": None,
        "cancel_initiated_at": rfc3339(batch.cancelled_at),
        "results_url": results if is_over else None,
        "simulated": True,
    }
