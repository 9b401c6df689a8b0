"""What the three dialects of batch APIs reply in the same way."""

import math
from typing import Any, Final

import orjson

from simulator.fault_rules import Fault, FaultKind
from simulator.protocols.protocol import STATUS, ErrorCase
from simulator.provider_batch import SimulatedBatch
from simulator.provider_batches import TooManyCreates
from simulator.response_plan import JSON_HEADERS, ResponsePlan
from simulator.url_routes import UrlRoute

_JSON_LINES: Final = b"content-type: application/jsonl\r\nx-simulated: true\r\n"


class BatchRefused(Exception):
    """A request to a batch API that is not done; ``wait_s`` goes into Retry-After."""

    def __init__(self, case: ErrorCase, message: str, *, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.case = case
        self.wait_s = wait_s


def shown(value: Any) -> ResponsePlan:
    """A 200 with JSON."""
    return ResponsePlan(200, orjson.dumps(value))


def download(content: bytes) -> ResponsePlan:
    """A 200 with lines of JSON."""
    return ResponsePlan(200, content, _JSON_LINES)


def refused(route: UrlRoute, error: BatchRefused) -> ResponsePlan:
    """The dialect's error."""
    headers = JSON_HEADERS
    if error.wait_s is not None:
        headers += b"retry-after: %d\r\n" % math.ceil(error.wait_s)
    return ResponsePlan(STATUS[error.case], orjson.dumps(route.dialect.error(error.case, str(error))), headers)


def no_such(what: str) -> BatchRefused:
    """A 404."""
    return BatchRefused(ErrorCase.NOT_FOUND, f"no such {what}")


def created(batch: SimulatedBatch, value: Any) -> ResponsePlan:
    """The reply to a create, which a fault may keep back."""
    plan = shown(value)
    if FaultKind.BATCH_LOST_REPLY in batch.faults:
        plan.fault = Fault(kind=FaultKind.RESET)
    return plan


def check_create(faults: dict[FaultKind, Fault]) -> None:
    """Raises BatchRefused where a fault refuses a create."""
    if (fault := faults.get(FaultKind.BATCH_RATE_LIMITED)) is not None:
        raise BatchRefused(ErrorCase.RATE_LIMITED, "injected fault: batch_rate_limited", wait_s=fault.retry_after_s)


def too_many(error: TooManyCreates) -> BatchRefused:
    """The 429 of a limit of creates."""
    return BatchRefused(ErrorCase.RATE_LIMITED, str(error), wait_s=error.wait_s)


def decoded(raw: bytes) -> dict[str, Any]:
    """A body that must be a JSON object. Raises BatchRefused."""
    try:
        value = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise BatchRefused(ErrorCase.BAD_REQUEST, "the body must be a JSON object")
    return value


def fragment(raw: bytes) -> Any:
    """``raw`` as a part of another document; a fault may have left it broken, and so the document is."""
    return orjson.Fragment(raw)
