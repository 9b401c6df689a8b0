"""How long a start of the embedded Postgres may take."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from settings import Settings
from workers.data_dir import make_data_dir
from workers.embedded import postgres, services
from workers.embedded.postgres import Postgres, PostgresError, _await_ready
from workers.embedded.services import ServicesError, services_up
from workers.file_lock import FileLock

PATIENCE_S = 0.1


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Postgres]:
    """A running process whose status file the test writes."""
    monkeypatch.setattr(postgres, "_START_S", PATIENCE_S)
    data = tmp_path / "postgres"
    data.mkdir()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield Postgres("", process, data)
    process.kill()
    process.communicate()


def write_status(data: Path, status: str, *, pid: int) -> None:
    """As Postgres writes it: its pid first, padded status last."""
    draft = data / "draft"
    draft.write_text("\n".join([str(pid), *["-"] * 6, f"{status:<8}"]) + "\n")
    draft.rename(data / "postmaster.pid")  # Postgres too leaves no moment in which the file is empty


def test_a_server_that_replays_its_log_is_waited_for_however_long_it_takes(server: Postgres, tmp_path: Path) -> None:
    write_status(server.data, "starting", pid=server.process.pid)
    ready = threading.Timer(5 * PATIENCE_S, write_status, (server.data, "ready"), {"pid": server.process.pid})
    ready.start()
    _await_ready(server, tmp_path / "log")
    ready.join()


def test_a_server_without_a_status_file_of_its_own_is_not_waited_for_beyond_the_limit(
    server: Postgres, tmp_path: Path
) -> None:
    write_status(server.data, "starting", pid=server.process.pid + 1)
    with pytest.raises(PostgresError, match="not ready within"):
        _await_ready(server, tmp_path / "log")


def test_a_server_that_ends_while_it_replays_is_reported_at_once(server: Postgres, tmp_path: Path) -> None:
    write_status(server.data, "starting", pid=server.process.pid)
    server.process.kill()
    with pytest.raises(PostgresError, match="ended during its start"):
        _await_ready(server, tmp_path / "log")


def test_a_command_that_waited_too_long_for_another_ones_server_says_that_it_continues(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_status(server.data, "starting", pid=server.process.pid)
    monkeypatch.setattr(services, "_START_S", PATIENCE_S)
    with FileLock(make_data_dir(tmp_path) / services.SERVICES_LOCK) as owner:
        assert owner.take()
        owner.write(str(server.process.pid))
        with pytest.raises(ServicesError, match="Try again in a minute"):
            services_up(Settings.load({"POINTSMAN_HOME": str(tmp_path)}))
