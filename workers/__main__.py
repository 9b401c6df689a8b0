"""`python -m workers STAGE…`: one worker process for these stages, or `feeder`."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

import uvloop

from db.engine import PooledLoginError
from fleet_config import FleetError
from redis_client import connect
from routing.fleet import Fleet
from routing.lifecycle import FALLBACK, INGEST, ROUTE
from settings import Settings, SettingsError
from tasks.broker_state import BrokerSentinel
from tasks.celery_app import configure
from tasks.feeder.feeder import Feeder
from tasks.worker_context import open_worker_context
from telemetry.logging import configure_logging
from workers.celery_worker import run_celery_worker
from workers.process_setup import announce_ready, keep_progress
from workers.stop_deadline import end_process, enforce_stop

FEEDER = "feeder"


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM. Return 0, or 2 if the roles, the environment or the fleet are invalid."""
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("roles", nargs="+", metavar="STAGE", help="stages to serve, or 'feeder' alone")
    parser.add_argument("--name", help="the worker's name (default: its stages, joined)")
    options = parser.parse_args(argv)
    try:
        settings = Settings.load()
        fleet = settings.fleet()
        roles = _valid_roles(options.roles, fleet)
    except (SettingsError, FleetError, ValueError) as error:
        print(f"workers: {error}", file=sys.stderr)
        return 2
    configure_logging(settings.log_level)
    configure(settings, fleet)
    name = options.name or "-".join(roles)
    try:
        if roles == [FEEDER]:
            uvloop.run(_feed(settings, fleet, name=name))
        else:
            run_celery_worker(settings, fleet, name=name, roles=roles)
    except PooledLoginError as error:
        print(f"workers: {error}", file=sys.stderr)
        return 2
    return 0


def _valid_roles(roles: Sequence[str], fleet: Fleet) -> list[str]:
    known = [ROUTE, *fleet.tiers, FALLBACK, INGEST, FEEDER]
    for role in roles:
        if role not in known:
            raise ValueError(f"no stage {role!r} in this fleet, which has {', '.join(known)}")
    if FEEDER in roles and len(roles) > 1:
        raise ValueError("the feeder needs its own process: start it without other stages")
    return list(dict.fromkeys(roles))


async def _feed(settings: Settings, fleet: Fleet, *, name: str) -> None:
    # Ten tasks beside the feeding, the round, the lock and the heartbeat use one each; four more open when needed.
    context, registry = await open_worker_context(settings, fleet, name=name, roles=[FEEDER], connections=10)
    on_redis = settings.redis_url is not None and not settings.broker_url.startswith(("amqp", "pyamqp"))
    redis = connect(settings.redis_url, patience_s=2) if on_redis and settings.redis_url else None
    sentinel = None if redis is None else BrokerSentinel(redis, key_prefix=settings.key_prefix)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, context.stopping.set)
    background = [asyncio.create_task(keep_progress()), asyncio.create_task(context.beat(registry))]
    deadline = asyncio.create_task(enforce_stop(context))
    announce_ready(context.ledger.worker_id)
    try:
        await Feeder(context, registry, sentinel).run()
    finally:
        for task in background:
            task.cancel()
        await context.close(registry)
        deadline.cancel()


if __name__ == "__main__":
    end_process(main())
