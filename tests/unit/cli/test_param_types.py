"""A budget on the command line is an amount, or the command says that it is none."""

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.param_types import parse_usd


@pytest.mark.parametrize(("given", "meant"), [("5", 5.0), ("0", 0.0), ("1e-6", 1e-6), ("1e8", 1e8)])
def test_an_amount_is_read(given: str, meant: float) -> None:
    assert parse_usd(given) == meant


@pytest.mark.parametrize("given", ["nan", "inf", "-1", "1e9", "$5", "five"])
@pytest.mark.parametrize(
    "command",
    [
        ["submit", "queries.txt", "--budget"],
        ["run", "queries.txt", "--budget"],
        ["budget", "batch_1", "--raise-to"],
        ["keys", "create", "laptop", "--day-usd"],
    ],
)
def test_what_is_no_amount_ends_each_command_with_2(command: list[str], given: str) -> None:
    ended = CliRunner().invoke(app, [*command, given])
    assert ended.exit_code == 2
    assert "is no number of dollars" in " ".join(ended.output.replace("│", "").split())
