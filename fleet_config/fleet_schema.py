"""What each table of a fleet file may hold. The defaults are those of `routing.fleet`, stated there once."""

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fleet_config.fleet_errors import Problem, choice, closest, key
from routing.fleet import (
    BudgetPolicy,
    Budgets,
    LlmRouter,
    Model,
    Price,
    Protocol,
    Provider,
    RouterPolicy,
    Tier,
    Timing,
    Workers,
)
from routing.outcome import FailureKind


def _default(record: type, name: str) -> Any:
    """The default of a record's field, which is declared once, in `routing.fleet`."""
    (found,) = (field.default for field in fields(record) if field.name == name)
    if found is MISSING:
        raise LookupError(f"{record.__name__}.{name} has no default")
    return found


def _as_number(value: object) -> object:
    """TOML's whole numbers will do where a fraction may stand; its booleans will not."""
    if isinstance(value, bool):
        raise ValueError("a number is needed")
    return float(value) if isinstance(value, int) else value


def _no_number(value: object) -> object:
    """In Python 1 is True, in TOML it is not."""
    if isinstance(value, int) and not isinstance(value, bool):
        raise ValueError('true, false or "auto" is needed')
    return value


Http2 = Annotated[Literal[True, False, "auto"], BeforeValidator(_no_number)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), BeforeValidator(_as_number)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_as_number)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_as_number)]
Count = Annotated[int, Field(gt=0)]
Words = Annotated[str, Field(min_length=1, max_length=200)]
FilePath = Annotated[str, Field(min_length=1, max_length=1000)]
LenientProtocol = Annotated[Protocol, Field(strict=False)]
LenientPolicy = Annotated[BudgetPolicy, Field(strict=False)]
LenientKind = Annotated[FailureKind, Field(strict=False)]
Router = Literal["gate", "classifier", "llm"]
Pool = Literal["threads", "solo"]
CapField = Literal["max_tokens", "max_completion_tokens"]


class ConfigTable(BaseModel):
    """A table of the file: unknown keys are errors, and no error shows the value, which may be a pasted key."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class FleetTable(ConfigTable):
    """``[fleet]``"""

    name: Words
    simulated: bool = False


class ProviderTable(ConfigTable):
    """``[providers.NAME]``"""

    kind: LenientProtocol
    base_url: Words
    api_key_env: Words | None = None
    headers: dict[str, str] = {}
    query: dict[str, str] = {}
    deadline_s: Positive = _default(Provider, "deadline_s")
    max_response_bytes: Count = _default(Provider, "max_response_bytes")
    proxy: Words | None = None
    proxy_login_env: Words | None = None
    ca_bundle: FilePath | None = None
    client_certificate: FilePath | None = None
    client_key: FilePath | None = None
    http2: Http2 = _default(Provider, "http2")
    connect_timeout_s: Positive = _default(Provider, "connect_timeout_s")
    max_connections: Count | None = None
    shared_limits: bool = _default(Provider, "shared_limits")
    failover_on: list[LenientKind] = []
    cap_field: CapField | None = None


class TierPriceTable(ConfigTable):
    """``price.service_tiers.NAME``: the price at a service tier of the provider, such as priority or flex."""

    input_usd_per_mtok: NotNegative
    output_usd_per_mtok: NotNegative
    cached_input_usd_per_mtok: NotNegative | None = None


class PriceTable(ConfigTable):
    """``price`` of a model, where it is not to be looked up."""

    input_usd_per_mtok: NotNegative
    output_usd_per_mtok: NotNegative
    cached_input_usd_per_mtok: NotNegative | None = None
    cache_write_usd_per_mtok: NotNegative | None = None
    cache_write_1h_usd_per_mtok: NotNegative | None = None
    audio_input_usd_per_mtok: NotNegative | None = None
    audio_output_usd_per_mtok: NotNegative | None = None
    service_tiers: dict[str, TierPriceTable] = {}


class ModelTable(ConfigTable):
    """``[models."NAME"]``"""

    provider: Words
    model: Words | None = None
    tier: Words
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
    categories: list[Words] = []
    cap_field: CapField | None = None


class TierTable(ConfigTable):
    """``[tiers.NAME]``"""

    queue: Words | None = None
    concurrency: Count
    escalates_to: Words | None = None
    confidence_threshold: Share = _default(Tier, "confidence_threshold")
    hedge_after_p95: bool = _default(Tier, "hedge_after_p95")


class LlmTable(ConfigTable):
    """``[router.llm]``"""

    model: Words
    queries_per_call: Annotated[int, Field(ge=1, le=100)] = _default(LlmRouter, "queries_per_call")
    deadline_s: Positive = _default(LlmRouter, "deadline_s")
    max_chars_per_query: Count = _default(LlmRouter, "max_chars_per_query")


class RouterTable(ConfigTable):
    """``[router]``"""

    stages: Annotated[list[Router], Field(min_length=1)] = list(_default(RouterPolicy, "stages"))
    quality_weight: Positive = _default(RouterPolicy, "quality_weight")
    gate_sure: Share = _default(RouterPolicy, "gate_sure")
    classifier_sure: Share = _default(RouterPolicy, "classifier_sure")
    classifier: Words = _default(RouterPolicy, "classifier")
    scorer: Words | None = None
    shadow: Words | None = None
    exploration: Share = _default(RouterPolicy, "exploration")
    llm: LlmTable | None = None


class BudgetsTable(ConfigTable):
    """``[budgets]``"""

    batch_usd: Positive | None = None
    tenant_day_usd: Positive | None = None
    policy: LenientPolicy = _default(Budgets, "policy")
    allow_unbounded: bool = _default(Budgets, "allow_unbounded")


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


SHAPES: Mapping[str, type[ConfigTable]] = {
    "fleet": FleetTable,
    "providers": ProviderTable,
    "models": ModelTable,
    "tiers": TierTable,
    "router": RouterTable,
    "budgets": BudgetsTable,
    "timing": TimingTable,
    "workers": WorkersTable,
}
"""The tables of the top level; of providers, models and tiers the shape of each one in them."""

T = TypeVar("T", bound=ConfigTable)


def parse(shape: type[T], given: object, *path: str) -> T | list[Problem]:
    """The table at ``path``, or what is wrong with it."""
    try:
        return shape.model_validate(given)
    except ValidationError as error:
        return list(_problems(shape, error, path))


def _problems(shape: type[ConfigTable], error: ValidationError, path: tuple[str, ...]) -> Iterator[Problem]:
    all_found = error.errors(include_url=False, include_input=False)
    misspelt = {_meant(shape, found["loc"]) for found in all_found if found["type"] == "extra_forbidden"}
    for found in all_found:
        # `price` is one of two shapes; pydantic names the one that it tried in the key's path.
        where = [part for part in found["loc"] if part not in ("PriceTable", "literal['look up']")]
        if found["type"] == "literal_error" and where == ["price"]:
            continue  # the other shape's complaint says the same with more use
        if found["type"] == "missing" and found["loc"] in misspelt:
            continue  # it is there, under a name that has been complained of
        yield Problem(key(*path, *where), *_words(shape, found["type"], found["msg"], where, found.get("ctx", {})))


def _meant(shape: type[ConfigTable], where: tuple[int | str, ...]) -> tuple[int | str, ...] | None:
    """The path of the key that a misspelt one was meant to be."""
    meant = closest(str(where[-1]), _keys(shape, [part for part in where[:-1] if part != "PriceTable"]))
    return None if meant is None else (*where[:-1], meant)


def _words(
    shape: type[ConfigTable], kind: str, message: str, where: list[Any], context: Mapping[str, Any]
) -> tuple[str, str]:
    """What is wrong and the mend."""
    match kind:
        case "extra_forbidden":
            return "is not a key of this table.", choice(str(where[-1]), _keys(shape, where[:-1]))
        case "missing":
            return "is missing.", "Add it."
        case "model_type" if where == ["price"]:
            return "is no price.", 'Write "look up", or { input_usd_per_mtok = 0.25, output_usd_per_mtok = 2.0 }.'
        case "model_type" | "dict_type":
            return "is not a table.", "Write it as [table] or { key = value }."
        case "enum" | "literal_error":
            return "has a value that is not known.", f"Write {context['expected']}."
        case _:
            said = message.removeprefix("Value error, ").removeprefix("Input ")
            return f"has a value that will not do: {said}.", "Change it."


def _keys(shape: type[ConfigTable], where: list[Any]) -> list[str]:
    """The keys of the table at ``where`` inside ``shape``."""
    if where == ["price"]:
        shape = PriceTable
    elif where[:2] == ["price", "service_tiers"]:
        shape = TierPriceTable
    elif where == ["llm"]:
        shape = LlmTable
    return list(shape.model_fields)
