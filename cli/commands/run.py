"""``pointsman run``: from a file of queries to answers and a report, in one command."""

import asyncio
import os
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from cli import batch_summary
from cli.command_errors import CommandError, ExitCode
from cli.console import emit, err, lines, out, plain, queries
from cli.param_types import parse_usd
from cli.progress import wait_for_end
from cli.query_source import STDIN, RejectedFile, Source, open_source
from cli.resources import open_database, read_settings, resolve_batch
from cli.results_writer import STDOUT, check_writable, print_results, write_results
from cli.worker_stack import WorkingStack, refuse_unserved, working_stack
from db.batch_writer import BatchSpec
from db.reports.batch_stats import Batch, BatchFigures, Progress, batch_figures, batch_progress
from db.reports.json_views import batch_as_json
from routing.fleet import BudgetPolicy, Fleet
from settings import Settings
from submission.forecaster import Forecaster
from submission.input_line import InvalidInput
from submission.submit import SubmitResult, submit

app = typer.Typer()

FleetOption = Annotated[
    Path | None,
    typer.Option("--fleet", metavar="FILE", help="The fleet file, instead of POINTSMAN_FLEET or fleet.toml."),
]
PolicyOption = Annotated[
    BudgetPolicy | None,
    typer.Option(
        "--budget-policy",
        help="What the budget has no room for: hold it, fail it, or degrade the least hard queries to cheaper tiers; "
        "the fleet's, if left out.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; words go to stderr.")]


@dataclass(slots=True)
class Run:
    """What is asked of one run, and what came of it."""

    settings: Settings
    fleet: Fleet
    source: Source | None
    public_id: str | None
    order: BatchSpec
    skip_invalid: bool
    output: Path | None
    again: str
    """The options with which a later command goes on with it."""
    rejected: int = 0
    rejected_path: Path | None = None


@app.command()
def run(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE", help="OpenAI Batch lines, simple JSON lines or plain text; may be gzip; - is stdin."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write the results there, in OpenAI Batch form; - is stdout."
        ),
    ] = None,
    as_json: JsonOption = False,
    replay: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Have the simulator give these recorded answers to the questions it knows.",
        ),
    ] = None,
    fleet: FleetOption = None,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="The same key again is the same batch: continues to wait for it.")
    ] = None,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Submit the valid lines, write the others to FILE.rejected.jsonl.")
    ] = False,
    batch: Annotated[
        str | None, typer.Option(metavar="BATCH", help="Continue this batch instead of submitting a file.")
    ] = None,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Higher goes first.")] = 0,
    budget: Annotated[
        float | None, typer.Option(metavar="USD", parser=parse_usd, help="The most that the batch may cost.")
    ] = None,
    budget_policy: PolicyOption = None,
) -> None:
    """Start what is missing, submit FILE, wait, print the report.

    Exits with 0 when every query has ended and at least one was answered, 1 when it failed, 2 when the
    input or the command is wrong, 130 on Ctrl-C; the batch can then be continued.
    """
    began = time.monotonic()
    if (file is None) == (batch is None):
        raise CommandError(
            "Give a FILE, or --batch BATCH to continue one.", hint="`pointsman run --help`", code=ExitCode.USAGE
        )
    if output is not None:
        check_writable(output)
    if output == STDOUT and as_json:
        raise CommandError(
            "--json and --output - both write to stdout.", hint="Give --output a FILE.", code=ExitCode.USAGE
        )
    settings = read_settings(fleet)
    checked = settings.fleet()
    _warn_of_missing_keys(checked)
    order = BatchSpec(
        source="stdin" if file in (None, STDIN) else Path(str(file)).name,
        idempotency_key=idempotency_key,
        priority=priority,
        cap_usd=budget,
        budget_policy=budget_policy,
    )
    asked = Run(settings, checked, None, batch, order, skip_invalid, output, with_fleet(fleet))
    if file is None:
        figures = _work(asked, replay)
    else:
        with open_source(file) as source:
            if not skip_invalid:
                source.check(checked)  # before anything is started
            asked.source = source
            figures = _work(asked, replay)
    _report(figures, asked, as_json=as_json, elapsed_s=time.monotonic() - began)
    if figures.progress.done == 0:
        raise typer.Exit(ExitCode.FAILURE)


def with_fleet(fleet: Path | None) -> str:
    """The option for a later command that names the same fleet."""
    return f" --fleet {shlex.quote(str(fleet))}" if fleet else ""


def _warn_of_missing_keys(fleet: Fleet) -> None:
    """Says so before anything is started: each call without its key fails."""
    named = {fleet.providers[model.provider].api_key_env for model in fleet.models.values()}
    if missing := sorted(name for name in named if name and not os.environ.get(name)):
        err.print(f"Not set here: {', '.join(missing)}. Calls that need them will fail (auth).", style="yellow")


def _work(asked: Run, replay: Path | None) -> BatchFigures:
    try:
        with working_stack(asked.settings, asked.fleet, replay=replay, tell=_tell) as working:
            return asyncio.run(_run(asked, working))
    except KeyboardInterrupt:
        raise interrupted(asked.public_id, again=asked.again) from None


async def _run(asked: Run, working: WorkingStack) -> BatchFigures:
    async with open_database(working.settings) as engine:
        batch = await _submitted(asked, engine, working.fleet)
        asked.public_id = batch.public_id

        async def look() -> Progress:
            return await batch_progress(engine, batch.id)

        refuse_unserved(batch, await look(), working.fleet)
        await wait_for_end(look, check=working.check, console=err, again=asked.again)
        if asked.output is not None:
            if asked.output == STDOUT:
                written = await print_results(engine, batch.id)
                _tell(f"{written:,} results")
            else:
                written = await write_results(engine, batch.id, asked.output)
                _tell(f"{written:,} results are in {asked.output}")
        return await batch_figures(engine, batch, fleet=working.fleet)


async def _submitted(asked: Run, engine: AsyncEngine, fleet: Fleet) -> Batch:
    if asked.source is None:
        return await resolve_batch(engine, asked.public_id)
    submitted = await submit_source(
        asked.source,
        engine=engine,
        fleet=fleet,
        order=asked.order,
        skip_invalid=asked.skip_invalid,
        planner=Forecaster(
            asked.settings, fleet, engine, cap_usd=asked.order.cap_usd, policy=asked.order.budget_policy
        ),
    )
    asked.public_id = submitted.public_id  # at once: whom Ctrl-C ends from here on hears of it
    asked.rejected = len(submitted.rejected)
    asked.rejected_path = asked.source.rejected_path if submitted.rejected else None
    told = "was submitted before with this key" if submitted.duplicate else "is accepted"
    _tell(f"{submitted.public_id} {told}: {queries(submitted.total)}")
    if asked.rejected_path:
        _tell(skipped(asked.rejected, asked.rejected_path))
    batch = await resolve_batch(engine, submitted.public_id)
    if submitted.duplicate:
        warn_of_other_source(batch, asked.order.source)
    return batch


def warn_of_other_source(batch: Batch, source: str) -> None:
    """Says so where a key that is known came with a file of another name: its lines are in no batch."""
    if batch.source != source:
        words = f"It is of {plain(batch.source)}: no line of {plain(source)} was taken. Give that a key of its own."
        err.print(words, style="yellow")


async def submit_source(
    source: Source,
    *,
    engine: AsyncEngine,
    fleet: Fleet,
    order: BatchSpec,
    skip_invalid: bool,
    planner: Forecaster,
) -> SubmitResult:
    """Submits a source with its plan; its rejected lines go to its file of rejected lines. Raises BadInput."""
    if not skip_invalid:
        return await submit(source.lines(fleet), engine=engine, fleet=fleet, order=order, planner=planner)
    with RejectedFile(source.rejected_path) as rejected:
        try:
            return await submit(
                rejected.passing(source.lines(fleet)),
                engine=engine,
                fleet=fleet,
                order=order,
                skip_invalid=True,
                planner=planner,
            )
        except InvalidInput as error:
            if any(rejection.line_no for rejection in error.rejections):
                raise CommandError(
                    f"None of the {error.total_seen:,} lines is a valid query; nothing was submitted.",
                    hint="Without --skip-invalid each line's fault is shown.",
                    code=ExitCode.USAGE,
                ) from error
            raise


def _report(figures: BatchFigures, asked: Run, *, as_json: bool, elapsed_s: float) -> None:
    told: dict[str, Any] = batch_as_json(figures) | {
        "rejected": asked.rejected,
        "rejected_file": str(asked.rejected_path) if asked.rejected_path else None,
        "output": str(asked.output) if asked.output else None,
        "elapsed_s": round(elapsed_s, 3),
    }
    batch_summary.show(figures, err if as_json or asked.output == STDOUT else out)
    if as_json:
        emit(told)


def skipped(count: int, path: Path | None) -> str:
    """What became of lines that were no valid queries."""
    return (
        f"{lines(count)} {'was' if count == 1 else 'were'} skipped; {'it is' if count == 1 else 'they are'} in {path}"
    )


def interrupted(public_id: str | None, *, again: str = "") -> CommandError:
    """How a command ends that Ctrl-C has kept from waiting for the batch; None: it was not accepted yet.

    ``again`` are the options that the commands which continue it need.
    """
    message, hint = "Interrupted before the batch was accepted; nothing of it was kept.", "Run it again."
    if public_id is not None:
        message = f"Interrupted. {public_id} keeps what it has; nothing answered is asked again."
        hint = (
            f"Continue with `pointsman run --batch {public_id}{again}`, or `pointsman up{again}`;"
            " look with `pointsman status`."
        )
    return CommandError(message, hint=hint, code=ExitCode.INTERRUPTED)


def _tell(words: str) -> None:
    err.print(words, style="dim")
