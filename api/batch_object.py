"""OpenAI's batch object, with every field, and with times as integer Unix seconds."""

from typing import Any, Final

from api.http_errors import name_fields
from api.responses import unix_s
from db.api_batch_types import ApiBatch

ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})
"""Final statuses, unless the batch is resumed."""


def status_of(batch: ApiBatch) -> str:
    """Return the status in the Batch API. A batch in which all lines failed is also completed."""
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
    """Whether its files exist for its last end. The batch may have been resumed after an earlier end."""
    return batch.ended_at is not None and batch.finalized_at is not None and batch.finalized_at >= batch.ended_at


def batch_object(batch: ApiBatch) -> dict[str, Any]:
    """Return the batch object. ``usage`` counts all calls of the batch, and is null until it has ended."""
    status = status_of(batch)
    finalized = batch.finalized_at if status in ENDED else None
    files = status in ENDED
    return {
        "id": batch.public_id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": None,
        "errors": {"object": "list", "data": list(batch.errors)} if batch.errors else None,
        # A batch submitted by the command line or by Celery has no input file.
        "input_file_id": batch.input_file_id or "",
        "completion_window": batch.completion_window,
        "status": status,
        "output_file_id": batch.output_file_id if files else None,
        "error_file_id": batch.error_file_id if files else None,
        "created_at": unix_s(batch.created_at),
        "in_progress_at": unix_s(batch.accepted_at if batch.status == "accepted" else None),
        "expires_at": unix_s(batch.expires_at),
        "finalizing_at": unix_s(batch.ended_at if batch.status == "accepted" else None),
        "completed_at": unix_s(finalized if status == "completed" else None),
        "failed_at": unix_s(batch.failed_at),
        "expired_at": unix_s(finalized if status == "expired" else None),
        "cancelling_at": unix_s(batch.cancelling_at),
        "cancelled_at": unix_s(finalized if status == "cancelled" else None),
        # OpenAI's batches have no warnings, and cannot be paused.
        "warnings": [name_fields(text) for text in batch.warnings or ()],
        "paused_at": unix_s(batch.paused_at),
        "pause_code": batch.pause_code,
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
