"""``pointsman version``, and ``pointsman --version``."""

import platform
from importlib.metadata import version as version_of
from typing import Annotated

import typer

from cli.console import emit, out
from cli.param_types import JsonOption

app = typer.Typer()


@app.command()
def version(as_json: JsonOption = False) -> None:
    """Show the versions of Pointsman and its libraries."""
    versions = {"pointsman": version_of("pointsman"), "python": platform.python_version()}
    versions |= {name: version_of(name) for name in ("celery", "redis", "sqlalchemy", "psycopg", "httpx")}
    if as_json:
        emit(versions)
    else:
        out.print(" · ".join(f"{name} {number}" for name, number in versions.items()))


def _print_and_exit(is_set: bool) -> None:
    if is_set:
        out.print(f"pointsman {version_of('pointsman')}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", callback=_print_and_exit, is_eager=True, help="Show the version and exit.")
]
