"""``pointsman keys``: the API keys, and what their tenants may do."""

import re
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import CommandError, ExitCode
from cli.commands.batches import with_database
from cli.commands.run import JsonOption
from cli.console import emit, err, out, plain
from cli.param_types import parse_usd
from cli.resources import read_settings
from db.tenants import DEFAULT_TENANT, ApiKey, Tenants
from report import formatting

app = typer.Typer()
keys = typer.Typer(help="Make, list and revoke the keys of the HTTP API.", no_args_is_help=True)
app.add_typer(keys, name="keys")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@keys.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose or what for, to know it again.")],
    tenant: Annotated[str, typer.Option(help="Whose batches and files it opens; made where there is none.")] = (
        DEFAULT_TENANT
    ),
    requests_per_min: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="The tenant's limit from now on.")
    ] = None,
    day_usd: Annotated[
        float | None, typer.Option(parser=parse_usd, metavar="USD", help="The most the tenant may spend on a UTC day.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. It is shown this once: only its hash is kept. From the first key on the API asks for one."""
    for given in (name, tenant):
        if not _NAME.fullmatch(given):
            raise CommandError(
                f"{given!r} is not a name.", hint="Use letters, digits, ., _ and -; 63 at most.", code=ExitCode.USAGE
            )

    async def work(engine: AsyncEngine) -> tuple[str, bool]:
        tenants = Tenants(engine)
        is_first = not await tenants.has_keys()
        key = await tenants.create_key(tenant=tenant, name=name, requests_per_min=requests_per_min, day_usd=day_usd)
        return key, is_first

    key, is_first = with_database(read_settings(), work)
    if as_json:
        emit({"key": key, "tenant": tenant, "name": name})
    else:
        out.print(key)
        err.print(f"It opens what tenant {tenant} has. Keep it now: it cannot be shown again.", style="yellow")
    if is_first:
        err.print("It is the first: from now on the API and the dashboard ask for a key.", style="yellow")


@keys.command("list")
def list_(as_json: JsonOption = False) -> None:
    """All keys, by the part of them that may be shown."""

    async def work(engine: AsyncEngine) -> list[ApiKey]:
        return list(await Tenants(engine).keys())

    found = with_database(read_settings(), work)
    if as_json:
        emit({"keys": [asdict(key) | {"day_usd": _number(key)} for key in found]})
        return
    if not found:
        raise CommandError(
            "There is no key yet: on loopback the API asks for none, elsewhere nobody gets in.",
            hint="`pointsman keys create NAME` makes one; from then on every request needs one.",
            code=ExitCode.OK,
        )
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("key", "tenant", "name", "made", "state", "requests/min", "USD/day"):
        table.add_column(heading)
    for key in found:
        table.add_row(
            f"pm-{key.id}-…",
            plain(key.tenant),
            plain(key.name),
            f"{key.created_at:%Y-%m-%d %H:%M}",
            "revoked" if key.revoked_at else "good",
            "–" if key.requests_per_min is None else f"{key.requests_per_min:,}",
            "–" if key.day_usd is None else formatting.usd(float(key.day_usd)),
        )
    out.print(table)


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The part that `list` shows, or the whole key.")],
) -> None:
    """Have a key open nothing any more. Running services notice within a second."""
    found = re.fullmatch(r"(?:pm-)?([0-9a-f]{12})(?:-.*)?", key)

    async def work(engine: AsyncEngine) -> bool:
        return found is not None and await Tenants(engine).revoke_key(found.group(1))

    if not with_database(read_settings(), work):
        raise CommandError(
            "There is no such key, or it is revoked already.", hint="`pointsman keys list`", code=ExitCode.USAGE
        )
    out.print("Revoked.")


def _number(key: ApiKey) -> float | None:
    return None if key.day_usd is None else float(key.day_usd)
