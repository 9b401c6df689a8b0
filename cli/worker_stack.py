"""What processes a batch: workers that already run, here or elsewhere, or our own for as long as we need them."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
from sqlalchemy.exc import DBAPIError

from cli.command_errors import CommandError, ExitCode
from cli.resources import open_database
from db.reports.batch_stats import Batch, Progress
from db.worker_registry import WorkerRegistry
from routing.fleet import Fleet
from routing.lifecycle import FALLBACK, ROUTE
from settings import Settings
from workers.embedded.services import services_up
from workers.local_stack import LocalStack, other_fleet, stack_pid

UNDEFINED_TABLE = "42P01"
_SIMULATED = {True: "simulated", False: "for real calls"}


@dataclass(frozen=True, slots=True)
class WorkingStack:
    """Workers that answer queries. ``check`` starts again what crashed; raises StackError for what stays down."""

    settings: Settings
    fleet: Fleet
    check: Callable[[], None]
    ours: bool
    """Whether it ends with this command."""


@contextmanager
def working_stack(
    settings: Settings, fleet: Fleet, *, replay: Path | None, tell: Callable[[str], None]
) -> Iterator[WorkingStack]:
    """Workers for as long as the block runs, started where none are there. Raises Stop, StackError, ServicesError."""
    if replay is not None and not fleet.simulated:
        raise CommandError(
            "--replay is for the simulator, and this fleet's models are real.",
            hint="Leave --fleet and POINTSMAN_FLEET out, or --replay.",
            code=ExitCode.USAGE,
        )
    refuse_other_fleet(settings, fleet)
    pid = stack_pid(settings)
    if pid is not None or _served_elsewhere(settings, fleet):
        if replay is not None:
            raise CommandError(
                "--replay needs a simulator of its own, and workers are running already.",
                hint="Stop them with `pointsman down`, or set POINTSMAN_HOME to another directory.",
                code=ExitCode.USAGE,
            )
        # The stack of the other process stays up for as long as this one shares its services.
        with services_up(settings) as services:
            if not services.is_owner:
                tell(f"using the workers of process {pid}" if pid else "using the workers that are running")
                yield WorkingStack(services.settings, fleet, check=lambda: None, ours=False)
                return
        # The other stack has ended in the meantime.
    if replay is not None:
        settings = replace(settings, tiers=recorded_tiers(replay, fleet))
        fleet = settings.fleet()
    with LocalStack(settings, fleet, replay=replay, tell=tell) as stack:
        yield WorkingStack(stack.settings, stack.fleet, check=stack.check, ours=True)


def refuse_other_fleet(settings: Settings, fleet: Fleet) -> None:
    """Raises Stop where workers of this home run for another fleet: they would answer by its models."""
    served = other_fleet(settings, fleet)
    if served is not None:
        raise CommandError(
            f"The workers of process {stack_pid(settings)} serve the fleet {served}, not {fleet.name!r}.",
            hint="Stop them with `pointsman down`, or set POINTSMAN_HOME to another directory.",
            code=ExitCode.USAGE,
        )


def refuse_unserved(batch: Batch, progress: Progress, fleet: Fleet) -> None:
    """Raises Stop where workers of ``fleet`` take nothing of what is open on: it would be waited for without end."""
    strange = progress.open_by_stage.keys() - {ROUTE, FALLBACK, *fleet.tiers}
    if progress.ended or (batch.simulated == fleet.simulated and not strange):
        return
    why = f"waits at {', '.join(sorted(strange))}" if strange else f"is {_SIMULATED[batch.simulated]}"
    raise CommandError(
        f"{batch.public_id} is of the fleet {batch.fleet!r} and {why}: workers of {fleet.name!r} leave it alone.",
        hint=f"Give its own fleet: `pointsman run --batch {batch.public_id} --fleet FILE`.",
        code=ExitCode.USAGE,
    )


def recorded_tiers(replay: Path, fleet: Fleet) -> frozenset[str]:
    """The rungs of the ladder whose models' answers ``replay`` holds. Raises Stop where there is none."""
    with replay.open("rb") as lines:
        first = next((line for line in lines if line.strip()), b"")
    try:
        outcomes = orjson.loads(first)["outcomes"]
        recorded = frozenset(outcomes) & frozenset(fleet.ladder)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        recorded = frozenset()
    if not recorded:
        raise CommandError(
            f"{replay.name} holds no recorded answers of this fleet's tiers ({', '.join(fleet.ladder)}).",
            hint='Its lines look like {"query": …, "outcomes": {"small": {"answer": …}, "large": {…}}}.',
            code=ExitCode.USAGE,
        )
    return recorded


def _served_elsewhere(settings: Settings, fleet: Fleet) -> bool:
    """Whether workers of other machines or containers serve every stage of an external Postgres."""
    if settings.embedded:
        return False

    async def roles() -> set[str]:
        async with open_database(settings) as engine:
            return {role for row in await WorkerRegistry(engine).alive() for role in str(row.role).split()}

    try:
        return asyncio.run(roles()) >= {ROUTE, *fleet.tiers}
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == UNDEFINED_TABLE:
            return False  # it was never migrated, which our own stack does
        raise
