"""Provider batches as a batch API shows them, and what becomes of requests to one."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from providers.provider_errors import ProviderError
from routing.outcome import Failure, FailureKind, Outcome

BATCH_SERVICE_TIER: Final = "batch"
"""The service tier in the usage of every outcome of a provider batch, by which `Price.cost_usd` prices it."""


class RemoteState(StrEnum):
    """How far a provider batch is, in the words of all dialects."""

    IN_PROGRESS = "in_progress"
    """Accepted, running, or on its way to be cancelled."""
    ENDED = "ended"
    """Each call has a result, good or bad."""
    EXPIRED = "expired"
    """The window closed first: some calls may have results, which are billed."""
    CANCELLED = "cancelled"
    """As we asked: some calls may have results, which are billed."""
    FAILED = "failed"
    """Refused as a whole: nothing ran, nothing is billed; `RemoteBatch.failure` says why."""


@dataclass(frozen=True, slots=True)
class RemoteCounts:
    """Calls of a provider batch, as far as the provider has counted them."""

    total: int = 0
    succeeded: int | None = None
    """None: the provider does not count."""
    failed: int = 0
    """With an error, cancelled or expired."""


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A provider batch as the provider describes it. Times are in Unix seconds of the provider's clock."""

    id: str
    state: RemoteState
    counts: RemoteCounts = RemoteCounts()
    marker: str | None = None
    """Ours, where the dialect keeps one."""
    created_at: float | None = None
    ended_at: float | None = None
    failure: Failure | None = None
    """Why it was refused as a whole."""
    outputs: tuple[str, ...] = field(default=(), repr=False)
    """Where its results are, in the dialect's own words; there before it is over where some are."""
    inputs: tuple[str, ...] = field(default=(), repr=False)
    """The files that it was made from."""

    @property
    def is_over(self) -> bool:
        """Whether its results are all there will be."""
        return self.state is not RemoteState.IN_PROGRESS

    def unreturned(self, *, answered: int) -> int | None:
        """How many calls of a batch that is over are billed, at most, although `ProviderBatchApi.results` lacks them.

        ``answered`` is how many calls have an answer, also one that is refused here. None: the provider does not count
        (or says 0 of 0, as some gateways do), so each call without a result may be billed.
        """
        if self.failure is not None:
            return 0
        may_be_0 = self.state is RemoteState.CANCELLED  # stopped before its calls were counted
        if self.counts.succeeded is None or not (self.counts.total or may_be_0):
            return None
        return max(0, self.counts.succeeded - answered)

    def without_result(self) -> Failure:
        """What became of a call of a batch that is over, of which there is no result, and which is not billed."""
        if self.failure is not None:
            return self.failure
        return not_run("no_result" if self.state is RemoteState.ENDED else f"batch_{self.state.value}")


def not_run(cause: str) -> Failure:
    """The failure of a call that was never run; ``cause`` is a code word such as ``batch_expired``."""
    return Failure(FailureKind.NOT_RUN, f"the provider batch ended before this call: {cause}", cause=cause)


class BatchResult(NamedTuple):
    """What became of one call. ``key`` is what `ProviderBatchApi.line` was given, or "" where the line has none."""

    key: str
    outcome: Outcome
    size: int = 0
    """Bytes of its line."""


@dataclass(frozen=True, slots=True)
class CreateAttempt:
    """A create whose reply was lost, as far as we know it."""

    marker: str
    calls: int
    sent_at: float
    """When we began to send it, in Unix seconds of our clock."""
    file_id: str | None = None
    """The file that it was made from, where the dialect has files."""


BeforeSending = Callable[[float], Awaitable[None]]
"""Is called right before a create is sent, with the seconds that this may take. Where it raises, nothing is sent."""


class BatchCallFailed(ProviderError):
    """A request to a batch API failed: not a call of a query, but an upload, create, retrieve, cancel or download."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure

    @property
    def may_have_happened(self) -> bool:
        """Whether the provider may have done what was asked: only a complete refusal, or nothing sent, rules it out.

        A gateway's 5xx says nothing of what the server behind it did.
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
    """A good status with a body that is not as documented."""
    return BatchCallFailed(Failure(FailureKind.BROKEN_BODY, message, status=200))
