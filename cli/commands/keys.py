"""``pointsman keys``: API keys and the limits of their tenants."""

import re
from dataclasses import asdict
from typing import Annotated

import typer
from sqlalchemy.ext.asyncio import AsyncEngine

from cli.command_errors import CommandError, ExitCode, UsageError
from cli.console import emit, out, plain, table, warn
from cli.open_services import read_settings, with_database
from cli.param_types import JsonOption, check_name, parse_usd
from db.tenants import DEFAULT_TENANT, ApiKey, IdentityTaken, Role, Tenants
from report.formatting import usd

app = typer.Typer()
keys = typer.Typer(help="Create, list and revoke the keys of the HTTP API.", no_args_is_help=True)
app.add_typer(keys, name="keys")


@keys.command()
def create(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A label that identifies the key in `list`.")],
    tenant: Annotated[
        str,
        typer.Option(help="The tenant whose batches and files the key can access. It is created if it does not exist."),
    ] = DEFAULT_TENANT,
    role: Annotated[
        Role,
        typer.Option(
            help="The key's role. viewer reads, operator also submits and changes batches, and "
            "admin also manages keys "
            "and routers."
        ),
    ] = Role.OPERATOR,
    identity: Annotated[
        str | None,
        typer.Option(metavar="USER", help="Give this user of the trusted proxy access, instead of creating a key."),
    ] = None,
    requests_per_min: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="New rate limit of the tenant.")
    ] = None,
    day_usd: Annotated[
        float | None, typer.Option(parser=parse_usd, metavar="USD", help="New budget of the tenant per UTC day.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create a key. It is shown only once, because only its hash is stored. Once a key exists, the API requires one."""
    for text in (name, tenant, *([identity] if identity is not None else ())):
        check_name(text)

    async def work(engine: AsyncEngine) -> tuple[str, bool]:
        tenants = Tenants(engine)
        is_first = not await tenants.has_keys()
        try:
            key = await tenants.create_key(
                tenant=tenant,
                name=name,
                role=role,
                identity=identity,
                requests_per_min=requests_per_min,
                day_usd=day_usd,
            )
        except IdentityTaken as error:
            raise UsageError(f"{error}.", hint="`pointsman keys list` shows it; revoke it first.") from error
        return key, is_first

    key, is_first = with_database(read_settings(), work)
    if as_json:
        shown = {"key": key} if identity is None else {"identity": identity}
        emit(shown | {"tenant": tenant, "name": name, "role": role})
    elif identity is not None:
        out.print(f"{plain(identity)} may use tenant {plain(tenant)} as {role}.")
    else:
        out.print(key)
        warn(f"The key gives access to the batches and files of tenant {tenant}. Save it now: it is not shown again.")
    if is_first:
        warn("This is the first key: from now on the API and the dashboard require a key.")


@keys.command("list")
def list_(as_json: JsonOption = False) -> None:
    """List all keys by their public part."""

    async def work(engine: AsyncEngine) -> list[ApiKey]:
        return list(await Tenants(engine).keys())

    found = with_database(read_settings(), work)
    if as_json:
        emit({"keys": [asdict(key) | {"day_usd": _day_usd(key)} for key in found]})
        return
    if not found:
        raise CommandError(
            "There are no keys yet. On loopback the API requires none; elsewhere it rejects every request.",
            hint="Run `pointsman keys create NAME` to create one. From then on every request needs a key.",
            code=ExitCode.OK,
        )
    grid = table(("key", "tenant", "name", "role", "created", "state", "requests/min", "USD/day"))
    for key in found:
        grid.add_row(
            f"pm-{key.id}-…",
            plain(key.tenant),
            plain(key.name if key.identity is None else f"{key.name} ({key.identity})"),
            key.role,
            f"{key.created_at:%Y-%m-%d %H:%M}",
            "revoked" if key.revoked_at else "active",
            "–" if key.requests_per_min is None else f"{key.requests_per_min:,}",
            usd(_day_usd(key)),
        )
    out.print(grid)


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The part of the key that `list` shows, or the whole key.")],
) -> None:
    """Revoke an API key. Running services reject the key within one second."""
    found = re.fullmatch(r"(?:pm-)?([0-9a-f]{12})(?:-.*)?", key)

    async def work(engine: AsyncEngine) -> bool:
        return found is not None and await Tenants(engine).revoke_key(found.group(1))

    if not with_database(read_settings(), work):
        raise UsageError("There is no active key with that name.", hint="`pointsman keys list`")
    out.print("Revoked.")


def _day_usd(key: ApiKey) -> float | None:
    return None if key.day_usd is None else float(key.day_usd)
