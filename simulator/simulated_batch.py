"""A provider batch and a file, as the simulated provider keeps them, whatever the dialect."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from simulator.fault_rules import Fault, FaultKind
from simulator.protocols.protocol import ErrorCase
from simulator.url_routes import UrlRoute


class BatchRefused(Exception):
    """A request to a batch API that is not done; ``wait_s`` goes into Retry-After."""

    def __init__(self, case: ErrorCase, message: str, *, wait_s: float | None = None) -> None:
        super().__init__(message)
        self.case = case
        self.wait_s = wait_s


def no_such(what: str) -> BatchRefused:
    return BatchRefused(ErrorCase.NOT_FOUND, f"no such {what}")


class BatchPhase(StrEnum):
    VALIDATING = "validating"
    RUNNING = "running"
    ENDED = "ended"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    FAILED = "failed"

    @property
    def is_over(self) -> bool:
        """Whether nothing of it runs any more."""
        return self not in (BatchPhase.VALIDATING, BatchPhase.RUNNING)


class LineState(StrEnum):
    """What became of one call of a batch."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    ERRORED = "errored"
    NOT_RUN = "not_run"
    """The batch expired or was cancelled before."""
    WITHHELD = "withheld"
    """The call was not run, and the results do not mention it."""


@dataclass(slots=True)
class BatchCall:
    """One call of a batch. ``status`` and ``answer`` are what a direct call would have got."""

    key: str
    body: Mapping[str, Any] = field(repr=False)
    state: LineState = LineState.PENDING
    status: int = 0
    answer: bytes = field(default=b"", repr=False)


@dataclass(slots=True)
class SimulatedFile:
    """An uploaded file, or one of results."""

    id: str
    content: bytes = field(repr=False)
    name: str
    created_at: float
    """When the batch was created, in Unix seconds like all times of this class."""


@dataclass(slots=True)
class SimulatedBatch:
    """One provider batch. Times are real, although what happens between them is sped up."""

    id: str
    route: UrlRoute
    """Of the create: dialect and site, which is the account."""
    model: str
    calls: list[BatchCall] = field(repr=False)
    created_at: float
    closes_at: float
    details: dict[str, Any] = field(default_factory=dict)
    """What the dialect shows again: a name, metadata, the input file."""
    faults: Mapping[FaultKind, Fault] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)
    """Why it is refused as a whole, in the dialect's words."""
    phase: BatchPhase = BatchPhase.VALIDATING
    cancelled_at: float | None = None
    """When a cancel was accepted. None without one."""
    ended_at: float | None = None
    outputs: dict[str, str] = field(default_factory=dict)
    """Files of results by their role."""
    wakes: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    @property
    def account(self) -> tuple[str, str]:
        """Whose it is: nothing is seen by another site or protocol."""
        return account_of(self.route)

    def count(self, *states: LineState) -> int:
        """How many calls are in one of these states."""
        return sum(call.state in states for call in self.calls)

    @property
    def prompt_chars(self) -> int:
        """Roughly, for limits of what is enqueued."""
        return sum(len(str(call.body)) for call in self.calls)


def account_of(route: UrlRoute) -> tuple[str, str]:
    """The account behind a path: its site and protocol."""
    return route.site, route.protocol
