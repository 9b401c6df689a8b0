"""The plan of a connection for one request."""

from dataclasses import dataclass, field

from simulator.call_record import CallRecord
from simulator.fault_rules import Fault

JSON_HEADERS = b"content-type: application/json\r\nx-simulated: true\r\n"


@dataclass(slots=True)
class ResponsePlan:
    """A reply, and when and how to send it. ``call`` is None for requests other than model calls."""

    status: int
    body: bytes = field(repr=False)
    headers: bytes = JSON_HEADERS
    """Complete header lines."""
    call: CallRecord | None = None
    delay_s: float = 0.0
    fault: Fault | None = None
