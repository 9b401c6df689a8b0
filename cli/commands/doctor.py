"""``pointsman doctor``: looks at each dependency and says what to do."""

import asyncio
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

import typer
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from cli.command_errors import Code, tell
from cli.commands.check_fleet import fleet_words
from cli.commands.run import FleetOption, JsonOption
from cli.console import emit, out, plain
from cli.resources import opened_database, read_settings
from db.reports import ask
from fleet_config import SIMULATOR
from routing.fleet import Fleet
from settings import Settings, check_fleet, without_password
from telemetry import tracing
from workers.embedded.services import services_running, services_up
from workers.local_stack import stack_pid

app = typer.Typer()

_SEEN_S: Final = 15.0
_LAGGING: Final = "They take it up within seconds; if they do not, their logs say why: router_refused."


class Health(StrEnum):
    """How a thing is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one thing, and what to do about it."""

    thing: str
    health: Health
    found: str
    mend: str | None = None


@app.command()
def doctor(
    fleet: FleetOption = None,
    as_json: JsonOption = False,
    start: Annotated[bool, typer.Option(help="Start our own Postgres and Redis to look at them.")] = True,
) -> None:
    """Look at each dependency, and say what to do.

    Whether it is reachable, its version, migrations, queue depths, workers, keys. Exits with 1 on a fault.
    """
    findings: list[Finding] = []
    for finding in _look(read_settings(fleet), start=start):
        findings.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        emit({"healthy": all(f.health != Health.FAIL for f in findings), "findings": [asdict(f) for f in findings]})
    if any(finding.health == Health.FAIL for finding in findings):
        raise typer.Exit(Code.FAILURE)


def _show(finding: Finding) -> None:
    mark, style = {Health.OK: ("✔", "green"), Health.WARN: ("!", "yellow"), Health.FAIL: ("✘", "red")}[finding.health]
    out.print(Text.assemble((f"{mark} ", style), (f"{finding.thing:<12}", "bold"), plain(finding.found)))
    if finding.mend:
        out.print(Text(f"  {'':<12}→ {finding.mend}", style=style))


def _look(settings: Settings, *, start: bool) -> Iterator[Finding]:
    yield Finding("home", Health.OK, str(settings.home))
    fleet: Fleet | None = None
    try:
        checked = check_fleet(settings.fleet_path, os.environ)
        fleet = checked.fleet
        yield Finding("fleet", Health.OK, f"{settings.fleet_path}: {fleet_words(fleet)}")
        yield from (Finding("fleet", Health.WARN, f"{w.key}: {w.wrong}", w.mend) for w in checked.warnings)
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
            yield from _providers(settings, fleet)


def _traces(environ: Mapping[str, str]) -> Finding:
    where = tracing.destination(environ)
    if where is None:
        return Finding("traces", Health.OK, f"off; {tracing.ENDPOINT} switches them on")
    if absent := tracing.missing():
        return Finding("traces", Health.WARN, f"off: {', '.join(absent)} not installed", tracing.INSTALL)
    if not tracing.answers(where):
        mend = "Is the endpoint right, and does it listen? Spans are lost meanwhile, and nothing else."
        return Finding("traces", Health.WARN, f"on, to {where}, which cannot be reached from here", mend)
    return Finding("traces", Health.OK, f"on, to {where}")


def _fault(thing: str, error: BaseException) -> Finding:
    failure = tell(error)
    # What elsewhere sends to this command says nothing here.
    hint = "" if failure.hint is None else failure.hint.partition("`pointsman doctor`")[0].rstrip()
    return Finding(thing, Health.FAIL, " ".join(failure.lines), hint or None)


def _postgres(settings: Settings) -> Iterator[Finding]:
    from db import migrate

    whose = "our own" if settings.embeds_postgres else "yours"
    if settings.database is None:
        mend = "`pointsman up` starts it."
        yield Finding("postgres", Health.WARN, f"{whose}, not running", mend)
        return
    try:
        (server,) = _ask(settings, "server")
        revision, newest = migrate.current(settings.database), migrate.newest()
    except Exception as error:
        yield _fault("postgres", error)
        return
    size = f"{server.bytes / 1e6:,.0f} MB"
    yield Finding("postgres", Health.OK, f"{whose}, version {server.version}, {size}, up {server.up_s:,.0f} s")
    ends = settings.embeds_postgres and stack_pid(settings) is None
    when = "Our own is there while `pointsman up` runs." if ends else None
    yield Finding("postgres", Health.OK, f'psql "{settings.psql_url}"', when)
    if revision == newest:
        yield Finding("migration", Health.OK, f"{revision}, the newest")
    else:
        mend = "`pointsman up` and `pointsman run` migrate; or run `alembic upgrade head`."
        yield Finding("migration", Health.WARN, f"{revision or 'none'}, the newest is {newest}", mend)


def _ask(settings: Settings, name: str, **params: object) -> list[Any]:
    async def work() -> list[Any]:
        # Not as the application's role, which a database has only once it is migrated.
        async with opened_database(settings, role=None) as engine:
            return list(await ask(engine, name, **params))

    return asyncio.run(work())


def _broker(settings: Settings) -> Iterator[Finding]:
    whose = "our own" if settings.embeds_redis else "yours"
    if settings.redis is None and settings.broker is None:
        yield Finding("redis", Health.WARN, f"{whose}, not running", "`pointsman up` starts it.")
        return
    if settings.redis is not None:
        yield _redis(settings.redis, whose)
    if settings.broker is not None and settings.broker.startswith(("amqp", "pyamqp")):
        yield _rabbitmq(settings)


# Celery, Redis' client and Alembic take a third of a command's start, and the other commands do without.


def _redis(url: str, whose: str) -> Finding:
    from redis import Redis
    from redis.exceptions import RedisError

    try:
        with Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
            info: dict[str, Any] = client.info()
    except (RedisError, OSError):
        mend = "Is BROKER_URL (or REDIS_URL) right, and is Redis up?"
        return Finding("redis", Health.FAIL, f"{without_password(url)} cannot be reached", mend)
    words = f"{whose}, version {info.get('redis_version')}, {info.get('used_memory_human')} used"
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        mend = "Set maxmemory-policy noeviction: with another, messages vanish and come back late."
        return Finding("redis", Health.WARN, f"{words}, maxmemory-policy {policy}", mend)
    return Finding("redis", Health.OK, words)


def _rabbitmq(settings: Settings) -> Finding:
    from tasks.broker_state import UNREACHABLE
    from tasks.celery_app import app as celery

    try:
        with celery.connection_for_write(settings.broker_url) as connection:
            connection.ensure_connection(max_retries=1)
            found = connection.connection.server_properties.get("version", "?")
    except UNREACHABLE:
        mend = "Is BROKER_URL right, and is RabbitMQ up?"
        return Finding("rabbitmq", Health.FAIL, f"{without_password(settings.broker_url)} cannot be reached", mend)
    return Finding("rabbitmq", Health.OK, f"version {found}")


def _queues(settings: Settings, fleet: Fleet) -> Iterator[Finding]:
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
        yield Finding(f"{stage}", Health.OK, told)
    for stage, row in rows.items():
        waiting = row.ready + row.queued + row.running + row.held
        mend = "Add the tier to the fleet again, or cancel the batches that wait for it."
        yield Finding(str(stage), Health.FAIL, f"{waiting:,} queries wait at a stage that the fleet has not", mend)
    for row in _ask(settings, "batches_of_others", simulated=fleet.simulated):
        theirs, ours = ("real calls", "simulates") if fleet.simulated else ("simulated answers", "calls for real")
        found = f"{row.batches:,} open of the fleet {row.fleet!r} are for {theirs}, and this fleet {ours}"
        mend = "Workers leave these alone: stop them and start that fleet's, or cancel the batches."
        yield Finding("batches", Health.WARN, found, mend)


def _workers(settings: Settings, fleet: Fleet) -> Iterator[Finding]:
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
        yield Finding("workers", Health.FAIL if pid else Health.WARN, told, "`pointsman up` starts them.")
        return
    served = {role for row in rows for role in str(row.role).split()}
    for row in rows:
        told = f"{row.name} on {row.host}"
        told += f", {row.in_flight} of {row.slots} slots busy" if row.slots else ""  # feeder and route have none
        yield Finding("worker", Health.OK, told)
    missing = [stage for stage in (*stages(fleet), "feeder") if stage not in served]
    if missing:
        mend = f"Start them: `python -m workers STAGE`, for {', '.join(missing)}."
        yield Finding("workers", Health.FAIL, f"nobody serves {', '.join(missing)}", mend)


def _router(settings: Settings, fleet: Fleet) -> Iterator[Finding]:
    """Which trained router is to serve, and whether the workers that run do serve it."""
    if "classifier" not in fleet.router.stages and fleet.router.scorer is None:
        yield Finding("router", Health.OK, "no trained one takes part: router.stages of the fleet")
        return
    # numpy and scipy take a third of a second, and most commands do without.
    from evaluation.data.dataset_errors import EvaluationError
    from model_registry.resolver import serving

    async def work() -> str:
        async with opened_database(settings, role=None) as engine:
            return (await serving(engine, fleet, settings.home / "routers")).told

    if settings.database is None:
        return
    try:
        told = asyncio.run(work())
        others = {row.router for row in _ask(settings, "workers", seen_within_s=_SEEN_S)} - {told, None}
    except EvaluationError as error:
        yield Finding("router", Health.FAIL, str(error), "`pointsman routers list` shows what there is.")
        return
    except DBAPIError:
        return
    yield Finding("router", Health.OK, f"{told} serves")
    if others:
        running = ", ".join(sorted(others))
        yield Finding("router", Health.WARN, f"workers still decide by {running}", _LAGGING)


def _providers(settings: Settings, fleet: Fleet) -> Iterator[Finding]:
    for name, provider in fleet.providers.items():
        if provider.api_key_env and not os.environ.get(provider.api_key_env):
            mend = f"Set {provider.api_key_env} in the environment of the workers."
            yield Finding(name, Health.WARN, f"no key: {provider.api_key_env} is not set here", mend)
        elif provider.base_url.startswith(SIMULATOR):
            url = settings.simulator_url
            told = "the simulator, started by `run` and `up`" if url is None else f"the simulator at {url}"
            if url is None or _answers(url):
                yield Finding(name, Health.OK, told)
            else:
                yield Finding(name, Health.FAIL, f"{told} does not answer", "`pointsman down`, then `pointsman up`.")
        else:
            yield Finding(name, Health.OK, f"{provider.kind} at {provider.base_url} (not called)")


def _answers(url: str) -> bool:
    opener: Callable[..., Any] = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
    try:
        with opener(url, timeout=3):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
