"""What the API returns, and the options of a batch."""

import json
from datetime import datetime
from typing import Any, Final, Literal, NotRequired, Self, TypedDict

from pydantic import BaseModel, ConfigDict

NOT_IN_TABLES: Final = {"response", "position"}


class SubmitOptions(TypedDict):
    """Options of a batch; Pointsman's docs/api.md describes them."""

    quality: NotRequired[float | None]
    """The share of the top tier's quality to certify, 0.5 to below 1. Without it no floor is certified."""
    confidence: NotRequired[float]
    """Confidence of the certificate; 0.95 by default."""
    pilot: NotRequired[int]
    """Maximum number of sampled queries."""
    grader: NotRequired[str]
    max_cost_usd: NotRequired[float]
    """A hard cap on all calls of the batch."""
    budget_policy: NotRequired[Literal["hold", "fail", "degrade"]]
    priority: NotRequired[int]
    """-100 to 0. A batch below 0 waits for the batches at 0."""
    dedup: NotRequired[bool]
    """Send identical lines only once, whatever their temperature."""


class Frozen(BaseModel):
    """Fields that this version does not know are ignored: the service may be newer."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class LineCounts(Frozen):
    """Queries by outcome so far; expired ones count as failed."""

    total: int
    completed: int
    failed: int


class InvalidLine(Frozen):
    """An invalid line of the input."""

    message: str
    line: int | None = None
    param: str | None = None


class InvalidLines(Frozen):
    """Why a batch was rejected."""

    data: list[InvalidLine]


class BatchInfo(Frozen):
    """A batch as it was when it was read."""

    id: str
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    created_at: datetime
    request_counts: LineCounts
    paused_at: datetime | None = None
    """When the batch was paused. No query is started while this is set."""
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: InvalidLines | None = None
    warnings: list[str] = []
    """What is wrong with the options, each with the fix. Empty until the batch is validated."""
    metadata: dict[str, Any] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing of it is open."""
        return self.status in ("failed", "completed", "expired", "cancelled")


class QueryResult(Frozen):
    """What became of a query. ``answer`` is None where there is none, and ``error`` then says why."""

    custom_id: str
    position: int
    """Grows in the order of the input, with gaps."""
    state: str
    """``done``, or the state in which it ended without an answer."""
    answer: str | None = None
    """The text; the tool calls as JSON where there is no text."""
    error: str | None = None
    tier: str | None = None
    model: str | None = None
    provider: str | None = None
    confidence: float | None = None
    """Calibrated probability that the answer is right, 0 to 1."""
    cost_usd: float = 0.0
    """Of all calls of the query."""
    escalations: int = 0
    reasons: list[str] = []
    """Why it was routed, accepted and escalated as it was."""
    response: dict[str, Any] | None = None
    """The body of the chat completion, as OpenAI's API has it."""

    @classmethod
    def of_line(cls, line: bytes) -> Self:
        """The result on a line of an output or error file."""
        fields = json.loads(line)
        response, error = fields["response"], fields["error"]
        body = response["body"] if response else {}
        answer = None
        if "choices" in body:
            message = body["choices"][0]["message"]
            calls = message.get("tool_calls")
            answer = message.get("content") or (json.dumps(calls) if calls else message.get("content"))
        else:
            error = error or body.get("error")
        return cls.model_validate(
            fields.get("pointsman", {})
            | {"custom_id": fields["custom_id"], "answer": answer, "response": body or None}
            | {"position": int(fields["id"].rpartition("_")[2])}
            | {"error": f"{error.get('code')}: {error.get('message')}" if error else None}
            | ({} if "choices" in body else {"tier": None})
        )

    def row(self) -> dict[str, Any]:
        """For a table: every field but the response and the position."""
        return self.model_dump(exclude=NOT_IN_TABLES)


class UnlabeledAnswer(Frozen):
    """An answer without a label, with its question."""

    batch_id: str
    custom_id: str
    tier: str
    model: str
    confidence: float | None
    by: Literal["doubt", "chance"]
    """The sampling method. Send it back with the label."""
    messages: list[dict[str, str]]
    answer: str
