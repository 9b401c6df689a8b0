"""Errors that end a command, as the user sees them."""

from pathlib import Path

import pytest
import typer
from sqlalchemy.exc import OperationalError, ProgrammingError
from typer.testing import CliRunner

from cli.batch_options import BatchOptionGroup
from cli.batch_submission import Submission, fleet_flag
from cli.command_errors import CommandError, ExitCode, UsageError, describe_error
from cli.commands.doctor import _fault
from cli.main import app, main
from cli.result_output import ResultOutput
from db.migration_errors import NotOurRole, NotOurSchema, NotOurTables
from fleet_config import FleetError, Problem
from routing.fleet import Fleet
from settings import Settings, SettingsError
from submission.input_line import InvalidInput, RejectedLine
from workers.embedded.services import ServicesError
from workers.local_stack import StackError

SECRET = "my secret prompt"


class _Refused(Exception):
    def __init__(self, message: str, sqlstate: str | None = None) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


def test_every_exit_code_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
    table = page.partition("one of these exit codes")[2].partition("\n\n`")[0]
    assert [int(row.split("|")[1]) for row in table.splitlines()[4:]] == sorted(ExitCode)
    shown = CliRunner().invoke(app, ["--help"]).output
    assert all(f" {code} " in " ".join(shown.split()) for code in ExitCode)


def _operational(message: str, state: str | None = None) -> OperationalError:
    return OperationalError("INSERT INTO prompts …", {"body": SECRET}, _Refused(message, state))


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UsageError("Not found.", hint="Look."), 2, "Not found."),
        (SettingsError("DATABASE_URL is not the address of a Postgres."), 2, "DATABASE_URL"),
        (FleetError(Path("f.toml"), [Problem("tiers.a", "is odd.", "Change it.")]), 2, "1 problem"),
        (ServicesError("The embedded services do not start."), 1, "do not start"),
        (ModuleNotFoundError("No module named sklearn", name="sklearn"), 1, "needs the package sklearn"),
        (StackError("small ended. The end of s.log:\n  File …\nKeyError: 'x'"), 1, "The end of s.log: KeyError: 'x'"),
        (_operational("connection refused"), 1, "Postgres cannot be reached"),
        (_operational("terminating", "57P01"), 1, "Postgres cannot be reached"),
        (_operational('role "pointsman_app" does not exist'), 1, "schema is missing or older"),
        (ProgrammingError("SELECT", {"body": SECRET}, _Refused(SECRET, "42P01")), 1, "schema is missing or older"),
        (ProgrammingError("SELECT", {"body": SECRET}, _Refused(SECRET, "42501")), 1, "lacks the permission"),
        (ProgrammingError("SET", {}, _Refused("permission denied to set role", "42501")), 1, "rejected the login"),
        (NotOurTables("postgres"), 1, "belong to postgres"),
        (NotOurSchema(), 1, "another development version"),
        (NotOurRole("pointsman_app", "clerk"), 1, "clerk is not a member"),
        (_operational(SECRET, "28P01"), 1, "rejected the login or the role"),
        (ProgrammingError("SELECT", {"body": SECRET}, _Refused(SECRET, "22P02")), 1, "SQLSTATE 22P02"),
        (KeyboardInterrupt(), 130, "Interrupted"),
        (FileNotFoundError(2, "No such file or directory", "a.jsonl"), 2, "a.jsonl: No such file"),
        (PermissionError(13, "Permission denied", "a.jsonl"), 2, "a.jsonl: Permission denied"),
        (OSError(28, "No space left on device", "out.jsonl"), 1, "No space left"),
        (ValueError(SECRET), 1, "ValueError"),
    ],
)
def test_each_failure_has_a_line_and_an_exit_code_and_never_a_prompt(
    error: BaseException, code: int, message: str
) -> None:
    report = describe_error(error)
    assert report.code == code
    assert message in report.lines[0]
    assert SECRET not in str(report.as_json())


def test_bad_input_names_each_line_up_to_twenty() -> None:
    many = [RejectedLine(number, "query", "empty", "Say it", raw=SECRET.encode()) for number in range(1, 31)]
    report = describe_error(InvalidInput(many, 100))
    assert report.code == ExitCode.USAGE
    assert report.lines[0] == "line 1: query: empty. Say it."
    assert report.lines[-1] == "… and 10 more."
    assert "--skip-invalid" in str(report.hint)
    as_json = report.as_json()["error"]
    assert len(as_json["rejections"]) == 30
    assert SECRET not in str(as_json) + repr(report)


def test_the_hint_for_an_unreadable_input_does_not_suggest_to_skip_lines() -> None:
    report = describe_error(InvalidInput([RejectedLine(0, "file", "empty", "Give a query")]))
    assert report.hint == "Nothing was submitted."


def test_what_users_wrote_cannot_steer_the_terminal() -> None:
    report = describe_error(InvalidInput([RejectedLine(1, "a\x1b[2J\nb", "odd", "Change it")]))
    assert "\x1b" not in report.lines[0]
    assert "\n" not in report.lines[0]


@pytest.mark.parametrize(
    ("error", "message"), [(KeyboardInterrupt(), "pointsman: Interrupted.\n"), (typer.Exit(130), "")]
)
def test_ctrl_c_is_reported_once(
    error: BaseException, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = typer.Typer()

    @app.command()
    def wait() -> None:
        raise error

    monkeypatch.setattr("cli.main.app", app)
    monkeypatch.setattr("sys.argv", ["pointsman"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == message


def _interrupted(
    public_id: str | None, *, fleet_path: Path | None, fleet: Fleet, output: Path | None = None, input_name: str = ""
) -> CommandError:
    spec = BatchOptionGroup().spec("q.txt")
    flag = fleet_flag(fleet_path)
    submission = Submission(Settings.load({}), fleet, spec, False, flag, ResultOutput(output), input_name, public_id)
    return submission.interrupted()


def test_an_interrupted_wait_shows_the_command_that_continues_it(shipped_fleet: Fleet) -> None:
    assert _interrupted("batch_1", fleet_path=None, fleet=shipped_fleet).hint == (
        "Continue with `pointsman run --batch batch_1` or `pointsman up`; see `pointsman status`."
    )
    hint = _interrupted("batch_1", fleet_path=Path("my fleet.toml"), fleet=shipped_fleet).hint
    assert "`pointsman run --batch batch_1 --fleet 'my fleet.toml'`" in str(hint)
    table = _interrupted(
        "batch_1", fleet_path=None, fleet=shipped_fleet, input_name=" t.csv", output=Path("out.parquet")
    )
    assert "`pointsman run t.csv --batch batch_1 -o out.parquet`" in str(table.hint)
    assert "nothing was submitted" in _interrupted(None, fleet_path=None, fleet=shipped_fleet).message


def test_the_doctor_does_not_refer_to_the_doctor() -> None:
    result = _fault("postgres", _operational("connection refused"))
    assert result.fix == "Check DATABASE_URL and whether Postgres is up."
    assert _fault("services", ServicesError("They do not start.")).fix is None
