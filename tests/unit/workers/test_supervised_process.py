"""A supervised child: waited for, started again, given up, never left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from settings import ROOT
from workers.child_process import spawn, stop, tail
from workers.process_setup import READY_FILE, STALE_S
from workers.supervised_process import SupervisedProcess, SupervisedProcessError, stop_parts


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[list[SupervisedProcess]]:
    made: list[SupervisedProcess] = []
    yield made
    stop_parts(made, grace_s=0)


def part(code: str, tmp_path: Path, parts: list[SupervisedProcess]) -> SupervisedProcess:
    ready = tmp_path / "ready"
    made = SupervisedProcess("child", ["-c", code, str(ready)], dict(os.environ), tmp_path / "child.log", ready.exists)
    parts.append(made)
    return made


READY_AND_WAIT = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"


def soon() -> float:
    return time.monotonic() + 240


def test_a_child_is_waited_for_until_it_is_ready(tmp_path: Path, parts: list[SupervisedProcess]) -> None:
    child = part(READY_AND_WAIT, tmp_path, parts)
    child.start()
    child.await_ready(soon())
    assert child.process is not None
    assert child.process.poll() is None
    assert child.check(time.monotonic()) is None


PROGRESS_THEN_HANG = """
import asyncio, sys, time
from workers.process_setup import announce_ready, keep_progress

async def run():
    announce_ready()
    progress = asyncio.create_task(keep_progress())
    await asyncio.sleep(float(sys.argv[2]))
    time.sleep(600)

asyncio.run(run())
"""


def test_a_child_whose_event_loop_hangs_is_killed_and_restarted(
    tmp_path: Path, parts: list[SupervisedProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = tmp_path / "ready"
    environ = os.environ | {READY_FILE: str(ready)}
    child = SupervisedProcess(
        "child", ["-c", PROGRESS_THEN_HANG, "", "0"], environ, tmp_path / "child.log", ready.exists, ready
    )
    parts.append(child)
    child.start()
    child.await_ready(soon())
    began = time.monotonic()
    assert [child.check(began + s) for s in range(0, int(STALE_S), 5)] == [None] * 12
    assert child.process is not None
    hung = child.process.pid
    assert child.check(began + STALE_S + 1) == "child made no progress for 60 s and was killed"
    child.process.wait(30)
    assert "it restarts" in str(child.check(began + STALE_S + 2))
    assert child.check(began + STALE_S + 9) == "child restarted"
    assert child.process.pid != hung


WORKER = READY_AND_WAIT.replace(".touch()", ".write_text('17')")


def test_a_worker_that_ends_by_itself_or_is_killed_is_reported(tmp_path: Path, parts: list[SupervisedProcess]) -> None:
    """By the id that it announced itself: a process id may be another process's by now."""
    died: list[int] = []
    child = part(WORKER, tmp_path, parts)
    child.progress, child.on_death = tmp_path / "ready", died.append
    child.start()
    child.await_ready(soon())
    while child.progress.read_text() != "17":
        time.sleep(0.01)
    assert child.process is not None
    child.process.kill()
    child.process.wait(30)
    assert "it restarts" in str(child.check(time.monotonic()))
    assert died == [17]
    assert child.check(time.monotonic()) == "child restarted"
    child.await_ready(soon())
    stop_parts([child], grace_s=60)
    assert died == [17]


def test_a_child_that_makes_progress_is_left_alone(tmp_path: Path, parts: list[SupervisedProcess]) -> None:
    ready = tmp_path / "ready"
    child = part(READY_AND_WAIT, tmp_path, parts)
    child.progress = ready
    child.start()
    child.await_ready(soon())
    now = time.monotonic()
    for turn in range(5):
        os.utime(ready, (turn, turn + 1))  # also backward: clocks jump
        assert child.check(now + turn * (STALE_S - 1)) is None


def test_a_child_that_was_stopped_together_with_its_supervisor_is_left_alone(
    tmp_path: Path, parts: list[SupervisedProcess]
) -> None:
    ready = tmp_path / "ready"
    child = part(READY_AND_WAIT, tmp_path, parts)
    child.progress = ready
    child.start()
    child.await_ready(soon())
    now = time.monotonic()
    assert child.check(now) is None
    assert child.check(now + 10 * STALE_S) is None
    hung = [child.check(now + 10 * STALE_S + s) for s in range(5, int(STALE_S) + 6, 5)]
    assert hung == [*[None] * 12, "child made no progress for 60 s and was killed"]


@pytest.mark.parametrize(("age_s", "code"), [(1, 0), (STALE_S + 5, 1)])
def test_the_liveness_command_tells_progress(tmp_path: Path, age_s: float, code: int) -> None:
    ready = tmp_path / "ready"
    ready.touch()
    os.utime(ready, (time.time() - age_s,) * 2)
    command = [sys.executable, "-m", "workers.liveness"]
    done = subprocess.run(command, env=os.environ | {READY_FILE: str(ready)}, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == code
    assert "last made progress" in done.stdout
    ready.unlink()
    assert subprocess.run(command, env=os.environ | {READY_FILE: str(ready)}, cwd=ROOT, capture_output=True).returncode


def test_a_child_that_ends_while_it_starts_says_what_its_log_says(
    tmp_path: Path, parts: list[SupervisedProcess]
) -> None:
    child = part("raise SystemExit('no such stage')", tmp_path, parts)
    child.start()
    with pytest.raises(SupervisedProcessError, match="child ended during its start") as caught:
        child.await_ready(soon())
    assert "no such stage" in str(caught.value)


def test_a_child_that_never_gets_ready_is_given_up(tmp_path: Path, parts: list[SupervisedProcess]) -> None:
    child = part("import time; time.sleep(600)", tmp_path, parts)
    child.start()
    with pytest.raises(SupervisedProcessError, match="not ready in time"):
        child.await_ready(time.monotonic())


def test_a_killed_child_is_started_again(tmp_path: Path, parts: list[SupervisedProcess]) -> None:
    child = part(READY_AND_WAIT, tmp_path, parts)
    child.start()
    child.await_ready(soon())
    assert child.process is not None
    first = child.process.pid
    os.kill(first, signal.SIGKILL)
    child.process.wait()
    said = [child.check(time.monotonic()), child.check(time.monotonic()), child.check(time.monotonic())]
    assert said == ["child has ended (exit code -9); it restarts in 0 s", "child restarted", None]
    assert child.process.pid != first


def test_a_child_that_keeps_crashing_waits_longer_each_time_and_is_given_up(
    tmp_path: Path, parts: list[SupervisedProcess]
) -> None:
    child = part("raise SystemExit('broken for good')", tmp_path, parts)
    child.start()
    waits: list[float] = []
    with pytest.raises(SupervisedProcessError, match=r"has ended 8 times in a row(.|\n)*broken for good"):
        crash_on(child, waits)
    assert waits == [0, 0.5, 1, 2, 5, 10, 10]


def crash_on(child: SupervisedProcess, waits: list[float]) -> None:
    """Check a child that ends at once, on a clock of our own, until it is given up."""
    now = time.monotonic()
    for _ in range(100):
        assert child.process is not None
        child.process.wait()
        said = child.check(now)
        if said and "restarts in" in said:
            waits.append(float(said.split()[-2]))
            now += waits[-1]


def test_a_child_that_lived_long_is_not_counted_as_crashing(tmp_path: Path, parts: list[SupervisedProcess]) -> None:
    child = part("", tmp_path, parts)
    child.start()
    now = time.monotonic()
    for _ in range(20):
        assert child.process is not None
        child.process.wait()
        now += 60
        assert child.check(now) == "child has ended (exit code 0); it restarts in 0 s"
        assert child.check(now) == "child restarted"
        now = time.monotonic()


def test_children_are_asked_to_stop_and_killed_where_they_do_not(
    tmp_path: Path, parts: list[SupervisedProcess]
) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + READY_AND_WAIT
    child = part(deaf, tmp_path, parts)
    child.start()
    child.await_ready(soon())
    assert stop_parts(parts, grace_s=0.2) == ["child"]
    assert child.process is not None
    assert child.process.returncode == -signal.SIGKILL
    assert stop_parts(parts, grace_s=0.2) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
def test_a_child_does_not_outlive_the_kill_of_its_parent(tmp_path: Path) -> None:
    parent_code = (
        "import os, sys, time; from pathlib import Path; from workers.child_process import spawn\n"
        "child = spawn([sys.executable, '-c', 'import time; time.sleep(600)'],"
        " log=Path(sys.argv[1], 'child'), environ=dict(os.environ), cwd=Path(sys.argv[1]))\n"
        "draft = Path(sys.argv[1], 'draft'); draft.write_text(str(child.pid)); draft.rename(sys.argv[1] + '/pid')\n"
        "time.sleep(600)"
    )
    parent = spawn(
        [sys.executable, "-c", parent_code, str(tmp_path)],
        log=tmp_path / "parent",
        environ=dict(os.environ),
        cwd=Path(__file__).resolve().parents[3],
    )
    while not (tmp_path / "pid").exists():
        assert parent.poll() is None, tail(tmp_path / "parent")
        time.sleep(0.02)
    child = psutil.Process(int((tmp_path / "pid").read_text()))
    parent.kill()
    parent.wait()
    child.wait(timeout=240)


def test_a_child_gets_the_environment_that_is_given_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", "canary")
    child = spawn(
        [sys.executable, "-c", "import os; print(sorted(os.environ))"],
        log=tmp_path / "log",
        environ={"ONE": "1"},
        cwd=tmp_path,
    )
    assert child.wait(240) == 0
    assert "SOME_API_KEY" not in tail(tmp_path / "log")
    assert "'ONE'" in tail(tmp_path / "log")
    assert (tmp_path / "log").stat().st_mode & 0o077 == 0
    assert stop(child)
