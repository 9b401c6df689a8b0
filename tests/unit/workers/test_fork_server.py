"""Processes as forks of one that has loaded their modules."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from settings import ROOT
from workers.child_process import tail
from workers.fork_server import IS_SUPPORTED, ForkedProcess, ForkServer, ForkServerError

pytestmark = pytest.mark.skipif(not IS_SUPPORTED, reason="a fork without an exec is safe on Linux only")

MODULE = """
import os, sys, time
print(sys.argv[1:], sorted(os.environ), os.getsid(0) == os.getpid(), sys.stdin.read() == "", flush=True)
time.sleep(float(sys.argv[1]))
sys.exit(3)
"""

FULL = """
import errno, os
forks, calls = os.fork, []
def fork():
    calls.append(None)
    if len(calls) == 2:
        raise BlockingIOError(errno.EAGAIN, "no more processes")
    return forks()
os.fork = fork
"""
"""Lets every fork but the second succeed."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkServer]:
    (tmp_path / "forked.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    monkeypatch.setenv("SOME_API_KEY", "canary")
    made = ForkServer(["json"], log=tmp_path / "server.log")
    yield made
    made.close()


def test_a_fork_has_the_arguments_the_environment_and_the_log_that_are_given(
    server: ForkServer, tmp_path: Path
) -> None:
    process = server.start(["-m", "forked", "0"], name="one", log=tmp_path / "log", environ={"ONE": "é"})
    assert process.wait(240) == process.poll() == 3
    assert tail(tmp_path / "log") == "['0'] ['ONE'] True True"
    assert (tmp_path / "log").stat().st_mode & 0o077 == 0
    process.kill()  # no other process that has its number since


def test_forks_are_seen_to_run_and_to_end_each_by_itself(server: ForkServer, tmp_path: Path) -> None:
    first, second = (
        server.start(["-m", "forked", "600"], name=name, log=tmp_path / name, environ={}) for name in ("1st", "2nd")
    )
    while psutil.Process(first.pid).name() != "1st":
        assert first.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(0.01)
    first.terminate()
    assert first.wait(240) == -signal.SIGTERM
    assert second.poll() is None
    second.kill()
    assert second.wait(240) == -signal.SIGKILL


def test_a_killed_server_takes_its_forks_along_and_is_started_again(server: ForkServer, tmp_path: Path) -> None:
    first = server.start(["-m", "forked", "600"], name="one", log=tmp_path / "log", environ={})
    gone = psutil.Process(first.pid)
    gone.parent().kill()
    assert first.wait(240) == -signal.SIGKILL
    gone.wait(240)
    assert server.start(["-m", "forked", "0"], name="one", log=tmp_path / "log", environ={}).wait(240) == 3


def test_a_fork_that_fails_leaves_the_others_running_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "forked.py").write_text(MODULE)
    (tmp_path / "full.py").write_text(FULL)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    server = ForkServer(["full"], log=tmp_path / "server.log")
    try:
        first = server.start(["-m", "forked", "600"], name="one", log=tmp_path / "log", environ={})
        with pytest.raises(ForkServerError, match="Resource temporarily unavailable"):
            server.start(["-m", "forked", "0"], name="two", log=tmp_path / "log", environ={})
        assert first.poll() is None
        assert server.start(["-m", "forked", "0"], name="two", log=tmp_path / "log", environ={}).wait(240) == 3
        first.kill()
        first.wait(240)
    finally:
        server.close()


def test_a_signal_to_all_processes_of_a_stack_leaves_forks_to_their_supervisor(
    server: ForkServer, tmp_path: Path
) -> None:
    first = server.start(["-m", "forked", "600"], name="one", log=tmp_path / "log", environ={})
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        psutil.Process(first.pid).parent().send_signal(number)
    second = server.start(["-m", "forked", "600"], name="two", log=tmp_path / "log", environ={})
    assert first.poll() is None
    for process in (second, first):
        process.terminate()
        assert process.wait(240) == -signal.SIGTERM


def test_a_process_that_ended_a_moment_ago_may_be_stopped() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    status, server = socket.socketpair()
    with status, server:
        ForkedProcess(gone.pid, status).terminate()


def test_a_module_that_cannot_be_imported_is_reported(server: ForkServer, tmp_path: Path) -> None:
    broken = ForkServer(["no_such_module"], log=tmp_path / "broken.log")
    with pytest.raises(ForkServerError, match="No module named 'no_such_module'"):
        broken.start(["-m", "forked", "0"], name="one", log=tmp_path / "log", environ={})
    broken.close()


def test_forks_do_not_outlive_the_kill_of_the_process_that_has_the_server(server: ForkServer, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from workers.fork_server import ForkServer\n"
        "place = Path(sys.argv[1])\n"
        "server = ForkServer([], log=place / 'server.log')\n"
        "print(server.start(['-m', 'forked', '600'], name='', log=place / 'log', environ={}).pid, flush=True)\n"
        "time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    child.wait(240)
