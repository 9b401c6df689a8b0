"""``pointsman up`` and ``down``: the whole stack on this machine, in the foreground or detached from the terminal."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Final

import typer

from cli.command_errors import CommandError, ExitCode
from cli.console import notice, out
from cli.open_services import read_settings
from cli.param_types import FleetOption
from settings import Settings, without_password
from workers.data_dir import make_data_dir
from workers.embedded.services import services_down, services_running
from workers.local_stack import LocalStack, StackRunning, stack_down, stack_pid

app = typer.Typer()

_CHECK_S: Final = 0.5
_POLL_S: Final = 0.1
_RUNNING: Final = "Running."
"""The beginning of the line that is printed once the stack runs."""


@app.command()
def up(
    fleet: FleetOption = None,
    flower: Annotated[bool, typer.Option(help="Also start Flower, on loopback.")] = True,
    api: Annotated[bool, typer.Option(help="Also start the OpenAI-compatible API, on loopback.")] = True,
    is_detached: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once the stack serves. `pointsman down` stops it.")
    ] = False,
) -> None:
    """Run the whole stack here until Ctrl-C or SIGTERM.

    The stack is Postgres, Redis, the workers, the feeder, and optionally Flower and the API. Ctrl-C and SIGTERM stop it
    cleanly.
    """
    settings = read_settings(fleet)
    checked = settings.fleet()
    if is_detached:
        options = [] if fleet is None else ["--fleet", str(fleet.absolute())]
        options += [f"--no-{name}" for name, wanted in (("flower", flower), ("api", api)) if not wanted]
        _start_detached(settings, options)
        return
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
            out.print(f"{_RUNNING} Submit with `pointsman submit FILE` in another terminal. Ctrl-C stops the stack.")
            while True:
                time.sleep(_CHECK_S)
                stack.check()
    except StackRunning as error:
        raise _already_running(error.pid) from error
    except KeyboardInterrupt:
        notice("stopped; the next `pointsman up` or `pointsman run` continues open batches")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _already_running(pid: int) -> CommandError:
    return CommandError(
        f"The stack is already running (process {pid}).",
        hint="Stop it with `pointsman down`, or use another POINTSMAN_HOME.",
    )


def _start_detached(settings: Settings, options: list[str]) -> None:
    """Run `up` in a separate session, which survives the terminal, and print its output once it serves."""
    if (pid := stack_pid(settings)) is not None:
        raise _already_running(pid)
    log = settings.home / "logs" / "up.log"
    make_data_dir(settings.home)
    with log.open("wb") as output:
        up = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "up", *options],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    while not (lines := _lines_until_running(log)):
        if up.poll() is not None:
            raise CommandError("The stack did not start.", hint=log.read_text(errors="replace").strip())
        time.sleep(_POLL_S)
    for line in lines:
        out.print(line)
    out.print(f"Running in the background (process {up.pid}), log {log}. `pointsman down` stops it.")


def _lines_until_running(log: Path) -> list[str]:
    """Return what `up` has printed, or nothing until it serves."""
    before, running, _ = log.read_text(errors="replace").partition(f"\n{_RUNNING}")
    return before.splitlines() if running else []


@app.command()
def down() -> None:
    """Stop the stack that `up` started, with its services."""
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
