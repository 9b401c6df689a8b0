"""Provider batches as a batch API shows them, and the outcome of requests to one."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from providers.provider_errors import ProviderError
from routing.outcome import Failure, FailureKind, Outcome

BATCH_SERVICE_TIER: Final = "batch"
"""The service tier in the usage of every outcome of a provider batch, by which `Price.cost_usd` prices it."""


class RemoteState(StrEnum):
    """The state of a provider batch, in the words of all dialects."""

    IN_PROGRESS = "in_progress"
    """Accepted, running, or on its way to be cancelled."""
    ENDED = "ended"
    """Each call has a result, good or bad."""
    EXPIRED = "expired"
    """The window closed first. Some calls may have results, which are billed."""
    CANCELLED = "cancelled"
    """Cancelled at our request. Some calls may have results, which are billed."""
    FAILED = "failed"
    """Refused as a whole: nothing ran, and nothing is billed. `RemoteBatch.failure` says why."""


@dataclass(frozen=True, slots=True)
class RemoteCounts:
    """Calls of a provider batch, as far as the provider has counted them."""

    total: int = 0
    succeeded: int | None = None
    """None: the provider does not count."""
    failed: int = 0
    """Calls with an error, cancelled or expired."""


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A provider batch as the provider describes it. Times are in Unix seconds of the provider's clock."""

    id: str
    state: RemoteState
    counts: RemoteCounts = RemoteCounts()
    marker: str | None = None
    """Our marker, if the dialect keeps one."""
    created_at: float | None = None
    ended_at: float | None = None
    failure: Failure | None = None
    """Why it was refused as a whole."""
    outputs: tuple[str, ...] = field(default=(), repr=False)
    """The location of its results, in the dialect's own form. It may exist before the batch ends."""
    inputs: tuple[str, ...] = field(default=(), repr=False)
    """The files that it was made from."""

    @property
    def is_over(self) -> bool:
        """Whether no further results will come."""
        return self.state is not RemoteState.IN_PROGRESS

    def unreturned(self, *, answered: int) -> int | None:
        """Return how many calls of an ended batch are billed, at most, although `ProviderBatchApi.results` lacks them.

        ``answered`` is the number of calls with an answer, including answers that are refused here. None: the provider
        does not count (or says 0 of 0, as some gateways do), so each call without a result may be billed.
        """
        if self.failure is not None:
            return 0
        may_be_0 = self.state is RemoteState.CANCELLED  # stopped before its calls were counted
        if self.counts.succeeded is None or not (self.counts.total or may_be_0):
            return None
        return max(0, self.counts.succeeded - answered)

    def without_result(self) -> Failure:
        """Return the failure of a call of an ended batch that has no result and is not billed."""
        if self.failure is not None:
            return self.failure
        return not_run("no_result" if self.state is RemoteState.ENDED else f"batch_{self.state.value}")


def not_run(cause: str) -> Failure:
    """Return the failure of a call that never ran. ``cause`` is a code such as ``batch_expired``."""
    return Failure(FailureKind.NOT_RUN, f"the provider batch ended before this call: {cause}", cause=cause)


class BatchResult(NamedTuple):
    """The outcome of one call. ``key`` is what `ProviderBatchApi.line` got, or "" if the line has none."""

    key: str
    outcome: Outcome
    size: int = 0
    """Bytes of its line."""


@dataclass(frozen=True, slots=True)
class CreateAttempt:
    """A create with a lost reply, as far as we know it."""

    marker: str
    calls: int
    sent_at: float
    """When we began to send it, in Unix seconds of our clock."""
    file_id: str | None = None
    """The file that it was made from, if the dialect has files."""


BeforeSending = Callable[[float], Awaitable[None]]
"""Called right before a create is sent, with the seconds that this may take. If it raises, nothing is sent."""


class BatchCallFailed(ProviderError):
    """A request to a batch API failed: not a query's call, but an upload, create, retrieve, cancel or download."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure

    @property
    def may_have_happened(self) -> bool:
        """Whether the provider may have done what was requested. Only a complete refusal, or nothing sent, rules it
        out.

        A gateway's 5xx says nothing about the server behind it.
        """
        failure = self.failure
        if failure.status is None:
            return failure.kind is FailureKind.UNKNOWN
        return not 300 <= failure.status < 500

    @property
    def is_gone(self) -> bool:
        """Whether the provider says that there is no such batch or file."""
        return self.failure.status in (404, 410)


def broken_reply(message: str) -> BatchCallFailed:
    """Return the failure of a good status with an undocumented body."""
    return BatchCallFailed(Failure(FailureKind.BROKEN_BODY, message, status=200))
