"""``pointsman audit``: whether the decisions of a batch are as they were written, and logins for auditors."""

from dataclasses import asdict
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import CommandError, ExitCode
from cli.commands.batches import with_database
from cli.commands.run import JsonOption
from cli.console import emit, err, out, plain
from cli.resources import open_database, read_settings, resolve_batch
from db.audit_seals import AuditReport, seal, verify
from db.auditor_login import InvalidLoginName, add_auditor

app = typer.Typer(help="Check the routing log, and let auditors read it.", no_args_is_help=True)

_SHOWN = 20


@app.command("verify")
def verify_batch(
    batch: Annotated[str, typer.Argument(metavar="BATCH")],
    head: Annotated[
        str | None, typer.Option(metavar="HASH", help="The last hash as you kept it: it must be in the chain's end.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hold every decision of BATCH against its seal. Exits with 1 where one was changed, taken away or added."""

    async def work(engine: AsyncEngine) -> AuditReport:
        found = await resolve_batch(engine, batch)
        if found.ended_at is not None:
            await seal(engine, found.id)
        return await verify(engine, found.id)

    audit = with_database(read_settings(), work)
    forged = head is not None and audit.head != head.lower()
    if as_json:
        emit({"batch_id": batch, **asdict(audit), "head_as_expected": None if head is None else not forged})
    else:
        _show(batch, audit)
        if forged:
            out.print("The last hash is not the one that you kept: the chain was written anew.", style="red")
    if audit.findings or forged:
        raise typer.Exit(ExitCode.FAILURE)


def _show(batch: str, audit: AuditReport) -> None:
    for finding in audit.findings[:_SHOWN]:
        if finding.decision_id is None:
            out.print(finding.what, style="red")
        else:
            of = f" (query {plain(finding.query)})" if finding.query else ""
            out.print(f"decision {finding.decision_id}{of} {finding.what}", style="red")
    if len(audit.findings) > _SHOWN:
        out.print(f"… and {len(audit.findings) - _SHOWN:,} more", style="red")
    if audit.unsealed:
        err.print(f"{audit.unsealed:,} decisions are not sealed yet: the batch is still open.", style="yellow")
    if audit.purged:
        err.print("Retention has dropped decisions of it: of those only the chain can be checked.", style="yellow")
    if not audit.findings:
        seals = f"{audit.seals:,} {'seal' if audit.seals == 1 else 'seals'}"
        out.print(f"{batch}: {audit.decisions:,} decisions are as they were written ({seals}).")
    if audit.head is not None:
        out.print(f"last hash: {audit.head}")


@app.command()
def login(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The login to make, or to give a new password.")],
) -> None:
    """Make a Postgres login for an auditor. It reads the views and no prompt, for at most 30 s a statement.

    Prints its password.
    """
    settings = read_settings()
    if settings.embeds_postgres:
        raise CommandError(
            "The embedded Postgres takes no logins: it is reached by its owner's socket alone.",
            hint="`pointsman up` and `doctor` print the psql line that does; SET ROLE pointsman_auditor shows there\n"
            "what an auditor sees. For logins set DATABASE_URL to a Postgres of yours.",
            code=ExitCode.USAGE,
        )

    async def work(engine: AsyncEngine) -> str:
        async with open_database(settings, role=None) as owner:
            return await add_auditor(owner, name)

    try:
        password = with_database(settings, work)
    except InvalidLoginName as error:
        raise CommandError(str(error), code=ExitCode.USAGE) from error
    out.print(password)
