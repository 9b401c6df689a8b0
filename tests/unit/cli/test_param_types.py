"""A budget on the command line is a valid amount, or a usage error."""

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.param_types import parse_usd


@pytest.mark.parametrize(("text", "amount"), [("5", 5.0), ("0", 0.0), ("1e-6", 1e-6), ("1e8", 1e8)])
def test_an_amount_is_read(text: str, amount: float) -> None:
    assert parse_usd(text) == amount


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1e9", "$5", "five"])
@pytest.mark.parametrize(
    "command",
    [
        ["submit", "queries.txt", "--budget"],
        ["run", "queries.txt", "--budget"],
        ["budget", "batch_1", "--raise-to"],
        ["keys", "create", "laptop", "--day-usd"],
    ],
)
def test_an_invalid_amount_ends_each_command_with_2(command: list[str], text: str) -> None:
    ended = CliRunner().invoke(app, [*command, text])
    assert ended.exit_code == 2
    assert "must be an amount in USD between 0 and 100,000,000" in " ".join(ended.output.replace("│", "").split())
