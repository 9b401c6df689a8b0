"""``pointsman version``, and ``pointsman --version``."""

import platform
from importlib.metadata import version as version_of
from typing import Annotated

import typer

from cli.commands.run import JsonOption
from cli.console import emit, out

app = typer.Typer()


@app.command()
def version(as_json: JsonOption = False) -> None:
    """The version of Pointsman and of what it stands on."""
    told = {"pointsman": version_of("pointsman"), "python": platform.python_version()}
    told |= {name: version_of(name) for name in ("celery", "redis", "sqlalchemy", "psycopg", "httpx")}
    if as_json:
        emit(told)
    else:
        out.print(" · ".join(f"{name} {number}" for name, number in told.items()))


def _tell_and_end(is_asked: bool) -> None:
    if is_asked:
        out.print(f"pointsman {version_of('pointsman')}")
        raise typer.Exit


VersionOption = Annotated[
    bool, typer.Option("--version", callback=_tell_and_end, is_eager=True, help="Say the version and end.")
]
