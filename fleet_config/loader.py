"""From the bytes of a fleet file to a `Fleet`."""

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fleet_config import validation
from fleet_config.fleet_errors import FleetError, Problem, choice, key
from fleet_config.fleet_schema import (
    SHAPES,
    BudgetsTable,
    ConfigTable,
    FleetTable,
    ModelTable,
    ProviderTable,
    RouterTable,
    TierTable,
    TimingTable,
    WorkersTable,
    parse,
)
from fleet_config.price_lookup import price_of
from routing.fleet import (
    Budgets,
    Fleet,
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

T = TypeVar("T", bound=ConfigTable)


@dataclass(frozen=True, slots=True)
class CheckedFleet:
    """A fleet that can be used, and what one may still want to know about it."""

    fleet: Fleet
    warnings: tuple[Problem, ...]


def load_fleet(path: Path, environ: Mapping[str, str]) -> Fleet:
    """The fleet of the file at ``path``. Raises FleetError, which has every problem of it.

    ``environ`` gives ``POINTSMAN_SIMULATOR_URL``, by which ``simulator:`` addresses are resolved;
    while no simulator runs they stay as they are written.
    """
    return check_fleet(path, environ).fleet


def check_fleet(path: Path, environ: Mapping[str, str]) -> CheckedFleet:
    """The fleet of the file at ``path`` with its warnings. Raises FleetError."""
    content = _content(path)
    tables = _toml(path, content)
    parsed = _parse(tables)
    problems = [*parsed.problems, *_disagreements(parsed, tables)]
    digest = hashlib.sha256(content).hexdigest()
    prices: dict[str, Price] = {}
    for name, model in parsed.models.items():
        match price_of(name, model, provider=parsed.providers.get(model.provider), digest=digest):
            case Price() as price:
                prices[name] = price
            case Problem() as problem:
                problems.append(problem)
            case None:
                pass  # its provider is not sound, which has been said
    if problems:
        raise FleetError(path, problems)
    fleet = _fleet(parsed, prices, digest=digest, simulator_url=environ.get("POINTSMAN_SIMULATOR_URL"))
    return CheckedFleet(fleet, tuple(validation.warnings(fleet, environ)))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        fix = "Give the right file by --fleet FILE or POINTSMAN_FLEET."
        raise FleetError(path, [Problem("file", f"cannot be read: {error.strerror}.", fix)]) from error


def _toml(path: Path, content: bytes) -> Mapping[str, Any]:
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise FleetError(path, [Problem(f"byte {error.start}", "is not UTF-8.", "Save it as UTF-8.")]) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        # `from None`: tomllib's error shows no value, but a chained one could.
        raise FleetError(path, [Problem("TOML", f"{error}.", "Mend the syntax there.")]) from None


@dataclass
class _Parsed:
    """The tables that are sound in themselves, and the problems of the others."""

    problems: list[Problem] = field(default_factory=list)
    fleet: FleetTable | None = None
    providers: dict[str, ProviderTable] = field(default_factory=dict)
    models: dict[str, ModelTable] = field(default_factory=dict)
    tiers: dict[str, TierTable] = field(default_factory=dict)
    router: RouterTable | None = None
    budgets: BudgetsTable | None = None
    timing: TimingTable | None = None
    workers: WorkersTable | None = None

    def one(self, shape: type[T], tables: Mapping[str, Any], name: str) -> T | None:
        return self._keep(parse(shape, tables.get(name, {}), name))

    def each(self, shape: type[T], tables: Mapping[str, Any], kind: str) -> dict[str, T]:
        sound = {name: self._keep(parse(shape, table, kind, name)) for name, table in _named(tables, kind).items()}
        return {name: table for name, table in sound.items() if table is not None}

    def _keep(self, parsed: T | list[Problem]) -> T | None:
        if isinstance(parsed, list):
            self.problems.extend(parsed)
            return None
        return parsed


def _parse(tables: Mapping[str, Any]) -> _Parsed:
    parsed = _Parsed(problems=list(_table_problems(tables)))
    parsed.fleet = parsed.one(FleetTable, tables, "fleet") if "fleet" in tables else None
    parsed.providers = parsed.each(ProviderTable, tables, "providers")
    parsed.models = parsed.each(ModelTable, tables, "models")
    parsed.tiers = parsed.each(TierTable, tables, "tiers")
    parsed.router = parsed.one(RouterTable, tables, "router")
    parsed.budgets = parsed.one(BudgetsTable, tables, "budgets")
    parsed.timing = parsed.one(TimingTable, tables, "timing")
    parsed.workers = parsed.one(WorkersTable, tables, "workers")
    return parsed


_NEEDED: Mapping[str, str] = {
    "fleet": 'Add [fleet] with name = "…".',
    "providers": "Add a [providers.NAME] with kind and base_url.",
    "models": 'Add a [models."NAME"] with provider, tier, price and context_tokens.',
    "tiers": "Add a [tiers.NAME] with concurrency, the cheapest tier first.",
}


def _table_problems(tables: Mapping[str, Any]) -> Iterator[Problem]:
    for name in tables:
        if name not in SHAPES:
            yield Problem(key(name), "is no table of a fleet.", choice(name, SHAPES))
    for name, fix in _NEEDED.items():
        if name not in tables or tables[name] == {}:
            yield Problem(key(name), "is missing.", fix)
        elif name != "fleet" and not isinstance(tables[name], dict):
            yield Problem(key(name), "is not a table of tables.", fix)


def _named(tables: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    found = tables.get(kind)
    return found if isinstance(found, dict) else {}


def _disagreements(parsed: _Parsed, tables: Mapping[str, Any]) -> Iterator[Problem]:
    """What the tables do not agree on.

    References are held against the names that stand in the file, sound or not: one mistake, one message.
    """
    providers, models, tiers = (list(_named(tables, kind)) for kind in ("providers", "models", "tiers"))
    served = {str(model.get("tier")) for model in _named(tables, "models").values() if isinstance(model, dict)}
    if not models:
        served = set(tiers)  # that there is none at all has been said
    for name, provider in parsed.providers.items():
        # Where [fleet] itself is not sound nothing is said about what contradicts it.
        simulated = parsed.fleet.simulated if parsed.fleet else provider.base_url.startswith(validation.SIMULATOR)
        yield from validation.provider_problems(name, provider, simulated=simulated)
    for name, model in parsed.models.items():
        yield from validation.model_problems(name, model, providers=providers, tiers=tiers)
    for name, tier in parsed.tiers.items():
        yield from validation.tier_problems(name, tier, tiers=tiers, served=served)
    yield from validation.ladder_problems(parsed.tiers)
    if parsed.router is not None:
        yield from validation.router_problems(parsed.router, models=models)
    if parsed.timing is not None:
        yield from validation.timing_problems(parsed.timing, parsed.providers)


def _fleet(parsed: _Parsed, prices: Mapping[str, Price], *, digest: str, simulator_url: str | None) -> Fleet:
    """The records of tables in which no problem was found."""
    assert parsed.fleet is not None
    assert parsed.router is not None
    assert parsed.budgets is not None
    assert parsed.timing is not None
    assert parsed.workers is not None
    return Fleet(
        name=parsed.fleet.name,
        simulated=parsed.fleet.simulated,
        providers={name: _provider(name, table, simulator_url) for name, table in parsed.providers.items()},
        models={
            name: _model(name, table, prices[name], protocol=parsed.providers[table.provider].kind)
            for name, table in parsed.models.items()
        },
        tiers={name: _tier(name, table, parsed.models) for name, table in parsed.tiers.items()},
        router=_router(parsed.router),
        budgets=Budgets(**parsed.budgets.model_dump()),
        timing=Timing(**parsed.timing.model_dump()),
        workers=Workers(**parsed.workers.model_dump()),
        digest=digest,
    )


def _provider(name: str, table: ProviderTable, simulator_url: str | None) -> Provider:
    base_url = table.base_url.rstrip("/")
    if simulator_url and base_url.startswith(validation.SIMULATOR):
        base_url = simulator_url.rstrip("/") + base_url.removeprefix(validation.SIMULATOR)
    return Provider(
        **table.model_dump(exclude={"base_url", "failover_on"}),
        name=name,
        base_url=base_url,
        failover_on=frozenset(table.failover_on),
    )


def _model(name: str, table: ModelTable, price: Price, *, protocol: Protocol) -> Model:
    return Model(
        **table.model_dump(exclude={"model", "price", "price_multiplier", "categories"}),
        name=name,
        model=table.model or name,
        price=price,
        protocol=protocol,
        categories=frozenset(table.categories),
    )


def _tier(name: str, table: TierTable, models: Mapping[str, ModelTable]) -> Tier:
    return Tier(
        **table.model_dump(exclude={"queue"}),
        name=name,
        queue=table.queue or name,
        models=tuple(model for model, its in models.items() if its.tier == name),
    )


def _router(table: RouterTable) -> RouterPolicy:
    return RouterPolicy(
        **table.model_dump(exclude={"stages", "llm"}),
        stages=tuple(table.stages),
        llm=LlmRouter(**table.llm.model_dump()) if table.llm else None,
    )
