"""``pointsman audit``: checks the seals of a batch's decisions, and creates logins for auditors."""

from dataclasses import asdict
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import ExitCode, UsageError
from cli.console import emit, out, plain, plural, warn
from cli.open_services import open_database, read_settings, resolve_batch, with_database
from cli.param_types import JsonOption
from db.audit_seals import AuditReport, verify
from db.auditor_login import InvalidLoginName, add_auditor

app = typer.Typer()
audit = typer.Typer(help="Verify the routing log; create auditors' logins.", no_args_is_help=True)
app.add_typer(audit, name="audit")

_SHOWN = 20


@audit.command("verify")
def verify_batch(
    batch: Annotated[str, typer.Argument(metavar="BATCH")],
    head: Annotated[
        str | None,
        typer.Option(metavar="HASH", help="The last hash from an earlier check. It must still be the last hash."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check every decision of BATCH against its seal.

    Exits with 1 if a decision was changed, removed, hidden or added. It creates no seals: the feeder seals a batch
    after it has ended.
    """

    async def work(engine: AsyncEngine) -> AuditReport:
        return await verify(engine, (await resolve_batch(engine, batch)).id)

    audit = with_database(read_settings(), work)
    is_forged = head is not None and audit.head != head.lower()
    if as_json:
        emit({"batch_id": batch, **asdict(audit), "head_as_expected": None if head is None else not is_forged})
    else:
        _show(batch, audit)
        if is_forged:
            out.print("The last hash differs from --head: the chain was rewritten.", style="red")
    if audit.findings or is_forged:
        raise typer.Exit(ExitCode.FAILURE)


def _show(batch: str, audit: AuditReport) -> None:
    for finding in audit.findings[:_SHOWN]:
        query = f" (query {plain(finding.query)})" if finding.query else ""
        decision = "" if finding.decision_id is None else f"decision {finding.decision_id}{query} "
        out.print(f"{decision}{finding.what}", style="red")
    if len(audit.findings) > _SHOWN:
        out.print(f"… and {len(audit.findings) - _SHOWN:,} more", style="red")
    if audit.unsealed:
        warn(
            f"decisions without a seal: {audit.unsealed:,}. The feeder seals a batch once it has ended. Until then the "
            "application's login can add decisions that no check detects."
        )
    if audit.purged:
        warn("Retention has deleted some of this batch's decisions. For those, only the hash chain is checked.")
    if not audit.findings:
        out.print(f"{batch}: unchanged ({plural(audit.decisions, 'decision')}, {plural(audit.seals, 'seal')}).")
    if audit.head is not None:
        out.print(f"last hash: {audit.head}")


@audit.command()
def login(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The login to create, or to set a new password for.")],
) -> None:
    """Create a Postgres login for an auditor, and print its password.

    The login can read the audit views, but no prompts. A statement ends after 30 s by default, which a session can
    change. The limits of 4 connections, and of 1 GB of temporary files per connection, are fixed.
    """
    settings = read_settings()
    if settings.embeds_postgres:
        raise UsageError(
            "The embedded Postgres has no logins: only its owner can connect, through a socket.",
            hint="Use the psql line of `pointsman up` or `doctor`. SET ROLE pointsman_auditor then shows an "
            "auditor's view. To create logins, set DATABASE_URL to an external Postgres.",
        )

    async def work(engine: AsyncEngine) -> str:
        async with open_database(settings, role=None) as owner:
            return await add_auditor(owner, name)

    try:
        out.print(with_database(settings, work))
    except InvalidLoginName as error:
        raise UsageError(str(error)) from error
