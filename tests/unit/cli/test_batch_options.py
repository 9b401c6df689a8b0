"""The options of a quality floor, before anything starts."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.batch_options import BatchOptionGroup
from cli.batch_submission import check_against_fleet
from cli.command_errors import CommandError, ExitCode
from cli.main import app
from fleet_config import load_fleet

FLEET = Path("examples/fleets/llama-cpp.toml")
"""It names neither a judge nor a command."""


@pytest.mark.parametrize("command", ["run", "submit"])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--grader", "judge"], "need --quality"),
        (["--quality", "0.9", "--grader", "somebody"], "somebody"),
        (["--quality", "0.9", "--grader", "command", "--fleet", str(FLEET)], "--grader command: the fleet names no"),
        (["--quality", "0.9", "--grader", "judge", "--fleet", str(FLEET)], "--grader judge: the fleet names no judge"),
    ],
)
def test_a_grader_that_nobody_provides_is_refused(
    command: str, options: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POINTSMAN_HOME", str(tmp_path / "home"))
    queries = tmp_path / "queries.txt"
    queries.write_text("What is 2+2?")
    ended = CliRunner().invoke(app, [command, str(queries), *options])
    error = ended.exception
    assert (error.code if isinstance(error, CommandError) else ended.exit_code) == ExitCode.USAGE
    told = str(error) if isinstance(error, CommandError) else ended.output
    assert says in " ".join(told.replace("│", " ").split())
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(("fleet", "is_said"), [(FLEET, True), (Path("fleet.toml"), False)])
def test_a_deadline_that_changes_nothing_is_named(
    fleet: Path, is_said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    check_against_fleet(BatchOptionGroup(within="24h").spec("q.txt"), load_fleet(fleet, {}))
    assert ("the deadline changes nothing" in " ".join(capsys.readouterr().err.split())) is is_said
