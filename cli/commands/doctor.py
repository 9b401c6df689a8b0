"""``pointsman doctor``: checks each dependency and shows the fix of each fault."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

import typer
from rich.text import Text
from sqlalchemy.exc import DBAPIError

from cli.check_result import CheckResult, CheckStatus, fail, ok, warn
from cli.cluster_checks import SEEN_S, cluster_checks
from cli.command_errors import ExitCode, describe_error
from cli.console import emit, out, plain, queries
from cli.open_services import fleet_label, open_database, read_settings, report_rows
from cli.param_types import FleetOption, JsonOption
from cli.progress import ACCOUNT_FIX
from cli.worker_stack import STOP_THEM
from fleet_config import SIMULATOR, check_fleet
from providers.transport.reachable import accepts_connections
from routing.fleet import Fleet
from settings import EnvironWithFiles, Settings, without_password
from telemetry import tracing
from workers.embedded.services import services_running, services_up
from workers.local_stack import other_fleet, stack_pid

app = typer.Typer()


_START: Final = "`pointsman up` starts it."
_SIMULATOR_S: Final = 3.0


_MARKS: Final = {CheckStatus.OK: ("✔", "green"), CheckStatus.WARN: ("!", "yellow"), CheckStatus.FAIL: ("✘", "red")}


@app.command()
def doctor(
    fleet: FleetOption = None,
    as_json: JsonOption = False,
    start: Annotated[bool, typer.Option(help="Start the embedded Postgres and Redis to check them.")] = True,
    probe: Annotated[
        bool, typer.Option("--probe", help="Request the list of models from each provider, which is free.")
    ] = False,
    cluster: Annotated[
        bool,
        typer.Option(
            "--cluster", help="Check each host of Postgres and of the broker, and find single points of failure."
        ),
    ] = False,
) -> None:
    """Check each dependency, and show how to fix it.

    Checks connections, versions, migrations, queue depths, workers and keys. Exits with 1 if it finds a fault.
    """
    results: list[CheckResult] = []
    for result in _checks(read_settings(fleet), start=start, probe=probe, cluster=cluster):
        results.append(result)
        if not as_json:
            mark, style = _MARKS[result.health]
            out.print(Text.assemble((f"{mark} ", style), (f"{result.thing:<12}", "bold"), plain(result.found)))
            if result.fix:
                out.print(Text(f"  {'':<12}→ {result.fix}", style=style))
    is_healthy = all(result.health != CheckStatus.FAIL for result in results)
    if as_json:
        emit({"healthy": is_healthy, "findings": [asdict(result) for result in results]})
    if not is_healthy:
        raise typer.Exit(ExitCode.FAILURE)


def _checks(settings: Settings, *, start: bool, probe: bool, cluster: bool) -> Iterator[CheckResult]:
    yield ok("home", str(settings.home))
    fleet: Fleet | None = None
    try:
        checked = check_fleet(settings.fleet_path, EnvironWithFiles(os.environ))
        fleet = checked.fleet
        yield ok("fleet", f"{settings.fleet_path}: {fleet_label(fleet)}")
        yield from (warn("fleet", f"{warning.key}: {warning.wrong}", warning.fix) for warning in checked.warnings)
    except ValueError as error:
        yield _fault("fleet", error)
    yield _traces(os.environ)
    with ExitStack() as services:
        if settings.embedded and (start or services_running(settings)):
            try:
                settings = services.enter_context(services_up(settings)).settings
            except Exception as error:
                yield _fault("services", error)
                return
        yield from _postgres(settings)
        yield from _broker(settings)
        if fleet is not None:
            yield from _queues(settings, fleet)
            yield from _workers(settings, fleet)
            if cluster:
                yield from cluster_checks(settings, fleet)
            yield from _router(settings, fleet)
            yield from _providers(settings, fleet, probe=probe)
            yield from _resting(settings, fleet)
        yield from _accounts(settings)


def _traces(environ: Mapping[str, str]) -> CheckResult:
    endpoint = tracing.destination(environ)
    if endpoint is None:
        return ok("traces", f"off; {tracing.ENDPOINT} enables them")
    if missing := tracing.missing():
        return warn("traces", f"off: {', '.join(missing)} not installed", tracing.INSTALL)
    if not tracing.is_reachable(endpoint):
        fix = "Check the endpoint, and whether a server listens there. Until then only spans are lost."
        return warn("traces", f"on, but {endpoint} cannot be reached from here", fix)
    return ok("traces", f"on, to {endpoint}")


def _fault(thing: str, error: BaseException) -> CheckResult:
    description = describe_error(error)
    # Without a hint that refers to this command.
    hint = (description.hint or "").partition("`pointsman doctor`")[0].rstrip()
    return fail(thing, " ".join(description.lines), hint or None)


def _postgres(settings: Settings) -> Iterator[CheckResult]:
    from db import migrate

    owner = "embedded" if settings.embeds_postgres else "external"
    if settings.database is None:
        yield warn("postgres", f"{owner}, not running", _START)
        return
    try:
        (server,) = report_rows(settings, "server")
        revision, newest = migrate.current(settings.database), migrate.newest()
    except Exception as error:
        yield _fault("postgres", error)
        return
    size = f"{server.bytes / 1e6:,.0f} MB"
    yield ok("postgres", f"{owner}, version {server.version}, {size}, up {server.up_s:,.0f} s")
    is_temporary = settings.embeds_postgres and stack_pid(settings) is None
    yield ok(
        "postgres",
        f'psql "{settings.psql_url}"',
        "It runs only while `pointsman up` is running." if is_temporary else None,
    )
    if revision == newest:
        yield ok("migration", f"{revision}, the newest")
    elif revision is None:
        yield ok("migration", "no schema yet: the first `pointsman up` or `pointsman run` creates it")
    elif migrate.is_ready(settings.database):
        yield ok("migration", f"{revision}, which is from a later release; this release has {newest}")
    else:
        fix = "`pointsman up` and `pointsman run` migrate the schema, and so does `alembic upgrade head`."
        yield warn("migration", f"{revision}; the newest is {newest}", fix)


def _broker(settings: Settings) -> Iterator[CheckResult]:
    owner = "embedded" if settings.embeds_redis else "external"
    if settings.redis is None and settings.broker is None:
        yield warn("redis", f"{owner}, not running", _START)
        return
    if settings.redis is not None:
        yield _redis(settings.redis, owner)
    if settings.broker is not None and settings.broker.startswith(("amqp", "pyamqp")):
        yield _rabbitmq(settings.broker)


# Celery, the Redis client and Alembic are imported late: they take a third of a second, which other commands save.


def _redis(url: str, owner: str) -> CheckResult:
    from redis_client import AWAY, connect

    async def ask() -> dict[str, Any]:
        async with connect(url, patience_s=5) as client:
            return dict(await client.info())

    try:
        info = asyncio.run(ask())
    except AWAY:
        fix = "Check BROKER_URL (or REDIS_URL) and whether Redis is up."
        return fail("redis", f"{without_password(url)} cannot be reached", fix)
    product = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version"))
    found = f"{owner}, {product} {version}, {info.get('used_memory_human')} used"
    if not _has_lua_fixes(product, version):
        fix = "Update it. In this version a Lua script can run any code on the server (CVE-2024-46981, CVE-2025-49844)."
        return warn("redis", found, fix)
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        fix = "Set maxmemory-policy noeviction. Other policies drop messages, so that queries arrive late."
        return warn("redis", f"{found}, maxmemory-policy {policy}", fix)
    return ok("redis", found)


def _resting(settings: Settings, fleet: Fleet) -> Iterator[CheckResult]:
    """Return the deployments that workers avoid for now: after a rate limit, or with an open circuit breaker."""
    from providers.health.circuit_breaker import CircuitState
    from providers.health.status_report import DeploymentState, overview
    from redis_client import AWAY, connect

    async def ask(url: str) -> Mapping[str, DeploymentState]:
        async with connect(url, patience_s=5) as client:
            return await overview(client, list(fleet.models.values()), prefix=settings.key_prefix)

    if settings.redis is None:
        return
    try:
        states = asyncio.run(ask(settings.redis))
    except AWAY:
        return  # the check of Redis reports it
    for name, state in states.items():
        where = f"{name} at {fleet.models[name].provider}"
        if state.rest_s > 0:
            fix = "The provider asked for this pause. Lower its limits in the fleet, or raise the account's."
            yield warn("deployment", f"{where} rests for {state.rest_s:,.0f} s", fix)
        if state.circuit is not CircuitState.CLOSED:
            probed = f", probed in {state.probe_in_s:,.0f} s" if state.probe_in_s else ""
            fix = (
                "Its calls fail. `pointsman explain` of a query shows the reason, and `pointsman doctor --probe` "
                "calls the provider."
            )
            yield warn("deployment", f"{where}: circuit breaker {state.circuit.value.replace('_', ' ')}{probed}", fix)


def _accounts(settings: Settings) -> Iterator[CheckResult]:
    """Return the accounts that providers refuse, for which queries are held."""
    if settings.database is None:
        return
    try:
        rows = report_rows(settings, "refused_accounts")
    except DBAPIError:
        return  # the check of Postgres reports it
    for row in rows:
        why = f" ({row.reason})" if row.reason else ""
        found = f"{row.provider or row.deployment} refuses it{why}; held for it: {queries(row.queries)}"
        yield fail("account", found, ACCOUNT_FIX)


_FIXED: Final = {
    "Redis": ((6, 2, 20), (7, 2, 11), (7, 4, 6), (8, 0, 4), (8, 2, 2)),
    "Valkey": ((7, 2, 11), (8, 0, 6), (8, 1, 4)),
}
"""The first release of each line with the fixes of CVE-2024-46981 and CVE-2025-49844. Newer lines all have them."""


def _has_lua_fixes(product: str, version: str) -> bool:
    try:
        major, minor, patch = (int(part) for part in version.split(".")[:3])
    except ValueError:
        return True  # a version in another form, as a hosted service reports it
    fixed = _FIXED[product]
    same_line = [each for each in fixed if each[:2] == (major, minor)]
    return (major, minor, patch) >= same_line[0] if same_line else (major, minor) > fixed[-1][:2]


def _rabbitmq(url: str) -> CheckResult:
    from tasks.broker_state import UNREACHABLE
    from tasks.celery_app import app as celery

    try:
        with celery.connection_for_write(url) as connection:
            connection.ensure_connection(max_retries=1)
            version = connection.connection.server_properties.get("version", "?")
    except UNREACHABLE:
        fix = "Check BROKER_URL and whether RabbitMQ is up."
        return fail("rabbitmq", f"{without_password(url)} cannot be reached", fix)
    return ok("rabbitmq", f"version {version}")


def _queues(settings: Settings, fleet: Fleet) -> Iterator[CheckResult]:
    from tasks.broker_state import UNREACHABLE, broker_depth
    from tasks.celery_app import configure, queue_of, stages

    if settings.database is None or settings.broker is None:
        return
    try:
        rows = {row.stage: row for row in report_rows(settings, "queue_depths")}
    except DBAPIError:
        return  # the check of Postgres reports it
    configure(settings, fleet)
    messages: dict[str, int] = {}
    with suppress(*UNREACHABLE):  # waits once for a broker that is down
        for stage in stages(fleet):
            messages[stage] = broker_depth(queue_of(stage, fleet))
    for stage in stages(fleet):
        row = rows.pop(stage, None)
        depth = "empty"
        if row is not None:
            depth = f"{row.ready:,} ready, {row.queued:,} queued, {row.running:,} running, {row.held:,} held"
            depth += f", the oldest waits {row.oldest_wait_s:,.0f} s" if row.oldest_wait_s is not None else ""
        depth += f"; {messages[stage]:,} messages" if stage in messages else ""
        yield ok(stage, depth)
    for stage, row in rows.items():
        stuck = row.ready + row.queued + row.running + row.held
        found = f"{stuck:,} queries are stuck at stage {str(stage)!r}, which this fleet does not define"
        yield fail(str(stage), found, "Add the tier to the fleet again, or cancel the batches with queries there.")
    for row in report_rows(settings, "batches_of_others", simulated=fleet.simulated):
        needed, offered = ("real calls", "simulates") if fleet.simulated else ("simulated answers", "makes real calls")
        found = f"{row.batches:,} open of the fleet {row.fleet!r} need {needed}, but this fleet {offered}"
        fix = "These workers do not take them. Start workers of that fleet instead, or cancel the batches."
        yield warn("batches", found, fix)


def _workers(settings: Settings, fleet: Fleet) -> Iterator[CheckResult]:
    from tasks.celery_app import stages

    if settings.database is None:
        return
    try:
        rows = report_rows(settings, "workers", seen_within_s=SEEN_S)
    except DBAPIError:
        return
    if not rows:
        fix = "`pointsman up` starts them."
        pid = stack_pid(settings)
        yield (
            fail("workers", f"none, although process {pid} runs a stack", fix) if pid else warn("workers", "none", fix)
        )
        return
    if (other := other_fleet(settings, fleet)) is not None:
        yield warn("workers", f"process {stack_pid(settings)} serves the fleet {other}, and not this one", STOP_THEM)
    served = {role for row in rows for role in str(row.role).split()}
    for row in rows:
        slots = f", {row.in_flight} of {row.slots} slots busy" if row.slots else ""  # feeder and route have none
        yield ok("worker", f"{row.name} on {row.host}{slots}")
    if missing := ", ".join(stage for stage in (*stages(fleet), "feeder") if stage not in served):
        yield fail("workers", f"no worker serves {missing}", f"Start them: `python -m workers STAGE`, for {missing}.")


def _router(settings: Settings, fleet: Fleet) -> Iterator[CheckResult]:
    """Check which trained router should serve, and whether the running workers use it."""
    if "classifier" not in fleet.router.stages and fleet.router.scorer is None:
        yield ok("router", "no trained router (router.stages of the fleet)")
        return
    # numpy and scipy take a third of a second, which other commands save.
    from evaluation.data.dataset_errors import EvaluationError
    from trained_routers.resolver import load_serving

    async def work() -> str | None:
        async with open_database(settings, role=None) as engine:
            return (await load_serving(engine, fleet, settings.home / "routers")).label

    if settings.database is None:
        return
    try:
        serving = asyncio.run(work())
        others = {row.router for row in report_rows(settings, "workers", seen_within_s=SEEN_S)} - {serving, None}
    except EvaluationError as error:
        yield fail("router", str(error), "`pointsman routers list` shows the registered routers.")
        return
    except DBAPIError:
        return
    yield ok("router", f"{serving} serves")
    if others:
        fix = "They reload it within seconds. If they do not, look for router_refused in their logs."
        yield warn("router", f"workers still use {', '.join(sorted(others))}", fix)


def _providers(settings: Settings, fleet: Fleet, *, probe: bool) -> Iterator[CheckResult]:
    # httpx and aiohttp take a fifth of a second, and most commands do without.
    from cli.provider_probe import environment_ignored, fix_of, probe_providers

    asked: list[str] = []
    environ = EnvironWithFiles(os.environ)
    for name, provider in fleet.providers.items():
        for found, fix in environment_ignored(provider, environ):
            yield warn(name, found, fix)
        if provider.api_key_env and not environ.get(provider.api_key_env):
            fix = f"Set {provider.api_key_env}, or {provider.api_key_env}_FILE, in the environment of the workers."
            yield warn(name, f"no key: {provider.api_key_env} is not set here", fix)
        elif provider.base_url.startswith(SIMULATOR):
            yield _simulator(name, settings.simulator_url)
        elif probe:
            asked.append(name)
        else:
            yield ok(name, f"{provider.kind} at {provider.base_url} (not called; --probe does)")
    for name, failure in asyncio.run(probe_providers(fleet, asked, environ)) if asked else ():
        where = f"{fleet.providers[name].kind} at {fleet.providers[name].base_url}"
        if failure is None:
            yield ok(name, f"{where} answers")
        else:
            found = f"{where}: {failure.kind}, {failure.message}"
            yield fail(name, found, fix_of(failure, fleet.providers[name]))


def _simulator(name: str, url: str | None) -> CheckResult:
    found = "the simulator, started by `run` and `up`" if url is None else f"the simulator at {url}"
    parts = urlsplit(url or "")
    if url is None or accepts_connections(parts.hostname or "", parts.port or 80, timeout_s=_SIMULATOR_S):
        return ok(name, found)
    return fail(name, f"{found} does not respond", "Run `pointsman down`, and then `pointsman up`.")
