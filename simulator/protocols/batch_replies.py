"""What the three dialects of batch APIs reply in the same way."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from simulator.fault_rules import Fault, FaultKind
from simulator.protocols.protocol import STATUS, ErrorCase
from simulator.response_plan import JSON_HEADERS, ResponsePlan
from simulator.simulated_batch import BatchRefused, SimulatedBatch
from simulator.simulated_batches import SimulatedBatches
from simulator.url_routes import UrlRoute

_JSON_LINES: Final = b"content-type: application/jsonl\r\nx-simulated: true\r\n"


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


def created(batch: SimulatedBatch, value: Any) -> ResponsePlan:
    """The reply to a create, which a fault may keep back."""
    plan = shown(value)
    if FaultKind.BATCH_LOST_REPLY in batch.faults:
        plan.fault = Fault(kind=FaultKind.RESET)
    return plan


def decoded(raw: bytes) -> dict[str, Any]:
    """A body that must be a JSON object. Raises BatchRefused."""
    try:
        value = orjson.loads(raw or b"{}")
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise BatchRefused(ErrorCase.BAD_REQUEST, "the body must be a JSON object")
    return value


def decoded_line(raw: bytes) -> dict[str, Any]:
    """A line of a file; without a field where it is no JSON object."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def listed(batches: SimulatedBatches, route: UrlRoute, *, after: str, show: Callable[[SimulatedBatch], Any]) -> Any:
    """A page of the account's batches, from after the one that the parameter ``after`` names."""
    asked = {name: values[0] for name, values in parse_qs(route.query).items()}
    limit = int(asked.get("limit", "20"))
    found = batches.newest_first(route)
    if after in asked:
        names = [batch.id for batch in found]
        found = found[names.index(asked[after]) + 1 :] if asked[after] in names else []
    page = [show(batch) for batch in found[:limit]]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return {"data": page, **ends, "has_more": len(found) > limit}


def rfc3339(moment: float | None) -> str | None:
    """Unix seconds as a time in UTC."""
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
