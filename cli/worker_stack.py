"""The workers that process a batch: running ones here or elsewhere, or a stack for this command."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
from sqlalchemy.exc import DBAPIError

from cli.command_errors import UsageError
from cli.open_services import open_database
from db.reports.batch_progress import Batch, Progress
from db.worker_registry import WorkerRegistry
from routing.fleet import Fleet
from routing.lifecycle import FALLBACK, ROUTE
from settings import Settings
from workers.embedded.services import services_up
from workers.local_stack import LocalStack, other_fleet, stack_pid

UNDEFINED_TABLE = "42P01"
_SIMULATED = {True: "simulated", False: "for real calls"}
STOP_THEM = (
    "Stop them with `pointsman down`, after which `up` or `run` uses this file, or set POINTSMAN_HOME to "
    "another directory."
)


@dataclass(frozen=True, slots=True)
class WorkingStack:
    """Workers that answer queries. ``check`` restarts crashed ones, and raises StackError if they stay down."""

    settings: Settings
    fleet: Fleet
    check: Callable[[], None] = lambda: None


@contextmanager
def working_stack(
    settings: Settings, fleet: Fleet, *, replay: Path | None, report: Callable[[str], None]
) -> Iterator[WorkingStack]:
    """Return workers inside the block, started if none are running. Raises UsageError, StackError, ServicesError."""
    if replay is not None and not fleet.simulated:
        raise UsageError(
            "--replay needs a simulated fleet; this fleet's models are real.",
            hint="Omit --replay, or use a simulated fleet.",
        )
    refuse_other_fleet(settings, fleet)
    pid = stack_pid(settings)
    if pid is not None or _served_elsewhere(settings, fleet):
        if replay is not None:
            raise UsageError("--replay needs its own simulator, but workers are already running.", hint=STOP_THEM)
        # The stack of the other process stays up for as long as this one shares its services.
        with services_up(settings) as services:
            if not services.is_owner:
                report(f"using the workers of process {pid}" if pid else "using the running workers")
                yield WorkingStack(services.settings, fleet)
                return
        # The other stack has ended in the meantime.
    if replay is not None:
        settings = replace(settings, tiers=recorded_tiers(replay, fleet))
        fleet = settings.fleet()
    with LocalStack(settings, fleet, replay=replay, tell=report) as stack:
        yield WorkingStack(stack.settings, stack.fleet, check=stack.check)


def refuse_other_fleet(settings: Settings, fleet: Fleet) -> None:
    """Raise UsageError if workers of this home serve another fleet, because that fleet's models would answer."""
    served = other_fleet(settings, fleet)
    if served is not None:
        raise UsageError(
            f"The workers of process {stack_pid(settings)} serve the fleet {served}. "
            f"{settings.fleet_path} defines a different fleet, {fleet.name!r}.",
            hint=STOP_THEM,
        )


def refuse_unserved(batch: Batch, progress: Progress, fleet: Fleet) -> None:
    """Raise UsageError if workers of ``fleet`` never take the open queries, because the wait would not end."""
    unknown = progress.open_by_stage.keys() - {ROUTE, FALLBACK, *fleet.tiers}
    if progress.ended or (batch.simulated == fleet.simulated and not unknown):
        return
    why = f"waits at stage {', '.join(sorted(unknown))}" if unknown else f"is {_SIMULATED[batch.simulated]}"
    raise UsageError(
        f"{batch.public_id} belongs to the fleet {batch.fleet!r} and {why}. Workers of "
        f"{fleet.name!r} do not take its queries.",
        hint=f"Use its own fleet: `pointsman run --batch {batch.public_id} --fleet FILE`.",
    )


def recorded_tiers(replay: Path, fleet: Fleet) -> frozenset[str]:
    """Return the tiers of the ladder with recorded answers in ``replay``. Raises UsageError if there are none."""
    with replay.open("rb") as lines:
        first = next((line for line in lines if line.strip()), b"")
    try:
        outcomes = orjson.loads(first)["outcomes"]
        recorded = frozenset(outcomes) & frozenset(fleet.ladder)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        recorded = frozenset()
    if not recorded:
        raise UsageError(
            f"{replay.name} has no recorded answers of this fleet's tiers ({', '.join(fleet.ladder)}).",
            hint='Use lines like {"query": …, "outcomes": {"small": {"answer": …}, "large": {…}}}.',
        )
    return recorded


def _served_elsewhere(settings: Settings, fleet: Fleet) -> bool:
    """Whether workers on other machines or in containers serve every stage of an external Postgres."""
    if settings.embedded:
        return False

    async def roles() -> set[str]:
        async with open_database(settings) as engine:
            return {role for row in await WorkerRegistry(engine).alive() for role in str(row.role).split()}

    try:
        return asyncio.run(roles()) >= {ROUTE, *fleet.tiers}
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == UNDEFINED_TABLE:
            return False  # never migrated; the stack of this command does so
        raise
