"""What the command says of itself."""

import re
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from cli.main import app


def told(*arguments: str) -> str:
    """What the command writes to a terminal of 80 columns, of which click leaves two free."""
    done = CliRunner().invoke(app, list(arguments), terminal_width=78)
    assert done.exit_code == 0
    return done.stdout


@pytest.mark.parametrize("group", [(), ("audit",), ("keys",), ("routers",)])
def test_no_commands_line_is_cut_at_eighty_columns(group: tuple[str, ...]) -> None:
    lines = told(*group, "--help").partition("Commands:\n")[2].splitlines()
    assert lines
    assert [line for line in lines if line.endswith("...") or len(line) > 80] == []
    assert [line for line in lines if not re.match(r"  [a-z-]+  +\S", line)] == [], "each has its words on its line"


def test_the_version_is_reported_by_command_and_by_option() -> None:
    assert told("--version") == f"pointsman {version('pointsman')}\n"
    assert told("version").startswith(f"pointsman {version('pointsman')} · python ")


@pytest.mark.parametrize("command", ["status", "report", "label", "check-fleet", "retrain", "evaluate"])
def test_what_may_be_left_out_stands_in_one_pair_of_brackets(command: str) -> None:
    assert "[[" not in told(command, "--help").replace("[OPTIONS] ", "")
