"""A neighbor on the machine: links where files will be written, files that can be read, directories that open."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.table import Table

from cli.console import err, notice, out, table, warn
from cli.output_files import open_atomically
from cli.query_source import RejectedFile
from settings import ROOT
from submission.input_line import RejectedLine
from workers.child_process import OsUser
from workers.data_dir import DataDirError, make_data_dir
from workers.embedded.postgres import PostgresError, _check_passable, _open_in, _write_tuning
from workers.file_lock import FileLock
from workers.port_allocator import PortAllocator


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that must stay as it is."""
    path = tmp_path / "victim"
    path.write_text("the victim's")
    return path


def test_no_link_is_followed_where_results_are_written(tmp_path: Path, victim: Path) -> None:
    output = tmp_path / "out.jsonl"
    for name in ("out.jsonl", "out.jsonl.new", f".out.jsonl.{os.getpid()}.new", ".out.jsonl.new"):
        (tmp_path / name).symlink_to(victim)
    with open_atomically(output) as file:
        file.write(b"an answer")
    assert victim.read_text() == "the victim's"
    assert (output.is_symlink(), output.read_bytes()) == (False, b"an answer")


@pytest.mark.parametrize("show", [warn, notice, out.print, err.print, lambda text: err.print(of_cell(text), end="")])
def test_no_escape_sequence_of_a_text_reaches_a_terminal(
    capsys: pytest.CaptureFixture[str], show: Callable[[str], None]
) -> None:
    """Names of routers and models, workloads and errors of others are shown in messages, too."""
    show("a router\x1b]0;owned\x07\x9b2J\nof two lines")
    shown = "".join(capsys.readouterr())
    assert "a router" in shown
    assert shown.replace("\n", "").isprintable()


def of_cell(text: str) -> Table:
    grid = table(())
    grid.add_row(text)
    return grid


def test_results_and_rejected_lines_are_their_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0o000)
    try:
        with open_atomically(tmp_path / "out.jsonl") as file:
            file.write(b"an answer")
        rejected = tmp_path / "q.rejected.jsonl"
        line = RejectedLine(line_no=1, custom_id="a", field="", message="", fix="", raw=b"a prompt")
        with RejectedFile(rejected) as target:
            assert len(list(target.passing([line]))) == 1
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_the_link_of_a_neighbor_is_not_opened_as_a_lock(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "port.lock").symlink_to(tmp_path / "made")
    with pytest.raises(OSError, match="symbolic link"):
        FileLock(tmp_path / "port.lock")
    assert not (tmp_path / "made").exists()


def test_no_link_of_the_databases_user_is_followed(tmp_path: Path, victim: Path) -> None:
    """It could have root write to any file, and become its owner."""
    (tmp_path / "pointsman.conf").symlink_to(victim)
    _write_tuning(tmp_path)
    assert victim.read_text() == "the victim's"
    assert not (tmp_path / "pointsman.conf").is_symlink()
    for name, flags in ((".database", os.O_CREAT), ("postgresql.conf", os.O_APPEND)):
        (tmp_path / name).symlink_to(tmp_path / "made")
        with pytest.raises(OSError, match="symbolic link"):
            _open_in(tmp_path / name, flags)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("mode", [0o700, 0o777])
def test_the_locks_of_ports_are_in_no_directory_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setenv("TMPDIR", str(shared))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run" / "pointsman").mkdir(parents=True)
    (tmp_path / "run" / "pointsman").chmod(mode)
    with PortAllocator() as ports:
        port = ports.any()
    with PortAllocator() as ports:
        assert (ports.claim(port) == port) == (mode == 0o700)  # any other port where others may write
    assert list(shared.iterdir()) == []
    assert bool(list((tmp_path / "run" / "pointsman").iterdir())) == (mode == 0o700)


def test_a_directory_above_the_data_that_is_closed_stays_closed_and_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "home").mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(PostgresError, match=rf"cannot pass through {closed} .*POINTSMAN_HOME.*chmod o\+x {closed}"):
        _check_passable(closed / "home", OsUser("nobody", 65534, 65534))
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may use what belongs to another user")
@pytest.mark.parametrize("planted", [".", "run", "logs", "a link"])
def test_no_data_directory_that_a_neighbor_made_is_used(tmp_path: Path, planted: str) -> None:
    """Its owner could put other sockets in the place of Postgres's and Redis's, and read every prompt."""
    home = tmp_path / "home"
    if planted == "a link":
        (tmp_path / "roots").mkdir(mode=0o700)
        home.symlink_to(tmp_path / "roots")
    else:
        (home / planted).mkdir(parents=True)
    os.lchown(home / planted if planted != "a link" else home, 65534, 65534)
    with pytest.raises(DataDirError, match="another user"):
        make_data_dir(home)
    if planted == "a link":
        assert list((tmp_path / "roots").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs Postgres as another user")
def test_as_root_a_command_says_so_and_opens_nothing(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    ran = subprocess.run(
        [sys.executable, "-m", "cli.main", "batches"],
        cwd=ROOT,
        env={"POINTSMAN_HOME": str(closed / "home"), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode != 0
    assert "Traceback" not in ran.stderr
    assert "chmod o+x" in " ".join(ran.stderr.split())
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
