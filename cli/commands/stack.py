"""``pointsman up`` and ``down``: the whole stack on this machine, in the foreground."""

import time
from typing import Annotated

import typer

from cli.command_errors import CommandError, ExitCode
from cli.console import notice, out
from cli.param_types import FleetOption
from cli.resources import read_settings
from settings import without_password
from workers.embedded.services import services_down, services_running
from workers.local_stack import LocalStack, StackRunning, stack_down

app = typer.Typer()

_CHECK_S = 0.5


@app.command()
def up(
    fleet: FleetOption = None,
    flower: Annotated[bool, typer.Option(help="Also start Flower, on loopback.")] = True,
    api: Annotated[bool, typer.Option(help="Also start the OpenAI-compatible API, on loopback.")] = True,
) -> None:
    """Run the whole stack here until Ctrl-C.

    Postgres, Redis, the workers, the feeder, Flower, the API. Ctrl-C stops them cleanly.
    """
    settings = read_settings(fleet)
    checked = settings.fleet()
    try:
        with LocalStack(settings, checked, flower=flower, api=api, tell=notice) as stack:
            for name, pid in stack.processes.items():
                notice(f"  {name} (process {pid})")
            out.print(f'postgres: psql "{stack.settings.psql_url}"')
            out.print(f"broker: {without_password(stack.settings.broker_url)}")
            for name, url in stack.urls.items():
                out.print(f"{name}: {url}")
            if "api" in stack.urls:
                out.print(f"dashboard: {stack.urls['api'].removesuffix('/v1')}/dashboard")
                out.print(f"export OPENAI_BASE_URL={stack.urls['api']}")
            if checked.simulated:
                out.print("The fleet is simulated: no call leaves this machine.", style="yellow")
            out.print("Running. Submit with `pointsman submit FILE` in another terminal; Ctrl-C stops.")
            while True:
                time.sleep(_CHECK_S)
                stack.check()
    except StackRunning as error:
        raise CommandError(
            f"The stack is already running (process {error.pid}).",
            hint="Stop it with `pointsman down`, or use another POINTSMAN_HOME.",
        ) from error
    except KeyboardInterrupt:
        notice("stopped; the next `pointsman up` or `pointsman run` continues open batches")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


@app.command()
def down() -> None:
    """Stop the stack of `up`, embedded services included."""
    settings = read_settings()
    had_services = services_running(settings)
    stopped = ["the workers"] if stack_down(settings) else []
    # A stack that ends stops the services itself, unless another process uses them.
    if services_down(settings) or had_services:
        stopped += ["the embedded Postgres"] if settings.embeds_postgres else []
        stopped += ["the embedded Redis"] if settings.embeds_redis else []
    if not stopped:
        out.print("Nothing was running.")
        return
    *others, last = stopped
    out.print(f"Stopped {', '.join(others)}{' and ' if others else ''}{last}.")
