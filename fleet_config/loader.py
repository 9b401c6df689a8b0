"""Loads a fleet file."""

import hashlib
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from fleet_config import validation
from fleet_config.embedding_tier import embedding_problems
from fleet_config.fleet_errors import FleetError, Problem, choice, key
from fleet_config.fleet_schema import (
    TABLES,
    AliasesTable,
    BatchLimitsTable,
    BudgetsTable,
    CalibrationTable,
    ConfidenceTable,
    ConfigTable,
    FleetTable,
    ModelTable,
    PromptCachingTable,
    ProviderTable,
    QualityTable,
    RouterTable,
    ShapeTable,
    TenantQuotasTable,
    TierTable,
    TimingTable,
    WorkersTable,
    WorkloadTable,
    parse,
)
from fleet_config.price_lookup import list_price, price_of, with_lanes
from fleet_config.validation import Reference
from routing.answer_checks.confidence_policy import CalibrationMap, ConfidencePolicy, ConfidenceSource
from routing.fleet import (
    AnswerSharing,
    Baseline,
    Budgets,
    CachedBy,
    Fleet,
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
from routing.lanes.lane import BatchLimits, Lane
from routing.price import Price

T = TypeVar("T", bound=ConfigTable)


@dataclass(frozen=True, slots=True)
class CheckedFleet:
    """A valid fleet, and warnings about it."""

    fleet: Fleet
    warnings: tuple[Problem, ...]


def load_fleet(path: Path, environ: Mapping[str, str]) -> Fleet:
    """Return the fleet of the file at ``path``. Raises FleetError with all problems.

    ``POINTSMAN_SIMULATOR_URL`` in ``environ`` resolves ``simulator:`` addresses. Without it they stay unresolved.
    """
    return check_fleet(path, environ).fleet


def check_fleet(path: Path, environ: Mapping[str, str]) -> CheckedFleet:
    """Return the fleet of the file at ``path`` with its warnings. Raises FleetError."""
    content = _content(path)
    tables = _toml(path, content)
    parsed = _parse(tables)
    problems = [*parsed.problems, *_conflicts(parsed, tables)]
    digest = hashlib.sha256(content).hexdigest()
    prices: dict[str, Price] = {}
    for name, model in parsed.models.items():
        embeds = parsed.embeds(model)
        match price_of(name, model, provider=parsed.providers.get(model.provider), digest=digest, embeds=embeds):
            case Price() as price:
                prices[name] = price
            case Problem() as problem:
                problems.append(problem)
            case None:
                pass  # its provider is invalid, and reported
    baseline: Baseline | None = None
    if parsed.fleet is not None and parsed.fleet.baseline is not None and not problems:
        match _baseline(parsed.fleet.baseline, parsed.models, prices):
            case Problem() as problem:
                problems.append(problem)
            case found:
                baseline = found
    if problems:
        raise FleetError(path, problems)
    fleet = _fleet(
        parsed, prices, baseline=baseline, digest=digest, simulator_url=environ.get("POINTSMAN_SIMULATOR_URL")
    )
    return CheckedFleet(fleet, tuple(validation.warnings(fleet, environ)))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fix = "Set the path with --fleet FILE or POINTSMAN_FLEET."
        raise FleetError(path, [Problem("file", f"cannot be read: {error.strerror}.", fix)]) from error


def _toml(path: Path, content: bytes) -> Mapping[str, Any]:
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise FleetError(path, [Problem(f"byte {error.start}", "is not UTF-8.", "Save it as UTF-8.")]) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        # `from None`: the message has no value of the file, but a chained error may.
        raise FleetError(path, [Problem("TOML", f"{error}.", "Correct the syntax at this place.")]) from None


@dataclass
class _Parsed:
    """The valid tables, and the problems of the others."""

    problems: list[Problem] = field(default_factory=list)
    fleet: FleetTable | None = None
    providers: dict[str, ProviderTable] = field(default_factory=dict)
    models: dict[str, ModelTable] = field(default_factory=dict)
    tiers: dict[str, TierTable] = field(default_factory=dict)
    calibrations: dict[str, CalibrationTable] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    workloads: dict[str, WorkloadTable] = field(default_factory=dict)
    router: RouterTable | None = None
    budgets: BudgetsTable | None = None
    shape: ShapeTable | None = None
    quality: QualityTable | None = None
    timing: TimingTable | None = None
    workers: WorkersTable | None = None
    tenant_quotas: TenantQuotasTable | None = None

    def embeds(self, model: ModelTable) -> bool:
        """Whether a model belongs to the embedding tier."""
        tier = self.tiers.get(model.tier)
        return tier is not None and tier.endpoint == "embeddings"

    def parse(self, schema: type[T], value: object, *path: str) -> T | None:
        """Return the valid table, or None. Problems are collected."""
        parsed = parse(schema, value, *path)
        if isinstance(parsed, list):
            self.problems.extend(parsed)
            return None
        return parsed

    def parse_entries(self, schema: type[T], tables: Mapping[str, Any], kind: str) -> dict[str, T]:
        """Return the valid entries of a table of tables."""
        entries = {name: self.parse(schema, table, kind, name) for name, table in _entries(tables, kind).items()}
        return {name: table for name, table in entries.items() if table is not None}


def _parse(tables: Mapping[str, Any]) -> _Parsed:
    parsed = _Parsed(problems=list(_table_problems(tables)))
    parsed.fleet = parsed.parse(FleetTable, tables["fleet"], "fleet") if "fleet" in tables else None
    parsed.providers = parsed.parse_entries(ProviderTable, tables, "providers")
    parsed.models = parsed.parse_entries(ModelTable, tables, "models")
    parsed.tiers = parsed.parse_entries(TierTable, tables, "tiers")
    parsed.calibrations = parsed.parse_entries(CalibrationTable, tables, "calibrations")
    aliases = parsed.parse(AliasesTable, tables.get("aliases", {}), "aliases")
    parsed.aliases = {} if aliases is None else dict(aliases.model_extra or {})
    parsed.workloads = parsed.parse_entries(WorkloadTable, tables, "workloads")
    parsed.router = parsed.parse(RouterTable, tables.get("router", {}), "router")
    parsed.budgets = parsed.parse(BudgetsTable, tables.get("budgets", {}), "budgets")
    parsed.shape = parsed.parse(ShapeTable, tables.get("shape", {}), "shape")
    parsed.quality = parsed.parse(QualityTable, tables.get("quality", {}), "quality")
    parsed.timing = parsed.parse(TimingTable, tables.get("timing", {}), "timing")
    parsed.workers = parsed.parse(WorkersTable, tables.get("workers", {}), "workers")
    parsed.tenant_quotas = parsed.parse(TenantQuotasTable, tables.get("tenant_quotas", {}), "tenant_quotas")
    return parsed


_REQUIRED: Mapping[str, str] = {
    "fleet": 'Add [fleet] with name = "…".',
    "providers": "Add a [providers.NAME] with kind and base_url.",
    "models": 'Add a [models."NAME"] with provider, tier, price and context_tokens.',
    "tiers": "Add a [tiers.NAME] with concurrency, the cheapest tier first.",
}

_OPTIONAL: Mapping[str, str] = {
    "calibrations": "Write [calibrations.NAME] with model and points.",
    "workloads": "Write [workloads.NAME] with tier, dedup or reuse.",
}


def _table_problems(tables: Mapping[str, Any]) -> Iterator[Problem]:
    for name in tables:
        if name in FleetTable.model_fields:
            yield Problem(key(name), "is not in the table [fleet].", "Move it there.")
        elif name not in TABLES:
            yield Problem(key(name), "is not a table of a fleet file.", choice(name, TABLES))
    for name, fix in _REQUIRED.items():
        if name not in tables or tables[name] == {}:
            yield Problem(key(name), "is missing.", fix)
        elif name != "fleet" and not isinstance(tables[name], dict):
            yield Problem(key(name), "is not a table of tables.", fix)
    for name, fix in _OPTIONAL.items():
        if not isinstance(tables.get(name, {}), dict):
            yield Problem(name, "is not a table of tables.", fix)


def _entries(tables: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    entries = tables.get(kind)
    return entries if isinstance(entries, dict) else {}


def _conflicts(parsed: _Parsed, tables: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield problems between tables.

    References may name any entry of the file, valid or not, so that one mistake causes one message.
    """
    providers, models, tiers = (list(_entries(tables, kind)) for kind in ("providers", "models", "tiers"))
    served = {str(model.get("tier")) for model in _entries(tables, "models").values() if isinstance(model, dict)}
    if not models:
        served = set(tiers)  # the lack of models is reported
    yield from _deployment_problems(parsed, tiers=tiers)
    for name, tier in parsed.tiers.items():
        yield from validation.tier_problems(name, tier, served=served)
    yield from validation.ladder_problems(parsed.tiers)
    policies = {("tiers", name): tier.confidence for name, tier in parsed.tiers.items()}
    policies |= {("models", name): model.confidence for name, model in parsed.models.items() if model.confidence}
    to_chat = list(_references_to_chat(parsed, policies))
    known = {"provider": providers, "tier": tiers, "model": models, "model or a tier": [*tiers, *models]}
    yield from validation.reference_problems([*_references_of_models(parsed), *to_chat], known)
    yield from embedding_problems(parsed.tiers, parsed.models, parsed.providers, to_chat)
    for path, policy in policies.items():
        yield from validation.confidence_problems(path, policy, router=parsed.router)
    for name, calibration in parsed.calibrations.items():
        yield from validation.calibration_problems(name, calibration)
    names = {*tiers, *models, *(model.model for model in parsed.models.values() if model.model)}
    yield from validation.alias_problems(parsed.aliases, names=names)
    for name, workload in parsed.workloads.items():
        yield from validation.workload_problems(name, workload)
    if parsed.router is not None:
        yield from validation.router_problems(parsed.router)
    if parsed.timing is not None:
        yield from validation.timing_problems(parsed.timing, parsed.providers)


def _deployment_problems(parsed: _Parsed, *, tiers: Collection[str]) -> Iterator[Problem]:
    """Yield problems of the providers and of their models."""
    for name, provider in parsed.providers.items():
        # With an invalid [fleet] nothing can contradict it.
        simulated = parsed.fleet.simulated if parsed.fleet else provider.base_url.startswith(validation.SIMULATOR)
        yield from validation.provider_problems(name, provider, simulated=simulated)
        yield from validation.lane_problems(("providers", name), provider.lanes, kind=provider.kind)
    for name, model in parsed.models.items():
        yield from validation.model_problems(name, model, tiers=tiers, embeds=parsed.embeds(model))
        if model.lanes is not None:
            its = parsed.providers.get(model.provider)
            yield from validation.lane_problems(("models", name), model.lanes, kind=None if its is None else its.kind)


def _references_of_models(parsed: _Parsed) -> Iterator[Reference]:
    for name, model in parsed.models.items():
        yield Reference(("models", name, "provider"), model.provider, "provider")
        yield Reference(("models", name, "tier"), model.tier, "tier")


def _references_to_chat(parsed: _Parsed, policies: Mapping[tuple[str, str], ConfidenceTable]) -> Iterator[Reference]:
    """Yield the keys that name a tier or a model for chat completions, with the name."""
    for name, tier in parsed.tiers.items():
        yield Reference(("tiers", name, "escalates_to"), tier.escalates_to, "tier")
    for path, policy in policies.items():
        yield Reference((*path, "confidence", "verifier"), policy.verifier, "model")
    for name, calibration in parsed.calibrations.items():
        yield Reference(("calibrations", name, "model"), calibration.model, "model")
    for name, workload in parsed.workloads.items():
        yield Reference(("workloads", name, "tier"), workload.tier, "tier")
    if parsed.fleet is not None:
        yield Reference(("fleet", "baseline"), parsed.fleet.baseline, None)
    if parsed.router is not None and parsed.router.llm is not None:
        yield Reference(("router", "llm", "model"), parsed.router.llm.model, "model")
    if parsed.quality is not None:
        yield Reference(("quality", "judge"), parsed.quality.judge, "model or a tier")


def _baseline(name: str, models: Mapping[str, ModelTable], prices: Mapping[str, Price]) -> Baseline | Problem:
    """Return the model ``name`` at its price in this fleet, else at its list price."""
    for deployment, table in models.items():
        if name in (deployment, table.model):
            return Baseline(table.model or deployment, prices[deployment])
    if (price := list_price(name)) is not None:
        return Baseline(name, price)
    return Problem(
        "fleet.baseline",
        f"is {name!r}, whose price is unknown.",
        "Name a model of this fleet, or one with a known list price.",
    )


def _fleet(
    parsed: _Parsed,
    prices: Mapping[str, Price],
    *,
    baseline: Baseline | None,
    digest: str,
    simulator_url: str | None,
) -> Fleet:
    """Return the fleet of valid tables."""
    assert parsed.fleet is not None
    assert parsed.router is not None
    assert parsed.budgets is not None
    assert parsed.shape is not None
    assert parsed.quality is not None
    assert parsed.timing is not None
    assert parsed.workers is not None
    assert parsed.tenant_quotas is not None
    return Fleet(
        name=parsed.fleet.name,
        simulated=parsed.fleet.simulated,
        providers={name: _provider(name, table, simulator_url) for name, table in parsed.providers.items()},
        models={
            name: _model(
                name, table, prices[name], provider=parsed.providers[table.provider], embeds=parsed.embeds(table)
            )
            for name, table in parsed.models.items()
        },
        tiers={name: _tier(name, table, parsed.models) for name, table in parsed.tiers.items()},
        router=_router(parsed.router),
        budgets=Budgets(**parsed.budgets.model_dump()),
        shape=ShapePolicy(**parsed.shape.model_dump()),
        quality=Grading(**parsed.quality.model_dump(exclude={"command"}), command=tuple(parsed.quality.command)),
        timing=Timing(**parsed.timing.model_dump()),
        workers=Workers(**parsed.workers.model_dump()),
        tenant_quotas=TenantQuotas(**parsed.tenant_quotas.model_dump()),
        calibrations=tuple(_calibration(table) for table in parsed.calibrations.values()),
        aliases=parsed.aliases,
        baseline=baseline,
        workloads={name: table.tier for name, table in parsed.workloads.items() if table.tier is not None},
        answer_sharing={
            name: AnswerSharing(table.dedup, 0.0 if table.reuse is None else _age_s(table.reuse))
            for name, table in parsed.workloads.items()
            if (table.dedup, table.reuse) != (None, None)
        },
        digest=digest,
    )


def _age_s(text: str) -> float:
    return float(text[:-1]) * {"h": 3600, "d": 86_400, "w": 7 * 86_400}[text[-1]]


def _provider(name: str, table: ProviderTable, simulator_url: str | None) -> Provider:
    base_url = table.base_url.rstrip("/")
    if simulator_url and base_url.startswith(validation.SIMULATOR):
        base_url = simulator_url.rstrip("/") + base_url.removeprefix(validation.SIMULATOR)
        table = table.model_copy(update={"picture_links": True})  # it fetches nothing
    return Provider(
        **table.model_dump(exclude={"base_url", "failover_on", "extra_fields", "lanes", "batch_limits"}),
        name=name,
        base_url=base_url,
        failover_on=frozenset(table.failover_on),
        extra_fields=frozenset(table.extra_fields),
    )


_OF_MODEL: Final = {
    "model",
    "price",
    "price_multiplier",
    "categories",
    "confidence",
    "lanes",
    "batch_limits",
    "prompt_caching",
}
"""Keys of a model that the record holds in another form."""

_CACHED_BY: Final = {
    Protocol.OPENAI: CachedBy.PROMPT_CACHE_KEY,
    Protocol.ANTHROPIC: CachedBy.CACHE_CONTROL,
    Protocol.GOOGLE: CachedBy.ITSELF,
}

_BATCH_LIMITS: Final[Mapping[Protocol, BatchLimits]] = {
    Protocol.OPENAI: BatchLimits(max_requests=50_000, max_bytes=200_000_000),
    Protocol.ANTHROPIC: BatchLimits(max_requests=100_000, max_bytes=256_000_000),
    Protocol.GOOGLE: BatchLimits(max_requests=50_000, max_bytes=2_000_000_000),
}
"""The limits on the vendors' pages. Google states only bytes."""


def _model(name: str, table: ModelTable, price: Price, *, provider: ProviderTable, embeds: bool) -> Model:
    lanes = tuple(provider.lanes if table.lanes is None else table.lanes)
    if embeds:
        lanes, table = (Lane.STANDARD,), table.model_copy(update={"max_output_tokens": 0})
    return Model(
        **table.model_dump(exclude=_OF_MODEL),
        embeds=embeds,
        name=name,
        model=table.model or name,
        price=with_lanes(price, lanes),
        protocol=provider.kind,
        categories=frozenset(table.categories),
        confidence=None if table.confidence is None else _confidence(table.confidence),
        lanes=lanes,
        batch_limits=_batch_limits(provider.kind, provider.batch_limits, table.batch_limits),
        prompt_caching=_prompt_caching(provider.kind, table.prompt_caching),
    )


def _prompt_caching(kind: Protocol, table: PromptCachingTable | None) -> PromptCaching | None:
    if table is None:
        return None
    return PromptCaching(table.by or _CACHED_BY[kind], table.min_tokens, table.lifetime_s)


def _batch_limits(kind: Protocol, *tables: BatchLimitsTable | None) -> BatchLimits:
    """Return the limits of the protocol, overridden by those of the tables. Later tables take precedence."""
    limits = _BATCH_LIMITS[kind]
    for table in tables:
        if table is not None:
            limits = replace(limits, **table.model_dump(exclude_none=True))
    return limits


def _tier(name: str, table: TierTable, models: Mapping[str, ModelTable]) -> Tier:
    unscored = ConfidencePolicy(ConfidenceSource.NONE)
    return Tier(
        **table.model_dump(exclude={"queue", "confidence"}),
        name=name,
        queue=table.queue or name,
        confidence=_confidence(table.confidence) if table.endpoint == "chat" else unscored,
        models=tuple(model for model, its in models.items() if its.tier == name),
    )


def _confidence(table: ConfidenceTable) -> ConfidencePolicy:
    return ConfidencePolicy(**table.model_dump())


def _calibration(table: CalibrationTable) -> CalibrationMap:
    points = tuple((raw, p_right) for raw, p_right in table.points)
    return CalibrationMap(**table.model_dump(exclude={"points"}), points=points)


def _router(table: RouterTable) -> RouterPolicy:
    return RouterPolicy(
        **table.model_dump(exclude={"stages", "llm"}),
        stages=tuple(table.stages),
        llm=LlmRouter(**table.llm.model_dump()) if table.llm else None,
    )
