"""``pointsman doctor``: looks at each dependency and says what to do."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from cli.command_errors import ExitCode, describe_error
from cli.commands.check_fleet import fleet_words
from cli.commands.run import FleetOption, JsonOption
from cli.console import emit, out, plain
from cli.resources import open_database, read_settings
from db.reports import run_report
from fleet_config import SIMULATOR
from providers.transport.reachable import accepts_connections
from routing.fleet import Fleet
from settings import Settings, check_fleet, without_password
from telemetry import tracing
from workers.embedded.services import services_running, services_up
from workers.local_stack import stack_pid

app = typer.Typer()

_SEEN_S: Final = 15.0
_SIMULATOR_S: Final = 3.0
_LAGGING: Final = "They take it up within seconds; if they do not, their logs say why: router_refused."


class CheckStatus(StrEnum):
    """How a thing is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was found of one thing, and what to do about it."""

    thing: str
    health: CheckStatus
    found: str
    fix: str | None = None


@app.command()
def doctor(
    fleet: FleetOption = None,
    as_json: JsonOption = False,
    start: Annotated[bool, typer.Option(help="Start our own Postgres and Redis to look at them.")] = True,
    probe: Annotated[bool, typer.Option("--probe", help="Ask each provider for its list of models, for free.")] = False,
) -> None:
    """Look at each dependency, and say what to do.

    Whether it is reachable, its version, migrations, queue depths, workers, keys. Exits with 1 on a fault.
    """
    findings: list[CheckResult] = []
    for finding in _look(read_settings(fleet), start=start, probe=probe):
        findings.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        emit(
            {"healthy": all(f.health != CheckStatus.FAIL for f in findings), "findings": [asdict(f) for f in findings]}
        )
    if any(finding.health == CheckStatus.FAIL for finding in findings):
        raise typer.Exit(ExitCode.FAILURE)


def _show(finding: CheckResult) -> None:
    mark, style = {CheckStatus.OK: ("✔", "green"), CheckStatus.WARN: ("!", "yellow"), CheckStatus.FAIL: ("✘", "red")}[
        finding.health
    ]
    out.print(Text.assemble((f"{mark} ", style), (f"{finding.thing:<12}", "bold"), plain(finding.found)))
    if finding.fix:
        out.print(Text(f"  {'':<12}→ {finding.fix}", style=style))


def _look(settings: Settings, *, start: bool, probe: bool) -> Iterator[CheckResult]:
    yield CheckResult("home", CheckStatus.OK, str(settings.home))
    fleet: Fleet | None = None
    try:
        checked = check_fleet(settings.fleet_path, os.environ)
        fleet = checked.fleet
        yield CheckResult("fleet", CheckStatus.OK, f"{settings.fleet_path}: {fleet_words(fleet)}")
        yield from (CheckResult("fleet", CheckStatus.WARN, f"{w.key}: {w.wrong}", w.fix) for w in checked.warnings)
    except ValueError as error:
        yield _fault("fleet", error)
    yield _traces(os.environ)
    with ExitStack() as held:
        if settings.embedded and (start or services_running(settings)):
            try:
                settings = held.enter_context(services_up(settings)).settings
            except Exception as error:
                yield _fault("services", error)
                return
        yield from _postgres(settings)
        yield from _broker(settings)
        if fleet is not None:
            yield from _queues(settings, fleet)
            yield from _workers(settings, fleet)
            yield from _router(settings, fleet)
            yield from _providers(settings, fleet, probe=probe)


def _traces(environ: Mapping[str, str]) -> CheckResult:
    where = tracing.destination(environ)
    if where is None:
        return CheckResult("traces", CheckStatus.OK, f"off; {tracing.ENDPOINT} switches them on")
    if absent := tracing.missing():
        return CheckResult("traces", CheckStatus.WARN, f"off: {', '.join(absent)} not installed", tracing.INSTALL)
    if not tracing.is_reachable(where):
        fix = "Is the endpoint right, and does it listen? Spans are lost meanwhile, and nothing else."
        return CheckResult("traces", CheckStatus.WARN, f"on, to {where}, which cannot be reached from here", fix)
    return CheckResult("traces", CheckStatus.OK, f"on, to {where}")


def _fault(thing: str, error: BaseException) -> CheckResult:
    failure = describe_error(error)
    # What elsewhere sends to this command says nothing here.
    hint = "" if failure.hint is None else failure.hint.partition("`pointsman doctor`")[0].rstrip()
    return CheckResult(thing, CheckStatus.FAIL, " ".join(failure.lines), hint or None)


def _postgres(settings: Settings) -> Iterator[CheckResult]:
    from db import migrate

    whose = "our own" if settings.embeds_postgres else "yours"
    if settings.database is None:
        fix = "`pointsman up` starts it."
        yield CheckResult("postgres", CheckStatus.WARN, f"{whose}, not running", fix)
        return
    try:
        (server,) = _ask(settings, "server")
        revision, newest = migrate.current(settings.database), migrate.newest()
    except Exception as error:
        yield _fault("postgres", error)
        return
    size = f"{server.bytes / 1e6:,.0f} MB"
    yield CheckResult("postgres", CheckStatus.OK, f"{whose}, version {server.version}, {size}, up {server.up_s:,.0f} s")
    ends = settings.embeds_postgres and stack_pid(settings) is None
    when = "Our own is there while `pointsman up` runs." if ends else None
    yield CheckResult("postgres", CheckStatus.OK, f'psql "{settings.psql_url}"', when)
    if revision == newest:
        yield CheckResult("migration", CheckStatus.OK, f"{revision}, the newest")
    else:
        fix = "`pointsman up` and `pointsman run` migrate; or run `alembic upgrade head`."
        yield CheckResult("migration", CheckStatus.WARN, f"{revision or 'none'}, the newest is {newest}", fix)


def _ask(settings: Settings, name: str, **params: object) -> list[Any]:
    async def work() -> list[Any]:
        # Not as the application's role, which a database has only once it is migrated.
        async with open_database(settings, role=None) as engine:
            return list(await run_report(engine, name, **params))

    return asyncio.run(work())


def _broker(settings: Settings) -> Iterator[CheckResult]:
    whose = "our own" if settings.embeds_redis else "yours"
    if settings.redis is None and settings.broker is None:
        yield CheckResult("redis", CheckStatus.WARN, f"{whose}, not running", "`pointsman up` starts it.")
        return
    if settings.redis is not None:
        yield _redis(settings.redis, whose)
    if settings.broker is not None and settings.broker.startswith(("amqp", "pyamqp")):
        yield _rabbitmq(settings)


# Celery, Redis' client and Alembic take a third of a command's start, and the other commands do without.


def _redis(url: str, whose: str) -> CheckResult:
    from redis import Redis
    from redis.exceptions import RedisError

    try:
        with Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
            info: dict[str, Any] = client.info()
    except (RedisError, OSError):
        fix = "Is BROKER_URL (or REDIS_URL) right, and is Redis up?"
        return CheckResult("redis", CheckStatus.FAIL, f"{without_password(url)} cannot be reached", fix)
    words = f"{whose}, version {info.get('redis_version')}, {info.get('used_memory_human')} used"
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        fix = "Set maxmemory-policy noeviction: with another, messages vanish and come back late."
        return CheckResult("redis", CheckStatus.WARN, f"{words}, maxmemory-policy {policy}", fix)
    return CheckResult("redis", CheckStatus.OK, words)


def _rabbitmq(settings: Settings) -> CheckResult:
    from tasks.broker_state import UNREACHABLE
    from tasks.celery_app import app as celery

    try:
        with celery.connection_for_write(settings.broker_url) as connection:
            connection.ensure_connection(max_retries=1)
            found = connection.connection.server_properties.get("version", "?")
    except UNREACHABLE:
        fix = "Is BROKER_URL right, and is RabbitMQ up?"
        return CheckResult(
            "rabbitmq", CheckStatus.FAIL, f"{without_password(settings.broker_url)} cannot be reached", fix
        )
    return CheckResult("rabbitmq", CheckStatus.OK, f"version {found}")


def _queues(settings: Settings, fleet: Fleet) -> Iterator[CheckResult]:
    from tasks.broker_state import UNREACHABLE, broker_depth
    from tasks.celery_app import configure, queue_of, stages

    if settings.database is None or settings.broker is None:
        return
    try:
        rows = {row.stage: row for row in _ask(settings, "queue_depths")}
    except DBAPIError:
        return  # what is wrong with Postgres has been said
    configure(settings, fleet)
    messages: dict[str, int] = {}
    with suppress(*UNREACHABLE):  # one that is away is waited for once
        for stage in stages(fleet):
            messages[stage] = broker_depth(queue_of(stage, fleet))
    for stage in stages(fleet):
        row = rows.pop(stage, None)
        told = "empty"
        if row is not None:
            told = f"{row.ready:,} ready, {row.queued:,} queued, {row.running:,} running, {row.held:,} held"
            told += f", the oldest waits {row.oldest_wait_s:,.0f} s" if row.oldest_wait_s is not None else ""
        told += f"; {messages[stage]:,} messages" if stage in messages else ""
        yield CheckResult(f"{stage}", CheckStatus.OK, told)
    for stage, row in rows.items():
        waiting = row.ready + row.queued + row.running + row.held
        fix = "Add the tier to the fleet again, or cancel the batches that wait for it."
        yield CheckResult(
            str(stage), CheckStatus.FAIL, f"{waiting:,} queries wait at a stage that the fleet has not", fix
        )
    for row in _ask(settings, "batches_of_others", simulated=fleet.simulated):
        theirs, ours = ("real calls", "simulates") if fleet.simulated else ("simulated answers", "calls for real")
        found = f"{row.batches:,} open of the fleet {row.fleet!r} are for {theirs}, and this fleet {ours}"
        fix = "Workers leave these alone: stop them and start that fleet's, or cancel the batches."
        yield CheckResult("batches", CheckStatus.WARN, found, fix)


def _workers(settings: Settings, fleet: Fleet) -> Iterator[CheckResult]:
    from tasks.celery_app import stages

    if settings.database is None:
        return
    try:
        rows = _ask(settings, "workers", seen_within_s=_SEEN_S)
    except DBAPIError:
        return
    if not rows:
        pid = stack_pid(settings)
        told = f"none, though process {pid} runs a stack" if pid else "none is running"
        yield CheckResult("workers", CheckStatus.FAIL if pid else CheckStatus.WARN, told, "`pointsman up` starts them.")
        return
    served = {role for row in rows for role in str(row.role).split()}
    for row in rows:
        told = f"{row.name} on {row.host}"
        told += f", {row.in_flight} of {row.slots} slots busy" if row.slots else ""  # feeder and route have none
        yield CheckResult("worker", CheckStatus.OK, told)
    missing = [stage for stage in (*stages(fleet), "feeder") if stage not in served]
    if missing:
        fix = f"Start them: `python -m workers STAGE`, for {', '.join(missing)}."
        yield CheckResult("workers", CheckStatus.FAIL, f"nobody serves {', '.join(missing)}", fix)


def _router(settings: Settings, fleet: Fleet) -> Iterator[CheckResult]:
    """Which trained router is to serve, and whether the workers that run do serve it."""
    if "classifier" not in fleet.router.stages and fleet.router.scorer is None:
        yield CheckResult("router", CheckStatus.OK, "no trained one takes part: router.stages of the fleet")
        return
    # numpy and scipy take a third of a second, and most commands do without.
    from evaluation.data.dataset_errors import EvaluationError
    from model_registry.resolver import load_serving

    async def work() -> str:
        async with open_database(settings, role=None) as engine:
            return (await load_serving(engine, fleet, settings.home / "routers")).told

    if settings.database is None:
        return
    try:
        told = asyncio.run(work())
        others = {row.router for row in _ask(settings, "workers", seen_within_s=_SEEN_S)} - {told, None}
    except EvaluationError as error:
        yield CheckResult("router", CheckStatus.FAIL, str(error), "`pointsman routers list` shows what there is.")
        return
    except DBAPIError:
        return
    yield CheckResult("router", CheckStatus.OK, f"{told} serves")
    if others:
        running = ", ".join(sorted(others))
        yield CheckResult("router", CheckStatus.WARN, f"workers still decide by {running}", _LAGGING)


def _providers(settings: Settings, fleet: Fleet, *, probe: bool) -> Iterator[CheckResult]:
    # httpx and aiohttp take a fifth of a second, and most commands do without.
    from cli.provider_probe import environment_ignored, fix_of, probe_providers

    asked: list[str] = []
    for name, provider in fleet.providers.items():
        for found, fix in environment_ignored(provider, os.environ):
            yield CheckResult(name, CheckStatus.WARN, found, fix)
        if provider.api_key_env and not os.environ.get(provider.api_key_env):
            fix = f"Set {provider.api_key_env} in the environment of the workers."
            yield CheckResult(name, CheckStatus.WARN, f"no key: {provider.api_key_env} is not set here", fix)
        elif provider.base_url.startswith(SIMULATOR):
            yield _simulator(name, settings.simulator_url)
        elif probe:
            asked.append(name)
        else:
            yield CheckResult(
                name, CheckStatus.OK, f"{provider.kind} at {provider.base_url} (not called; --probe does)"
            )
    for name, failure in asyncio.run(probe_providers(fleet, asked, os.environ)) if asked else ():
        where = f"{fleet.providers[name].kind} at {fleet.providers[name].base_url}"
        if failure is None:
            yield CheckResult(name, CheckStatus.OK, f"{where} answers")
        else:
            told = f"{where}: {failure.kind}, {failure.message}"
            yield CheckResult(name, CheckStatus.FAIL, told, fix_of(failure, fleet.providers[name]))


def _simulator(name: str, url: str | None) -> CheckResult:
    told = "the simulator, started by `run` and `up`" if url is None else f"the simulator at {url}"
    parts = urlsplit(url or "")
    if url is None or accepts_connections(parts.hostname or "", parts.port or 80, timeout_s=_SIMULATOR_S):
        return CheckResult(name, CheckStatus.OK, told)
    return CheckResult(name, CheckStatus.FAIL, f"{told} does not answer", "`pointsman down`, then `pointsman up`.")
