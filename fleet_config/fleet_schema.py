"""The tables of a fleet file. Defaults are those of `routing.fleet`."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fleet_config.fleet_errors import Problem, choice, closest, key
from routing.answer_checks.confidence_policy import CalibrationMap, ConfidencePolicy, ConfidenceSource
from routing.fleet import (
    BudgetPolicy,
    Budgets,
    CachedBy,
    Grading,
    LlmRouter,
    Model,
    PromptCaching,
    Protocol,
    Provider,
    RouterPolicy,
    ShapePolicy,
    TenantQuotas,
    Tier,
    Timing,
    Workers,
)
from routing.lanes.lane import Lane
from routing.outcome import FailureKind
from routing.price import Price


def _default(record: type, name: str) -> Any:
    """Return the default of a field, as declared in `routing.fleet`."""
    (found,) = (field.default for field in fields(record) if field.name == name)
    if found is MISSING:
        raise LookupError(f"{record.__name__}.{name} has no default")
    return found


def _as_number(value: object) -> object:
    """Accept whole numbers for floats, and reject booleans."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    return float(value) if isinstance(value, int) else value


def _no_number(value: object) -> object:
    """Reject numbers for booleans: in Python 1 equals True, in TOML it does not."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError('must be true, false or "auto"')
    return value


def _age(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"[1-9][0-9]{0,3}[hdw]", value):
        raise ValueError('must be an age in hours, days or weeks, such as "12h", "7d" or "4w"')
    return value


Http2 = Annotated[Literal[True, False, "auto"], BeforeValidator(_no_number)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), BeforeValidator(_as_number)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_as_number)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_as_number)]
Count = Annotated[int, Field(gt=0)]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Age = Annotated[str, BeforeValidator(_age)]
FilePath = Annotated[str, Field(min_length=1, max_length=1000)]
LenientProtocol = Annotated[Protocol, Field(strict=False)]
LenientCachedBy = Annotated[CachedBy, Field(strict=False)]
LenientPolicy = Annotated[BudgetPolicy, Field(strict=False)]
LenientKind = Annotated[FailureKind, Field(strict=False)]
LenientLane = Annotated[Lane, Field(strict=False)]
LenientSource = Annotated[ConfidenceSource, Field(strict=False)]
Point = Annotated[list[Share], Field(min_length=2, max_length=2)]
Router = Literal["gate", "classifier", "llm"]
Pool = Literal["threads", "solo"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
CapField = Literal["max_tokens", "max_completion_tokens"]
TierEndpoint = Literal["chat", "embeddings"]


class ConfigTable(BaseModel):
    """A table of the file. Unknown keys are errors, and errors hide values, which may be pasted secrets."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class FleetTable(ConfigTable):
    """``[fleet]``"""

    name: Text
    simulated: bool = False
    baseline: Text | None = None


class BatchLimitsTable(ConfigTable):
    """``batch_limits`` of a provider or a model. Missing keys have the values of the provider's protocol."""

    max_requests: Count | None = None
    max_bytes: Count | None = None
    max_enqueued_tokens: Count | None = None
    window_s: Annotated[Positive, Field(ge=60)] | None = None


class ProviderTable(ConfigTable):
    """``[providers.NAME]``"""

    kind: LenientProtocol
    base_url: Text
    api_key_env: Text | None = None
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    deadline_s: Positive = _default(Provider, "deadline_s")
    max_response_bytes: Count = _default(Provider, "max_response_bytes")
    proxy: Text | None = None
    proxy_login_env: Text | None = None
    ca_bundle: FilePath | None = None
    client_certificate: FilePath | None = None
    client_key: FilePath | None = None
    http2: Http2 = _default(Provider, "http2")
    connect_timeout_s: Positive = _default(Provider, "connect_timeout_s")
    max_connections: Count | None = None
    shared_limits: bool = _default(Provider, "shared_limits")
    failover_on: list[LenientKind] = []
    cap_field: CapField | None = None
    extra_fields: list[Text] = []
    picture_links: bool | None = None
    lanes: list[LenientLane] = [Lane.STANDARD]
    batch_limits: BatchLimitsTable = BatchLimitsTable()


class TierPriceTable(ConfigTable):
    """``price.service_tiers.NAME``: the price at a service tier of the provider, such as priority or flex."""

    input_usd_per_mtok: NotNegative
    output_usd_per_mtok: NotNegative
    cached_input_usd_per_mtok: NotNegative | None = None


class PriceTable(ConfigTable):
    """``price`` of a model, unless it is looked up."""

    input_usd_per_mtok: NotNegative
    output_usd_per_mtok: NotNegative
    cached_input_usd_per_mtok: NotNegative | None = None
    cache_write_usd_per_mtok: NotNegative | None = None
    cache_write_1h_usd_per_mtok: NotNegative | None = None
    audio_input_usd_per_mtok: NotNegative | None = None
    audio_output_usd_per_mtok: NotNegative | None = None
    service_tiers: dict[str, TierPriceTable] = {}


class ConfidenceTable(ConfigTable):
    """``confidence`` of a tier or a model"""

    source: LenientSource = _default(ConfidencePolicy, "source")
    samples: Annotated[int, Field(ge=1, le=10)] = _default(ConfidencePolicy, "samples")
    verifier: Text | None = None


class CalibrationTable(ConfigTable):
    """``[calibrations.NAME]``"""

    model: Text
    source: LenientSource
    workload: str = _default(CalibrationMap, "workload")
    points: Annotated[list[Point], Field(min_length=1, max_length=200)]


class WorkloadTable(ConfigTable):
    """``[workloads.NAME]``"""

    tier: Text | None = None
    dedup: bool | None = None
    reuse: Age | None = None


class PromptCachingTable(ConfigTable):
    """``prompt_caching`` of a model"""

    by: LenientCachedBy | None = None
    min_tokens: Count = _default(PromptCaching, "min_tokens")
    lifetime_s: Positive = _default(PromptCaching, "lifetime_s")


class ModelTable(ConfigTable):
    """``[models."NAME"]``"""

    provider: Text
    model: Text | None = None
    tier: Text
    price: Literal["look up"] | PriceTable
    price_multiplier: Positive = _default(Price, "multiplier")
    context_tokens: Count
    max_output_tokens: Count = _default(Model, "max_output_tokens")
    max_concurrency: Count | None = None
    requests_per_min: Count | None = None
    tokens_per_min: Count | None = None
    weight: Positive = _default(Model, "weight")
    logprobs: bool = False
    picture_tokens: Count | None = None
    categories: list[Text] = []
    confidence: ConfidenceTable | None = None
    cap_field: CapField | None = None
    reasoning_effort: Effort | None = None
    lanes: list[LenientLane] | None = None
    batch_limits: BatchLimitsTable | None = None
    prompt_caching: PromptCachingTable | None = None


class TierTable(ConfigTable):
    """``[tiers.NAME]``"""

    queue: Text | None = None
    concurrency: Count
    escalates_to: Text | None = None
    confidence_threshold: Share = _default(Tier, "confidence_threshold")
    hedge_after_p95: bool = _default(Tier, "hedge_after_p95")
    confidence: ConfidenceTable = ConfidenceTable()
    endpoint: TierEndpoint = _default(Tier, "endpoint")


class AliasesTable(ConfigTable):
    """``[aliases]``: names of models and their meanings."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Text] = Field(init=False)


class LlmTable(ConfigTable):
    """``[router.llm]``"""

    model: Text
    queries_per_call: Annotated[int, Field(ge=1, le=100)] = _default(LlmRouter, "queries_per_call")
    deadline_s: Positive = _default(LlmRouter, "deadline_s")
    max_chars_per_query: Count = _default(LlmRouter, "max_chars_per_query")


class RouterTable(ConfigTable):
    """``[router]``"""

    stages: Annotated[list[Router], Field(min_length=1)] = list(_default(RouterPolicy, "stages"))
    quality_weight: Positive = _default(RouterPolicy, "quality_weight")
    gate_sure: Share = _default(RouterPolicy, "gate_sure")
    classifier_sure: Share = _default(RouterPolicy, "classifier_sure")
    classifier: Text = _default(RouterPolicy, "classifier")
    scorer: Text | None = None
    shadow: Text | None = None
    exploration: Share = _default(RouterPolicy, "exploration")
    llm: LlmTable | None = None


class BudgetsTable(ConfigTable):
    """``[budgets]``"""

    batch_usd: Positive | None = None
    tenant_day_usd: Positive | None = None
    policy: LenientPolicy = _default(Budgets, "policy")
    allow_unbounded: bool = _default(Budgets, "allow_unbounded")


class ShapeTable(ConfigTable):
    """``[shape]``"""

    correction: bool = _default(ShapePolicy, "correction")
    repair: bool = _default(ShapePolicy, "repair")


class QualityTable(ConfigTable):
    """``[quality]``"""

    judge: Text | None = None
    command: Annotated[list[FilePath], Field(max_length=50)] = []
    command_timeout_s: Annotated[Positive, Field(le=3600)] = _default(Grading, "command_timeout_s")


class TimingTable(ConfigTable):
    """``[timing]``"""

    lease_s: Positive = _default(Timing, "lease_s")
    window_s: Positive = _default(Timing, "window_s")
    max_attempts: Count = _default(Timing, "max_attempts")
    backoff_s: Annotated[NotNegative, Field(le=60)] = _default(Timing, "backoff_s")


class WorkersTable(ConfigTable):
    """``[workers]``"""

    pool: Pool = _default(Workers, "pool")
    chunks_in_flight: Count = _default(Workers, "chunks_in_flight")
    prefetch: Count = _default(Workers, "prefetch")


class TenantQuotasTable(ConfigTable):
    """``[tenant_quotas]``"""

    files: Count = _default(TenantQuotas, "files")
    file_bytes: Count = _default(TenantQuotas, "file_bytes")
    stored_bytes: Count = _default(TenantQuotas, "stored_bytes")
    open_batches: Count = _default(TenantQuotas, "open_batches")
    waiting_chats: Count = _default(TenantQuotas, "waiting_chats")
    webhooks: Count = _default(TenantQuotas, "webhooks")
    streams: Count = _default(TenantQuotas, "streams")


TABLES: Mapping[str, type[ConfigTable]] = {
    "fleet": FleetTable,
    "providers": ProviderTable,
    "models": ModelTable,
    "tiers": TierTable,
    "calibrations": CalibrationTable,
    "aliases": AliasesTable,
    "workloads": WorkloadTable,
    "router": RouterTable,
    "budgets": BudgetsTable,
    "shape": ShapeTable,
    "quality": QualityTable,
    "timing": TimingTable,
    "workers": WorkersTable,
    "tenant_quotas": TenantQuotasTable,
}
"""The tables of the top level. For providers, models, tiers, calibrations and workloads it is the schema of each
entry."""

T = TypeVar("T", bound=ConfigTable)


def parse(schema: type[T], value: object, *path: str) -> T | list[Problem]:
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        return list(_problems(schema, error, path))


def _problems(schema: type[ConfigTable], error: ValidationError, path: tuple[str, ...]) -> Iterator[Problem]:
    errors = error.errors(include_url=False, include_input=False)
    misspelt = {_correct_path(schema, found["loc"]) for found in errors if found["type"] == "extra_forbidden"}
    for found in errors:
        # `price` has two schemas; pydantic adds the one that it tried to the path.
        where = [part for part in found["loc"] if part not in ("PriceTable", "literal['look up']")]
        if found["type"] == "literal_error" and where == ["price"]:
            continue  # the error of the other schema has more detail
        if found["type"] == "missing" and found["loc"] in misspelt:
            continue  # reported as a misspelt key
        yield Problem(key(*path, *where), *_message(schema, found["type"], found["msg"], where, found.get("ctx", {})))


def _correct_path(schema: type[ConfigTable], where: tuple[int | str, ...]) -> tuple[int | str, ...] | None:
    """Return the path of the known key that is most similar to a misspelled one."""
    correct = closest(str(where[-1]), _keys(schema, [part for part in where[:-1] if part != "PriceTable"]))
    return None if correct is None else (*where[:-1], correct)


def _message(
    schema: type[ConfigTable], kind: str, message: str, where: list[Any], context: Mapping[str, Any]
) -> tuple[str, str]:
    """Return the problem and its fix."""
    match kind:
        case "extra_forbidden":
            return "is not a key of this table.", choice(str(where[-1]), _keys(schema, where[:-1]))
        case "missing":
            return "is missing.", "Add it."
        case "model_type" if where == ["price"]:
            return "is not a price.", 'Use "look up", or { input_usd_per_mtok = 0.25, output_usd_per_mtok = 2.0 }.'
        case "model_type" | "dict_type":
            return "is not a table.", "Write it as [table] or { key = value }."
        case "enum" | "literal_error":
            return "has an unknown value.", f"Use {context['expected']}."
        case _:
            detail = message.removeprefix("Value error, ").removeprefix("Input ")
            return f"has an invalid value: {detail}.", "Change it."


def _keys(schema: type[ConfigTable], where: list[Any]) -> list[str]:
    """Return the keys of the table at ``where`` inside ``schema``."""
    if where == ["price"]:
        schema = PriceTable
    elif where[:2] == ["price", "service_tiers"]:
        schema = TierPriceTable
    elif where == ["llm"]:
        schema = LlmTable
    elif where == ["confidence"]:
        schema = ConfidenceTable
    elif where == ["batch_limits"]:
        schema = BatchLimitsTable
    return list(schema.model_fields)
