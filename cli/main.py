"""The ``pointsman`` command. Users see no traceback, except with POINTSMAN_DEBUG=1."""

import os
import sys

import typer

from cli.command_errors import ExitCode, describe_error, exit_quietly
from cli.commands import version
from cli.console import emit, err
from cli.lazy_commands import LazyGroup
from telemetry.logging import configure_command_logging

app = typer.Typer(
    name="pointsman",
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def pointsman(is_version: version.VersionOption = False) -> None:
    """Route high-volume batches of LLM queries to the cheapest tier that answers them well.

    Exit codes: 0 done, 1 failed, 2 invalid options or input, 3 a dry run expects more than the budget, 4 a
    provider refuses its account, 130 interrupted.
    """


def _run() -> None:
    try:
        app(prog_name="pointsman")
    except SystemExit as ended:
        # Typer turns Ctrl-C into a silent exit; a command that reports it itself leaves no KeyboardInterrupt.
        if isinstance(ended.__context__, typer.Exit) and isinstance(ended.__context__.__cause__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise


def main() -> None:
    """Run the command and exit with an `ExitCode`."""
    configure_command_logging()
    try:
        _run()
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("POINTSMAN_DEBUG"):
            raise
        description = describe_error(error)
        if isinstance(error, BrokenPipeError):
            exit_quietly()
        elif description.code == ExitCode.OK:
            err.print(description.lines[0])
        else:
            for line in description.lines:
                err.print(f"pointsman: {line}", style="red")
            if description.hint:
                err.print(description.hint)
            if "--json" in sys.argv[1:]:
                emit(description.as_json())
        sys.exit(description.code)


if __name__ == "__main__":
    main()
