"""``pointsman doctor --cluster``: checks each host of Postgres and of the broker, and finds single points of
failure."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Row
from sqlalchemy.exc import DBAPIError

from cli.check_result import CheckResult, fail, ok, warn
from cli.open_services import report_rows
from db.engine import single_hosts
from routing.fleet import Fleet
from settings import Settings, without_password

SEEN_S: Final = 15.0
"""Workers that were silent for longer are not counted."""
_CLOCK_S: Final = 2.0
_FAIL_OVER: Final = "see docs/operations.md, Fail-over."


def cluster_checks(settings: Settings, fleet: Fleet) -> Iterator[CheckResult]:
    """Return what fails together with one host."""
    if settings.database is not None:
        yield from _postgres_hosts(settings)
    if settings.broker is not None:
        yield from _broker_hosts(settings.broker_url)
    if settings.database is not None:
        yield from _worker_hosts(settings, fleet)


def _postgres_hosts(settings: Settings) -> Iterator[CheckResult]:
    primaries: dict[str, Any] = {}
    hosts = single_hosts(settings.database_url)
    for host, alone in hosts.items():
        try:
            (row,) = report_rows(replace(settings, database=alone), "postgres_host")
        except (DBAPIError, OSError):
            yield warn("postgres", f"{host} cannot be reached", "Start it as a standby, or replace it in DATABASE_URL.")
            continue
        if row.is_standby:
            yield ok("postgres", f"{host} is a standby, {row.behind_s:,.1f} s behind")
        else:
            primaries[host] = row
        if abs(skew := row.clock - time.time()) > _CLOCK_S:
            yield warn(
                "clock",
                f"the clock of {host} differs by {skew:+,.1f} s from this host's",
                "Synchronize both clocks by NTP.",
            )
    if len(primaries) > 1:
        found = f"{', '.join(primaries)} all accept writes: this is a split brain"
        yield fail("postgres", found, "Stop all except the one that was promoted last, before more is written.")
    elif not primaries:
        yield fail("postgres", f"none of {', '.join(hosts)} accepts writes", f"Promote a standby; {_FAIL_OVER}")
    for host, row in primaries.items():
        yield from _primary(host, row)


def _primary(host: str, row: Row[Any]) -> Iterator[CheckResult]:
    """Yield what is left of the data if ``host`` is lost."""
    if not row.followers:
        yield warn("postgres", f"{host} accepts writes, but no standby follows it", f"Add a standby; {_FAIL_OVER}")
    elif row.is_synchronous:
        yield ok("postgres", f"{host} accepts writes; followed by {row.followers}, synchronously")
    else:
        found = f"{host} accepts writes; followed by {row.followers}, which may miss the latest writes"
        yield warn("postgres", found, "Set synchronous_standby_names, or run `pointsman reconcile` after a failover.")
    if not row.is_archived:
        fix = "Set archive_mode and take base backups. Restoring a dump loses everything written after it."
        yield warn("postgres", f"{host} does not archive its write-ahead log", fix)


def _broker_hosts(url: str) -> Iterator[CheckResult]:
    # Celery and the Redis client take a third of a second, which other commands save.
    from redis_client import SentinelAddress
    from workers.local_stack import reaches_broker

    if (sentinels := SentinelAddress.parse(url)) is not None:
        yield from asyncio.run(_sentinels(sentinels.sentinels, sentinels.name))
        return
    for host in url.split(";"):
        shown = without_password(host)
        if reaches_broker(host):
            yield ok("broker", f"{shown} answers")
        else:
            yield warn("broker", f"{shown} cannot be reached", "Start it. Until then the other hosts serve its queues.")
    if ";" not in url:
        fix = f"While it is down, no query moves and none is lost. To use several hosts, {_FAIL_OVER}"
        yield warn("broker", "it is a single host", fix)


async def _sentinels(addresses: tuple[tuple[str, int], ...], name: str) -> list[CheckResult]:
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    from redis_client import AWAY

    results: list[CheckResult] = []
    named: set[str] = set()
    for host, port in addresses:
        try:
            async with Redis(
                host=host,
                port=port,
                decode_responses=True,
                socket_timeout=3,
                socket_connect_timeout=3,
                retry=Retry(NoBackoff(), 0),
            ) as client:
                primary: Any = await client.sentinel_get_master_addr_by_name(name)
        except AWAY:
            results.append(warn("sentinel", f"{host}:{port} cannot be reached", "Start it. A majority must run."))
            continue
        if primary is None:
            results.append(
                fail("sentinel", f"{host}:{port} does not know {name!r}", "Configure it to monitor the primary.")
            )
            continue
        named.add(shown := ":".join(map(str, primary)))
        results.append(ok("sentinel", f"{host}:{port} names {shown}"))
    if len(named) > 1:
        results.append(
            fail(
                "sentinel",
                "they name different primaries",
                "Wait for a minute; then run SENTINEL RESET on the minority.",
            )
        )
    return results


def _worker_hosts(settings: Settings, fleet: Fleet) -> Iterator[CheckResult]:
    from tasks.celery_app import stages

    hosts: dict[str, set[str]] = {}
    try:
        rows = report_rows(settings, "workers", seen_within_s=SEEN_S)
    except DBAPIError:
        return  # the check of Postgres reports it
    for row in rows:
        hosts.setdefault(str(row.host), set()).update(str(row.role).split())
    for host, roles in hosts.items():
        yield ok("host", f"{host} serves {', '.join(sorted(roles))}")
    for host in hosts:
        served = [stage for stage in (*stages(fleet), "feeder") if [h for h in hosts if stage in hosts[h]] == [host]]
        if served:
            found = f"only {host} serves {', '.join(served)}"
            yield warn(
                "host", found, "Start a worker for each on a second host. If this host fails, their queries wait."
            )
