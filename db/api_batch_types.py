"""The arguments and results of `ApiBatches`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from routing.fleet import BudgetPolicy
from routing.pilot import PilotSpec


@dataclass(frozen=True, slots=True)
class Counts:
    """Ended queries by outcome. The others are open."""

    total: int
    done: int = 0
    failed: int = 0
    expired: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True)
class ApiBatch:
    """The public figures of a batch. ``id`` is None while it is validated, or if the validation failed."""

    public_id: str
    tenant: str
    id: int | None
    status: str
    """validating, accepted, failed or cancelled: that of the request. What follows comes from the times."""
    input_file_id: str | None
    endpoint: str
    completion_window: str
    metadata: Mapping[str, str] | None
    errors: Sequence[Mapping[str, Any]] | None
    output_file_id: str | None
    error_file_id: str | None
    usage: Mapping[str, int] | None
    counts: Counts
    warnings: Sequence[str] | None
    """What was wrong with its options when it was accepted, each with the fix. None without a forecast."""
    adopted: bool
    """Whether it has a row in ``api_batches``."""
    created_at: datetime
    accepted_at: datetime | None
    expires_at: datetime | None
    cancelling_at: datetime | None
    failed_at: datetime | None
    ended_at: datetime | None
    finalized_at: datetime | None
    purged: bool = False
    """Whether retention has removed the batch's texts and calls, so that there are no results."""
    paused_at: datetime | None = None
    pause_code: str | None = None
    """``quota_reached`` if the tenant stores too much. None if the user paused the batch."""


@dataclass(frozen=True, slots=True)
class ApiBatchRequest:
    """A batch to create from a file."""

    public_id: str
    tenant: str
    input_file_id: str
    endpoint: str
    completion_window: str
    window_s: int
    fingerprint: str
    """A digest of the request: two requests with equal fingerprints are the same."""
    key_id: str | None = None
    """The API key that creates it, by the part that may be shown."""
    metadata: Mapping[str, str] | None = None
    output_expires_after_s: int | None = None
    cap_usd: float | None = None
    """Maximum cost. None uses the fleet's default; so does a ``budget_policy`` of None."""
    budget_policy: BudgetPolicy | None = None
    priority: int = 0
    dedup: bool = False
    pilot: PilotSpec | None = None
    row_mapping: Mapping[str, Any] | None = None
    """The meaning of the file's columns, as the request states it. None for JSON lines."""
    idempotency_key: str | None = None
    retried: bool = False
    """Whether the client states that the request is a retry."""
    traceparent: str | None = None
    """The client's valid W3C trace context."""


@dataclass(frozen=True, slots=True)
class CreatedApiBatch:
    """The public id of a new batch, or of the batch that the same request created before."""

    public_id: str
    same: bool = True
    """False if an earlier, different request had the same idempotency key."""


@dataclass(frozen=True, slots=True)
class ApiBatchTask:
    """A batch that is validated under a lease."""

    public_id: str
    tenant: str
    endpoint: str
    input_file_id: str
    filename: str | None
    """The file's name. None if the file was deleted."""
    metadata: Mapping[str, str] = field(repr=False)
    expires_at: datetime
    cap_usd: float | None
    budget_policy: BudgetPolicy | None
    priority: int
    dedup: bool
    pilot: PilotSpec | None
    row_mapping: Mapping[str, Any] | None
    tries: int
    cancelling: bool
    traceparent: str | None = None
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class ApiBatchResults:
    """A file of results. ``content`` is ``output`` or ``errors``."""

    id: str
    content: str
    filename: str
    bytes: int
