"""What goes in and comes out, for validation and for ``/openapi.json``."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import Path
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from db.batch_writer import MAX_USD

BatchPath = Annotated[str, Path(alias="batch_id")]
"""The public id of a batch in a path. To users of the API, as in OpenAI's, that is the ``batch_id``."""
Name = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00]*$")]
Words = Annotated[str, StringConstraints(max_length=512, pattern=r"^[^\x00]*$")]
Url = Annotated[
    str,
    Field(
        max_length=2000,
        pattern=r"^https?://[A-Za-z0-9](?:[A-Za-z0-9.-]{0,200}[A-Za-z0-9])?(?::[1-9][0-9]{0,4})?(?:[/?][!-~]*)?$",
    ),
]
WHOLE = BeforeValidator(lambda given: int(given) if type(given) is float and given % 1 == 0 else given)
"""Takes 2.0 for an integer, as JSON Schema does."""
WINDOW_PATTERN = r"^(?:(?:[1-9]|[12][0-9]|30)d|[1-9][0-9]{0,2}h|[1-9][0-9]{0,3}m)$"
"""Up to 30 days, 999 hours or 9999 minutes."""
FORMS: Final[Mapping[str, str]] = {
    "completion_window": "write 24h, or another number of m, h or d, up to 9999m, 999h or 30d",
    "url": "write an address that begins with https://",
}
"""What is told of a field that is not of its form, instead of the form as a regular expression."""
EVENTS = ("batch.completed", "batch.failed", "batch.expired", "batch.cancelled")
Event = Literal["batch.completed", "batch.failed", "batch.expired", "batch.cancelled"]
Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]


class ApiModel(BaseModel):
    """Keys that are not known pass: clients are newer than we are."""

    model_config = ConfigDict(extra="ignore", strict=True)


class ErrorDetail(ApiModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(ApiModel):
    """Every error."""

    error: ErrorDetail


class ExpiresAfter(ApiModel):
    """When a file goes, counted from its creation."""

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


class FileList(ApiModel):
    """A page of files."""

    object: Literal["list"]
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(ApiModel):
    """A file that is gone."""

    id: str
    object: Literal["file"]
    deleted: bool


class BatchBudgetOptions(ApiModel):
    """What may be said of a batch beside OpenAI's fields: ``extra_body={"pointsman": {…}}`` in the SDK."""

    # Not to be overlooked: a misspelt budget would be none.
    model_config = ConfigDict(extra="forbid", strict=True)

    max_cost_usd: Annotated[float, Field(ge=0, le=MAX_USD, allow_inf_nan=False)] | None = Field(
        default=None, description="The most that the batch may cost; the fleet's default, if left out."
    )
    budget_policy: Literal["hold", "fail", "degrade"] | None = Field(
        default=None, description="What becomes of what the budget has no room for; the fleet's, if left out."
    )
    priority: Annotated[int, Field(ge=-100, le=0), WHOLE] = Field(
        default=0, description="Below 0: behind the batches of all tenants that are not."
    )


_MEANS: Final = frozenset({*BatchBudgetOptions.model_fields, "budget", "budget_usd"})


class BatchCreate(ApiModel):
    """A batch to be made of an uploaded file."""

    input_file_id: str
    endpoint: Annotated[str, Field(json_schema_extra={"enum": ["/v1/chat/completions"]})]
    completion_window: Annotated[str, Field(pattern=WINDOW_PATTERN, description="24h, or another number of m, h or d")]
    metadata: Annotated[dict[Name, Words], Field(max_length=16)] | None = None
    output_expires_after: ExpiresAfter | None = None
    pointsman: BatchBudgetOptions | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_means_beside(cls, given: Any) -> Any:
        """Other keys pass, but a budget in the wrong place would be none."""
        if isinstance(given, dict):
            for key in given.keys() & _MEANS:
                raise PydanticCustomError("misplaced", '{key} belongs into the object "pointsman"', {"key": key})
        return given


class BatchError(ApiModel):
    """A line that cannot be taken."""

    code: str
    message: str
    param: str | None
    line: int | None


class BatchErrors(ApiModel):
    """Why a batch failed."""

    object: Literal["list"]
    data: list[BatchError]


class RequestCounts(ApiModel):
    """Lines by how they ended. Expired ones count as failed."""

    total: int
    completed: int
    failed: int


class InputTokensDetails(ApiModel):
    """Of the input tokens."""

    cached_tokens: int


class OutputTokensDetails(ApiModel):
    """Of the output tokens."""

    reasoning_tokens: int


class BatchUsage(ApiModel):
    """Tokens of all calls of a batch, those of routers and rejected answers included."""

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
    request_counts: RequestCounts
    usage: BatchUsage | None
    metadata: dict[str, Any] | None


class BatchList(ApiModel):
    """A page of batches."""

    object: Literal["list"]
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ModelObject(ApiModel):
    """A name that a line may ask for: ``auto``, a tier, or a model of the fleet."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(ApiModel):
    """All of them."""

    object: Literal["list"]
    data: list[ModelObject]


class WebhookCreate(ApiModel):
    """Where to tell of which events."""

    name: Name
    url: Url
    event_types: Annotated[list[Event], Field(min_length=1, max_length=16)]


class WebhookChange(ApiModel):
    """What is given is changed."""

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
    """A webhook with its secret, which is told this once."""

    signing_secret: str


class WebhookList(ApiModel):
    """A page of webhooks."""

    object: Literal["list"]
    data: list[WebhookObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class WebhookDeleted(ApiModel):
    """A webhook that is gone."""

    id: str
    object: Literal["webhook_endpoint.deleted"]
    deleted: bool


class LabelCreate(ApiModel):
    """How right the answer to a line is. Without ``tier`` the answer that stood is meant."""

    batch_id: Annotated[str, StringConstraints(min_length=1, max_length=80)]
    custom_id: Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00]*$")]
    grade: Annotated[float, Field(ge=0, le=1)]
    """0 wrong to 1 right."""
    tier: Name | None = None
    by: Literal["doubt", "chance"] | None = None
    """How the answer came up, as its sample says: what is said by doubt stays out of figures and learning."""


class LabelObject(ApiModel):
    """A label that was taken."""

    object: Literal["label"]
    batch_id: str
    custom_id: str
    tier: str
    grade: float


class MessageToLabel(ApiModel):
    """What somebody said."""

    role: str
    text: str


class AnswerToLabel(ApiModel):
    """A question and the answer that stands."""

    object: Literal["answer"]
    batch_id: str
    custom_id: str
    tier: str
    model: str
    confidence: float | None
    by: Literal["doubt", "chance"]
    messages: list[MessageToLabel]
    answer: str


class LabelSample(ApiModel):
    """Answers without a label."""

    object: Literal["list"]
    data: list[AnswerToLabel]
