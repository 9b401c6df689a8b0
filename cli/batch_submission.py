"""Submission of a source of queries as a batch, and the wait for its end. `run` and `submit` share it."""

import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import CommandError, ExitCode, UsageError
from cli.console import err, notice, plural, queries, warn
from cli.progress import LaterCommands, QueriesHeld, wait_for_end
from cli.query_source import RejectedFile, Source
from cli.result_output import ResultOutput
from cli.worker_stack import refuse_unserved
from db.batch_writer import BatchSpec
from db.reports.batch_progress import Batch, Progress, batch_progress
from routing.fleet import Fleet
from routing.lanes.lane import Lane
from routing.pilot import grader_problem
from settings import Settings
from submission.forecaster import Forecaster
from submission.input_line import InvalidInput
from submission.submit import IdempotencyConflict, SubmitResult, submit
from submission.table_reader import InputTable


def check_against_fleet(spec: BatchSpec, fleet: Fleet) -> None:
    """Raise UsageError if ``fleet`` lacks what the grader of ``spec`` needs. Warn of a deadline without a cheaper
    lane."""
    if spec.deadline is not None and all(model.lanes == (Lane.STANDARD,) for model in fleet.models.values()):
        warn(
            "No model of this fleet has a cheaper lane, so the deadline changes nothing. fix: set lanes = "
            '["batch"] for a model of the fleet.'
        )
    if spec.pilot is not None and (problem := grader_problem(spec.pilot.grader, fleet)) is not None:
        name, _, fix = problem.partition(". fix: ")
        raise UsageError(f"--grader {spec.pilot.grader}: {name}.", hint=f"{fix[0].upper()}{fix[1:]}.")


def fleet_flag(fleet: Path | None) -> str:
    """Return the option by which a later command uses the same fleet."""
    return f" --fleet {shlex.quote(str(fleet))}" if fleet else ""


@dataclass(slots=True)
class Submission:
    """A batch that a command submits or waits for."""

    settings: Settings
    fleet: Fleet
    spec: BatchSpec
    skip_invalid: bool
    resume_flags: str
    """The options for a later command that continues the batch."""
    output: ResultOutput
    """The destination of the results."""
    input_name: str = ""
    """The FILE that `run` needs to continue the batch, with a space before it. "" if it needs none."""
    public_id: str | None = None
    """The batch's public id. None until the batch is accepted."""
    rejections: dict[str, Any] = field(default_factory=lambda: {"rejected": 0, "rejected_file": None})
    """The rejected lines, for ``--json``."""

    async def submit(self, source: Source, engine: AsyncEngine, fleet: Fleet, *, shows_id: bool = True) -> SubmitResult:
        """Submit the source with a forecast. Rejected lines go to a separate file. Raises InvalidInput."""
        forecaster = Forecaster(self.settings, fleet, engine, self.spec)
        try:
            result = await self._submit(source, engine, fleet, forecaster)
        except IdempotencyConflict as error:
            raise UsageError(str(error), hint="Use a different key for each file.") from error
        self.public_id = result.public_id  # at once, for an interrupt from here on
        name = f"{result.public_id}: " if shows_id else ""
        if not result.duplicate:
            notice(f"{name}{queries(result.total)} accepted")
        else:
            warn(f"{name}{queries(result.total)} submitted earlier with this key; nothing new was submitted")
        for warning in result.warnings:
            warn(warning)
        if result.rejected:
            self.rejections = {"rejected": len(result.rejected), "rejected_file": str(source.rejected_path)}
            notice(f"{plural(len(result.rejected), 'invalid line')} written to {source.rejected_path}")
        return result

    async def _submit(self, source: Source, engine: AsyncEngine, fleet: Fleet, forecaster: Forecaster) -> SubmitResult:
        spec = replace(self.spec, metadata=source.metadata)
        if not self.skip_invalid:
            return await submit(source.lines(fleet), engine=engine, fleet=fleet, spec=spec, forecaster=forecaster)
        with RejectedFile(source.rejected_path) as rejected:
            try:
                return await submit(
                    rejected.passing(source.lines(fleet)),
                    engine=engine,
                    fleet=fleet,
                    spec=spec,
                    skip_invalid=True,
                    forecaster=forecaster,
                )
            except InvalidInput as error:
                if any(rejection.line_no for rejection in error.rejections):
                    raise UsageError(
                        f"None of the {error.total_seen:,} lines is a valid query. Nothing was submitted.",
                        hint="Run it without --skip-invalid to see the error of each line.",
                    ) from error
                raise

    async def wait_and_write(
        self,
        engine: AsyncEngine,
        batch: Batch,
        fleet: Fleet,
        rows: InputTable | None,
        *,
        check: Callable[[], None] = lambda: None,
    ) -> QueriesHeld | None:
        """Show progress until the batch has ended, and write the results, joined to ``rows``.

        Return the error of a command that ends while the budget or an account holds queries, else None. Raises
        UsageError if no worker of ``fleet`` serves the batch.
        """

        async def progress() -> Progress:
            return await batch_progress(engine, batch.id)

        refuse_unserved(batch, await progress(), fleet)
        held: QueriesHeld | None = None
        try:
            await wait_for_end(progress, check=check, console=err, commands=self._later(batch.public_id))
        except QueriesHeld as error:
            held = error
        await self.output.write(engine, batch, rows)
        return held

    def _later(self, public_id: str) -> LaterCommands:
        return LaterCommands.of(public_id, file=self.input_name, output=self.output.flags, fleet=self.resume_flags)

    def interrupted(self) -> CommandError:
        """Return the error of a command that Ctrl-C ends, with the commands that continue the batch."""
        if self.public_id is None:
            message, hint = "Interrupted before the batch was accepted; nothing was submitted.", "Run it again."
        else:
            message = f"Interrupted. {self.public_id} keeps its answers; answered queries are not sent again."
            hint = (
                f"Continue with `{self._later(self.public_id).run}` or `pointsman up{self.resume_flags}`; "
                "see `pointsman status`."
            )
        return CommandError(message, hint=hint, code=ExitCode.INTERRUPTED)
