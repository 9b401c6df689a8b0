"""A batch as OpenAI's batch object: every field, times as integer Unix seconds."""

from datetime import datetime
from typing import Any, Final

from db.api_batch_types import ApiBatch

ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})
"""The statuses that do not change any more, unless the batch is resumed."""


def status_of(batch: ApiBatch) -> str:
    """The status that the Batch API has for it. A batch whose lines all failed is completed as well."""
    match batch.status:
        case "validating":
            return "cancelling" if batch.cancelling_at else "validating"
        case "failed" | "cancelled":
            return batch.status
        case _ if is_finalized(batch):
            return "cancelled" if batch.cancelling_at else "expired" if batch.counts.expired else "completed"
        case _ if batch.cancelling_at:
            return "cancelling"
        case _:
            return "finalizing" if batch.ended_at else "in_progress"


def is_finalized(batch: ApiBatch) -> bool:
    """Whether its files are there: since it ended last, for it may have been resumed."""
    return batch.ended_at is not None and batch.finalized_at is not None and batch.finalized_at >= batch.ended_at


def batch_object(batch: ApiBatch) -> dict[str, Any]:
    """The object. ``usage`` counts all calls of the batch, and is null until it has ended."""
    status = status_of(batch)
    finalized = batch.finalized_at if status in ENDED else None
    files = status in ENDED
    return {
        "id": batch.public_id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": None,
        "errors": {"object": "list", "data": list(batch.errors)} if batch.errors else None,
        # A batch that came by the command line or by Celery has no input file.
        "input_file_id": batch.input_file_id or "",
        "completion_window": batch.completion_window,
        "status": status,
        "output_file_id": batch.output_file_id if files else None,
        "error_file_id": batch.error_file_id if files else None,
        "created_at": _unix(batch.created_at),
        "in_progress_at": _unix(batch.accepted_at if batch.status == "accepted" else None),
        "expires_at": _unix(batch.expires_at),
        "finalizing_at": _unix(batch.ended_at if batch.status == "accepted" else None),
        "completed_at": _unix(finalized if status == "completed" else None),
        "failed_at": _unix(batch.failed_at),
        "expired_at": _unix(finalized if status == "expired" else None),
        "cancelling_at": _unix(batch.cancelling_at),
        "cancelled_at": _unix(finalized if status == "cancelled" else None),
        "request_counts": {
            "total": batch.counts.total,
            "completed": batch.counts.done,
            "failed": batch.counts.failed + batch.counts.expired,
        },
        "usage": _usage(batch),
        "metadata": dict(batch.metadata) if batch.metadata is not None else None,
    }


def _usage(batch: ApiBatch) -> dict[str, Any] | None:
    if batch.usage is None:
        return None
    prompt, completion = batch.usage["prompt_tokens"], batch.usage["completion_tokens"]
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": batch.usage["cached_tokens"]},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": batch.usage["reasoning_tokens"]},
        "total_tokens": prompt + completion,
    }


def _unix(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
