"""Schemas of request and response bodies, for validation and for ``/openapi.json``."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from db.batch_writer import MAX_USD
from db.tenants import Role
from endpoints.endpoint import Endpoint
from routing.pilot import MOST_CONFIDENCE, GraderChoice
from submission.row_query import RowMapping

Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00]*$")]
Words = Annotated[str, StringConstraints(max_length=512, pattern=r"^[^\x00]*$")]
Url = Annotated[
    str,
    Field(
        max_length=2000,
        pattern=r"^https?://[A-Za-z0-9](?:[A-Za-z0-9.-]{0,200}[A-Za-z0-9])?(?::[1-9][0-9]{0,4})?(?:[/?][!-~]*)?$",
    ),
]
WHOLE = BeforeValidator(lambda value: int(value) if type(value) is float and value % 1 == 0 else value)
"""Accepts 2.0 as an integer, as JSON Schema does."""
WINDOW_PATTERN = r"^(?:(?:[1-9]|[12][0-9]|30)d|[1-9][0-9]{0,2}h|[1-9][0-9]{0,3}m)$"
"""Up to 30 days, 999 hours or 9999 minutes."""
PATTERN_HINTS: Final[Mapping[str, str]] = {
    "completion_window": "use a duration such as 24h: a number followed by m, h or d, up to 9999m, 999h or 30d",
    "url": "use a URL that begins with https://",
}
"""The message for a field that does not match its pattern, which replaces the regular expression."""
Event = Literal["batch.completed", "batch.failed", "batch.expired", "batch.cancelled"]
Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]


_MOST_KEYS: Final = 64


def _refuse_many_keys(fields: Any) -> Any:
    """Refuse too many keys before each becomes an error, because a hundred thousand errors block the event loop for a
    second."""
    if isinstance(fields, dict) and len(fields) > _MOST_KEYS:
        raise PydanticCustomError("too_many_keys", "an object has at most {most} keys here", {"most": _MOST_KEYS})
    return fields


class ApiModel(BaseModel):
    """Unknown keys are ignored, because clients may be newer than the service."""

    model_config = ConfigDict(extra="ignore", strict=True)

    _few_keys = model_validator(mode="before")(_refuse_many_keys)


class Page(ApiModel):
    """The fields of every paged list."""

    object: Literal["list"]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ErrorDetail(ApiModel):
    """The error's message and its class."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(ApiModel):
    """The body of every error response."""

    error: ErrorDetail


class ExpiresAfter(ApiModel):
    """The expiry of a file, counted from its creation."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=3600, le=2592000), WHOLE]


class FileObject(ApiModel):
    """A file."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: str
    status: Literal["processed"]
    status_details: str | None


class FileList(Page):
    """A page of files."""

    data: list[FileObject]


class FileDeleted(ApiModel):
    """A deleted file."""

    id: str
    object: Literal["file"]
    deleted: bool


Column = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00]*$")]


class RowOptions(ApiModel):
    """The file is read as on the command line: a table, or lines of text or JSON. ``{}`` reads a table with one
    column."""

    # The schema states what `_refuse_two_questions` checks.
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"anyOf": [{"properties": {key: {"type": "null"}}} for key in ("prompt", "column")]},
    )

    prompt: Annotated[str, StringConstraints(min_length=1, max_length=20_000, pattern=r"^[^\x00]*$")] | None = Field(
        default=None,
        description="The question of each row: a text with {{column}}. Filters: trim, lower, upper, title.",
    )
    column: Column | None = Field(default=None, description="The column with the question, instead of a prompt.")
    id: Column | None = Field(default=None, description="The column of unique ids. Default: row-1, row-2, …")
    tier_column: Column | None = Field(default=None, description="The column that pins a row to a tier or model.")
    workload: Column | None = Field(default=None, description="The column that names each row's workload.")
    expected: Column | None = Field(
        default=None, description="The column with the correct answers. A quality floor is graded by them."
    )

    @model_validator(mode="after")
    def _refuse_two_questions(self) -> "RowOptions":
        if self.prompt is not None and self.column is not None:
            raise PydanticCustomError("misplaced", "prompt and column both define the question. Give only one of them")
        return self

    def as_mapping(self) -> RowMapping:
        """Return the meaning of the columns."""
        return RowMapping(
            self.prompt,
            self.column,
            self.id,
            self.tier_column,
            expected_column=self.expected,
            workload_column=self.workload,
        )


class BatchOptions(ApiModel):
    """Options of a batch beyond OpenAI's fields: ``extra_body={"pointsman": {…}}`` in the SDK."""

    # An ignored key could be a misspelled budget. The schema states what `_refuse_pilot_without_floor` checks.
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "anyOf": [
                {"required": ["quality"], "properties": {"quality": {"type": "number"}}},
                {"properties": {key: {"type": "null"} for key in ("confidence", "pilot", "grader")}},
            ]
        },
    )

    max_cost_usd: Annotated[float, Field(ge=0, le=MAX_USD, allow_inf_nan=False)] | None = Field(
        default=None, description="Maximum cost of the batch in USD. Default: the fleet's."
    )
    budget_policy: Literal["hold", "fail", "degrade"] | None = Field(
        default=None, description="What happens to queries over the budget. Default: the fleet's policy."
    )
    priority: Annotated[int, Field(ge=-100, le=0), WHOLE] = Field(
        default=0,
        description="Higher values are answered first. A batch below 0 waits for batches of all tenants at 0 or above.",
    )
    dedup: bool = Field(default=False, description="Send identical lines only once, whatever their temperature.")
    quality: Annotated[float, Field(ge=0.5, lt=1, allow_inf_nan=False)] | None = Field(
        default=None, description="Quality floor relative to the top tier, certified on a sample of the batch."
    )
    confidence: Annotated[float, Field(ge=0.5, le=MOST_CONFIDENCE, allow_inf_nan=False)] | None = Field(
        default=None, description="Confidence of the certificate. Default: 0.95. Needs quality."
    )
    pilot: Annotated[int, Field(ge=1, le=1_000_000), WHOLE] | None = Field(
        default=None, description="Maximum number of sampled queries. Needs quality."
    )
    grader: Annotated[GraderChoice, Field(strict=False)] | None = Field(
        default=None,
        description="Grader of the sample. Default: the shape of its answers decides; the fleet's judge grades free "
        "text. Needs quality.",
    )
    rows: RowOptions | None = Field(
        default=None, description="The meaning of the file's columns. Default: the file is JSON lines."
    )

    @model_validator(mode="after")
    def _refuse_pilot_without_floor(self) -> "BatchOptions":
        if self.quality is None and (self.confidence, self.pilot, self.grader) != (None, None, None):
            raise PydanticCustomError("misplaced", "confidence, pilot and grader need quality")
        return self


KEYS: Final[Mapping[str, Collection[str]]] = {"pointsman": BatchOptions.model_fields, "rows": RowOptions.model_fields}
"""The keys of the objects that refuse unknown keys."""

_BUDGET_KEYS: Final = frozenset({*BatchOptions.model_fields, "budget", "budget_usd"})


class BatchCreate(ApiModel):
    """A batch to create from an uploaded file."""

    input_file_id: Words
    endpoint: Annotated[Words, Field(json_schema_extra={"enum": list(Endpoint)})]
    completion_window: Annotated[
        str, Field(pattern=WINDOW_PATTERN, description="The time limit, such as 24h: a number followed by m, h or d")
    ]
    metadata: Annotated[dict[Name, Words], BeforeValidator(_refuse_many_keys), Field(max_length=16)] | None = None
    output_expires_after: ExpiresAfter | None = None
    pointsman: BatchOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_misplaced_budget(cls, body: Any) -> Any:
        """Refuse a budget in the wrong place. Other unknown keys are ignored."""
        if isinstance(body, dict):
            for key in body.keys() & _BUDGET_KEYS:
                raise PydanticCustomError("misplaced", '{key} belongs in the object "pointsman"', {"key": key})
        return body


class BudgetRaise(ApiModel):
    """The new budget of a batch."""

    model_config = ConfigDict(extra="forbid", strict=True)

    max_cost_usd: Annotated[float, Field(ge=0, le=MAX_USD, allow_inf_nan=False)]


class KeyCreate(ApiModel):
    """A new API key of the tenant."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
    role: Annotated[Role, Field(strict=False)] = Role.OPERATOR


class BatchError(ApiModel):
    """An invalid line."""

    code: str
    message: str
    param: str | None
    line: int | None


class BatchErrors(ApiModel):
    """Why a batch failed."""

    object: Literal["list"]
    data: list[BatchError]


class RequestCounts(ApiModel):
    """Lines by outcome. Expired ones count as failed."""

    total: int
    completed: int
    failed: int


class InputTokensDetails(ApiModel):
    """Details of the input tokens."""

    cached_tokens: int


class OutputTokensDetails(ApiModel):
    """Details of the output tokens."""

    reasoning_tokens: int


class BatchUsage(ApiModel):
    """Tokens of all calls of a batch, including those of routers and of rejected answers."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class BatchObject(ApiModel):
    """A batch."""

    id: str
    object: Literal["batch"]
    endpoint: str
    model: str | None
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    warnings: list[str] = Field(
        default=[], description="What is wrong with the options, each with the fix; empty until it is validated."
    )
    paused_at: int | None = Field(default=None, description="While it is set, no query of the batch is started.")
    pause_code: str | None = Field(
        default=None, description="quota_reached: its tenant stores more than twice its stored_bytes."
    )
    request_counts: RequestCounts
    usage: BatchUsage | None
    metadata: dict[str, Any] | None


class BatchList(Page):
    """A page of batches."""

    data: list[BatchObject]


class ModelObject(ApiModel):
    """A name that a line may request: ``auto``, a tier, or a model of the fleet."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(ApiModel):
    """All model names."""

    object: Literal["list"]
    data: list[ModelObject]


class WebhookCreate(ApiModel):
    """A URL and the events that it receives."""

    name: Name
    url: Url
    event_types: Annotated[list[Event], Field(min_length=1, max_length=16)]


class WebhookChange(ApiModel):
    """The fields to change."""

    name: Name | None = None
    url: Url | None = None
    event_types: Annotated[list[Event], Field(min_length=1, max_length=16)] | None = None


class WebhookObject(ApiModel):
    """A webhook."""

    id: str
    object: Literal["webhook_endpoint"]
    name: str
    url: str
    event_types: list[str]
    created_at: int
    updated_at: int
    signing_secret_hint: str


class WebhookWithSecret(WebhookObject):
    """A webhook with its secret, which is returned only when it is created or rotated."""

    signing_secret: str


class WebhookList(Page):
    """A page of webhooks."""

    data: list[WebhookObject]


class WebhookDeleted(ApiModel):
    """A deleted webhook."""

    id: str
    object: Literal["webhook_endpoint.deleted"]
    deleted: bool


class LabelCreate(ApiModel):
    """A label for the answer to a line. Without ``tier`` it is for the final answer."""

    batch_id: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    custom_id: Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00]*$")]
    grade: Annotated[float, Field(ge=0, le=1)]
    """A grade from 0 (wrong) to 1 (right)."""
    tier: Name | None = None
    by: Literal["doubt", "chance", "judged"] | None = None
    """How the answer was chosen, as `AnswerToLabel.by` says. Figures and training leave out labels with ``doubt`` or
    ``judged``."""


class LabelObject(ApiModel):
    """A stored label."""

    object: Literal["label"]
    batch_id: str
    custom_id: str
    tier: str
    grade: float


class MessageToLabel(ApiModel):
    """A message of the query."""

    role: str
    text: str


class AnswerToLabel(ApiModel):
    """A query and its final answer, or one of a pair that a judge compared."""

    object: Literal["answer"]
    batch_id: str
    custom_id: str
    tier: str
    model: str | None
    """None if people label the answer without knowing its model."""
    confidence: float | None
    by: Literal["doubt", "chance", "judged"]
    messages: list[MessageToLabel]
    answer: str


class LabelSample(ApiModel):
    """Answers without a label."""

    object: Literal["list"]
    data: list[AnswerToLabel]
