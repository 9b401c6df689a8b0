"""`python -m workers STAGE…`: one worker process for the given stages, or `feeder`."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

import uvloop
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from routing.fleet import Fleet
from routing.lifecycle import FALLBACK, INGEST, ROUTE
from settings import FleetError, Settings, SettingsError
from tasks.broker_state import BrokerSentinel
from tasks.celery_app import configure
from tasks.feeder.feeder import Feeder
from tasks.worker_context import open_worker_context
from telemetry.logging import configure_logging
from workers.celery_worker import run_celery_worker
from workers.process_setup import announce_ready

FEEDER = "feeder"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM. Returns 0, or 2 where the roles, the environment or the fleet are wrong."""
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("roles", nargs="+", metavar="STAGE", help="stages to serve, or 'feeder' alone")
    parser.add_argument("--name", help="the worker's name (default: its stages, joined)")
    given = parser.parse_args(argv)
    try:
        settings = Settings.load()
        fleet = settings.fleet()
        roles = _known(given.roles, fleet)
    except (SettingsError, FleetError, ValueError) as error:
        print(f"workers: {error}", file=sys.stderr)
        return 2
    configure_logging(settings.log_level)
    configure(settings, fleet)
    name = given.name or "-".join(roles)
    if roles == [FEEDER]:
        uvloop.run(_feed(settings, fleet, name=name))
    else:
        run_celery_worker(settings, fleet, name=name, roles=roles)
    return 0


def _known(roles: Sequence[str], fleet: Fleet) -> list[str]:
    known = [ROUTE, *fleet.tiers, FALLBACK, INGEST, FEEDER]
    for role in roles:
        if role not in known:
            raise ValueError(f"no stage {role!r} in this fleet; it has {', '.join(known)}")
    if FEEDER in roles and len(roles) > 1:
        raise ValueError("the feeder is a process of its own: start it without other stages")
    return list(dict.fromkeys(roles))


async def _feed(settings: Settings, fleet: Fleet, *, name: str) -> None:
    station, presence = await open_worker_context(settings, fleet, name=name, roles=[FEEDER])
    on_redis = settings.redis_url is not None and not settings.broker_url.startswith(("amqp", "pyamqp"))
    redis = (
        # By default redis-py tries ten times: the feeder would stand still meanwhile, and asks again soon enough.
        Redis.from_url(settings.redis_url, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0))
        if on_redis and settings.redis_url
        else None
    )
    generation = None if redis is None else BrokerSentinel(redis, key_prefix=settings.key_prefix)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, station.stopping.set)
    beat = asyncio.create_task(station.beat(presence))
    announce_ready()
    try:
        await Feeder(station, presence, generation).run()
    finally:
        beat.cancel()
        await station.close(presence)


if __name__ == "__main__":
    sys.exit(main())
