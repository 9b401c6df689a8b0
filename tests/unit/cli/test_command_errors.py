"""How a command that cannot do what it was asked says so."""

from pathlib import Path

import pytest
import typer
from sqlalchemy.exc import OperationalError, ProgrammingError

from cli.command_errors import CommandError, ExitCode, describe_error
from cli.commands.doctor import _fault
from cli.commands.run import interrupted, with_fleet
from cli.main import main
from fleet_config import FleetError, Problem
from settings import SettingsError
from submission.input_line import InvalidInput, RejectedLine
from workers.embedded.services import ServicesError
from workers.local_stack import StackError

SECRET = "my secret prompt"


class _Refused(Exception):
    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


def _operational(message: str, state: str | None = None) -> OperationalError:
    return OperationalError("INSERT INTO prompts …", {"body": SECRET}, _Refused(message, state))


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CommandError("Nothing there.", hint="Look.", code=ExitCode.USAGE), 2, "Nothing there."),
        (SettingsError("DATABASE_URL is not the address of a Postgres."), 2, "DATABASE_URL"),
        (FleetError(Path("f.toml"), [Problem("tiers.a", "is odd.", "Mend it.")]), 2, "1 problem"),
        (ServicesError("The embedded services do not start."), 1, "do not start"),
        (StackError("small ended. The end of s.log:\n  File …\nKeyError: 'x'"), 1, "The end of s.log: KeyError: 'x'"),
        (_operational("connection refused"), 1, "Postgres cannot be reached"),
        (_operational("terminating", "57P01"), 1, "Postgres cannot be reached"),
        (_operational('role "pointsman_app" does not exist'), 1, "older schema"),
        (ProgrammingError("SELECT", {"body": SECRET}, _Refused(SECRET, "42P01")), 1, "older schema"),
        (_operational(SECRET, "28P01"), 1, "does not let us in"),
        (ProgrammingError("SELECT", {"body": SECRET}, _Refused(SECRET, "22P02")), 1, "SQLSTATE 22P02"),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (FileNotFoundError(2, "No such file or directory", "a.jsonl"), 2, "a.jsonl: No such file"),
        (PermissionError(13, "Permission denied", "a.jsonl"), 2, "a.jsonl: Permission denied"),
        (OSError(28, "No space left on device", "out.jsonl"), 1, "No space left"),
        (ValueError(SECRET), 1, "ValueError"),
    ],
)
def test_each_failure_has_a_line_and_an_exit_code_and_never_a_prompt(
    error: BaseException, code: int, said: str
) -> None:
    failure = describe_error(error)
    assert failure.code == code
    assert said in failure.lines[0]
    assert SECRET not in str(failure.as_json())


def test_bad_input_names_each_line_up_to_twenty() -> None:
    many = [RejectedLine(number, "query", "it is empty", "Say it", raw=SECRET.encode()) for number in range(1, 31)]
    failure = describe_error(InvalidInput(many, 100))
    assert failure.code == ExitCode.USAGE
    assert failure.lines[0] == "line 1: query: it is empty. Say it."
    assert failure.lines[-1] == "… and 10 more."
    assert "--skip-invalid" in str(failure.hint)
    told = failure.as_json()["error"]
    assert len(told["rejections"]) == 30
    assert SECRET not in str(told) + repr(failure)


def test_an_unreadable_input_is_not_told_to_skip_lines() -> None:
    failure = describe_error(InvalidInput([RejectedLine(0, "file", "it is empty", "Give a query")]))
    assert failure.hint == "Nothing was submitted."


def test_what_users_wrote_cannot_steer_the_terminal() -> None:
    failure = describe_error(InvalidInput([RejectedLine(1, "a\x1b[2J\nb", "odd", "Mend it")]))
    assert "\x1b" not in failure.lines[0]
    assert "\n" not in failure.lines[0]


@pytest.mark.parametrize(("ends", "said"), [(KeyboardInterrupt(), "pointsman: Interrupted.\n"), (typer.Exit(130), "")])
def test_ctrl_c_ends_with_a_word_where_the_command_has_had_none(
    ends: BaseException, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def wait() -> None:
        raise ends

    monkeypatch.setattr("cli.main.app", app)
    monkeypatch.setattr("sys.argv", ["pointsman"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == said


def test_a_wait_that_ctrl_c_ends_says_how_it_goes_on() -> None:
    assert interrupted("batch_1").hint == (
        "Continue with `pointsman run --batch batch_1`, or `pointsman up`; look with `pointsman status`."
    )
    again = with_fleet(Path("my fleet.toml"))
    assert "`pointsman run --batch batch_1 --fleet 'my fleet.toml'`" in str(interrupted("batch_1", again=again).hint)
    assert "nothing of it was kept" in interrupted(None).message


def test_the_doctor_does_not_send_to_the_doctor() -> None:
    found = _fault("postgres", _operational("connection refused"))
    assert found.fix == "Is DATABASE_URL right, and is Postgres up?"
    assert _fault("services", ServicesError("They do not start.")).fix is None
