"""Which status the Batch API has for a batch."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.batch_object import batch_object, status_of
from db.api_batch_types import ApiBatch, Counts

T = datetime(2026, 1, 1, tzinfo=UTC)
LATER = T + timedelta(seconds=9.9)
BATCH = ApiBatch(
    public_id="batch_1",
    tenant="default",
    id=1,
    status="accepted",
    input_file_id="file-1",
    endpoint="/v1/chat/completions",
    completion_window="24h",
    metadata=None,
    errors=None,
    output_file_id="file-2",
    error_file_id=None,
    usage=None,
    counts=Counts(3),
    warnings=None,
    adopted=True,
    created_at=T,
    accepted_at=T,
    expires_at=None,
    cancelling_at=None,
    failed_at=None,
    ended_at=None,
    finalized_at=None,
)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"status": "validating", "id": None}, "validating"),
        ({"status": "validating", "cancelling_at": T}, "cancelling"),
        ({"status": "failed", "failed_at": T}, "failed"),
        ({"status": "cancelled", "cancelling_at": T, "finalized_at": T}, "cancelled"),
        ({}, "in_progress"),
        ({"cancelling_at": T}, "cancelling"),
        ({"ended_at": T}, "finalizing"),
        ({"ended_at": T, "cancelling_at": T}, "cancelling"),
        ({"ended_at": T, "finalized_at": T, "counts": Counts(3, done=3)}, "completed"),
        ({"ended_at": T, "finalized_at": T, "counts": Counts(3, failed=3)}, "completed"),
        ({"ended_at": T, "finalized_at": T, "counts": Counts(3, done=2, expired=1)}, "expired"),
        ({"ended_at": T, "finalized_at": T, "cancelling_at": T}, "cancelled"),
        ({"ended_at": LATER, "finalized_at": T}, "finalizing"),
        ({"ended_at": None, "finalized_at": T}, "in_progress"),
    ],
)
def test_the_status_follows_from_the_times(change: dict[str, Any], status: str) -> None:
    batch = replace(BATCH, **change)
    assert status_of(batch) == status
    told = batch_object(batch)
    ended = status in ("completed", "failed", "expired", "cancelled")
    assert told["output_file_id"] == ("file-2" if ended else None)
    assert sum(told[f"{name}_at"] is not None for name in ("completed", "expired", "failed", "cancelled")) == ended


def test_times_are_whole_unix_seconds() -> None:
    told = batch_object(replace(BATCH, ended_at=LATER, finalized_at=LATER, counts=Counts(3, done=3)))
    assert told["completed_at"] == told["created_at"] + 9
    assert type(told["completed_at"]) is int
