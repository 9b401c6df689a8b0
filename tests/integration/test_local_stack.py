"""Everything on one machine under one supervisor: it starts, heals, stops, and leaves nothing behind."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from routing.fleet import Fleet
from settings import ROOT, Settings
from tests.command_line import in_process
from workers.child_process import spawn, stop
from workers.embedded.services import services_up
from workers.local_stack import LocalStack, StackError, StackRunning, default_roles, stack_down, stack_pid

FEEDER = [("feeder",)]


def until(come_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not come_true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def fetch(url: str, *, method: str = "GET") -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=20) as reply:
        return json.load(reply)


def test_there_is_one_process_for_what_is_quick_one_per_tier_and_one_feeder(shipped_fleet: Fleet) -> None:
    assert default_roles(shipped_fleet) == [
        ("route", "fallback", "ingest"),
        ("small",),
        ("medium",),
        ("large",),
        ("special",),
        ("embeddings",),
        ("feeder",),
    ]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, shipped_fleet: Fleet) -> Iterator[LocalStack]:
    """A stack of one worker, the feeder and Flower, on services of its own."""
    home = tmp_path_factory.mktemp("stack") / "home"
    settings = Settings.load({"POINTSMAN_HOME": str(home)})
    with LocalStack(settings, shipped_fleet, roles=[("small",), *FEEDER], flower=True) as running:
        yield running
        pids = list(running.processes.values())
    assert [pid for pid in pids if alive(pid)] == []
    assert [process for process in psutil.process_iter() if str(home) in " ".join(command_of(process))] == []


def command_of(process: psutil.Process) -> list[str]:
    try:
        return [] if process.status() == psutil.STATUS_ZOMBIE else process.cmdline()
    except psutil.Error:
        return []


def test_inside_everything_runs_and_has_its_address(stack: LocalStack) -> None:
    assert set(stack.processes) == {"simulator", "small", "feeder", "flower"}
    assert stack.fleet.providers["openai"].base_url == f"{stack.urls['simulator']}/openai/v1"
    assert fetch(f"{stack.urls['simulator']}/stats")
    assert all(url.startswith("http://127.0.0.1:") for url in stack.urls.values())


def test_other_commands_find_the_stack(stack: LocalStack) -> None:
    found = Settings.load({"POINTSMAN_HOME": str(stack.settings.home)})
    assert found.simulator_url == stack.urls["simulator"]
    assert found.database_url == stack.settings.database_url
    assert stack_pid(found) == os.getpid()


@pytest.mark.parametrize("command", ["submit", "run"])
def test_queries_of_another_fleet_are_not_given_to_workers_that_run(stack: LocalStack, command: str) -> None:
    """Simulated answers would count as a real fleet's; the other way about, real money as simulated."""
    real = ROOT / "examples" / "fleets" / "openai-anthropic-google.toml"
    environ = {"POINTSMAN_HOME": str(stack.settings.home)}
    ended = in_process(command, ROOT / "examples" / "queries.jsonl", "--fleet", real, environ=environ)
    said = " ".join(ended.stderr.decode().split())
    assert ended.returncode == 2, said
    assert f"The workers of process {os.getpid()} serve the fleet" in said
    assert "(simulated)" in said
    assert "pointsman down" in said


@pytest.mark.parametrize("command", [("submit", str(ROOT / "examples" / "queries.jsonl")), ("doctor", "--no-start")])
def test_an_edited_fleet_of_the_same_name_is_not_served_by_workers_that_run(
    stack: LocalStack, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Its prices, models and judge are other ones; the workers have the file as it was when they started."""
    edited = tmp_path / "edited.toml"
    edited.write_text(stack.settings.fleet_path.read_text().replace("[budgets]\n", "[budgets]\nbatch_usd = 1\n"))
    ended = in_process(*command, "--fleet", edited, environ={"POINTSMAN_HOME": str(stack.settings.home)})
    said = " ".join((ended.stdout + ended.stderr).decode().split())
    assert f"process {os.getpid()} serve" in said
    assert f", which {stack.settings.fleet_path.absolute()} defined when the workers started" in said
    assert "Stop them with `pointsman down`" in said
    assert (ended.returncode == 2) is (command[0] == "submit"), said


def test_a_second_stack_on_the_same_home_is_refused(stack: LocalStack, shipped_fleet: Fleet) -> None:
    settings = Settings.load({"POINTSMAN_HOME": str(stack.settings.home)})
    with pytest.raises(StackRunning, match="pointsman down") as caught, LocalStack(settings, shipped_fleet):
        pytest.fail("it started")
    assert caught.value.pid == os.getpid()


@pytest.mark.parametrize("name", ["simulator", "small"])
def test_a_killed_child_is_back_at_its_place(name: str, stack: LocalStack) -> None:
    before = stack.processes[name]
    os.kill(before, signal.SIGKILL)

    def back() -> bool:
        stack.check()
        return stack.processes[name] != before

    until(back)
    until(lambda: bool(answers(f"{stack.urls['simulator']}/stats")))


def test_a_killed_workers_queries_do_not_wait_for_its_lease(tmp_path: Path, shipped_fleet: Fleet) -> None:
    """Three minutes, by default, and Postgres is younger than that: one such query held a whole pilot."""
    home = tmp_path / "home"
    file = tmp_path / "queries.jsonl"
    file.write_text('{"query": "Say yes", "tier": "small"}\n' * 3)
    settings = Settings.load({"POINTSMAN_HOME": str(home)})
    with (
        LocalStack(settings, shipped_fleet, roles=[("route", "fallback", "small"), *FEEDER]) as stack,
        psycopg.connect(stack.settings.psql_url, autocommit=True) as database,
    ):

        def count(condition: str) -> int:
            return int(database.execute(f"SELECT count(*) FROM {condition}").fetchall()[0][0])  # type: ignore[call-overload]

        os.kill(stack.processes["simulator"], signal.SIGSTOP)  # so that the calls are under way
        submitted = in_process("submit", file, environ={"POINTSMAN_HOME": str(home)})
        assert submitted.returncode == 0, submitted.stderr
        until(lambda: count("calls") == 3)
        os.kill(stack.processes["route-fallback-small"], signal.SIGKILL)
        os.kill(stack.processes["simulator"], signal.SIGCONT)
        killed_at = time.monotonic()

        def is_answered() -> bool:
            stack.check()
            return count("queries WHERE state = 'done'") == 3

        until(is_answered)
        assert time.monotonic() - killed_at < shipped_fleet.timing.lease_s / 2
        assert count("decisions WHERE kind = 'rescue' AND codes = '{worker_ended}'") == 3
        assert count("workers WHERE died_at IS NOT NULL AND stopped_at IS NOT NULL") == 1


def answers(url: str) -> Any:
    try:
        return fetch(url)
    except OSError:  # refused, or cut while it starts
        return None


def test_flower_shows_the_workers_and_can_change_nothing(stack: LocalStack) -> None:
    until(lambda: any(name.startswith("small@") for name in fetch(f"{stack.urls['flower']}/api/workers?refresh=1")))
    (worker,) = [name for name in fetch(f"{stack.urls['flower']}/api/workers") if name.startswith("small@")]
    before = stack.processes["small"]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        fetch(f"{stack.urls['flower']}/api/worker/shutdown/{worker}", method="POST")
    stack.check()
    assert stack.processes["small"] == before


def test_flower_does_not_open_itself_to_others_without_a_password(settings: Settings) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("FLOWER_")}
    ended = subprocess.run(
        [sys.executable, "-m", "workers.flower", "--address", "0.0.0.0"],
        env={**environ, **settings.child_environ()},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (ended.returncode, ended.stderr) == (
        2,
        "flower: a password is required on this address. fix: set FLOWER_BASIC_AUTH=user:password\n",
    )


def test_flower_tells_only_its_health_without_the_password(settings: Settings, tmp_path: Path) -> None:
    """Its metrics name workers and tasks, and were open to anyone who reached the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        port = free.getsockname()[1]
    environ = {**os.environ, **settings.child_environ(), "FLOWER_BASIC_AUTH": "me:secret"}
    arguments = ["-m", "workers.flower", "--address", "127.0.0.2", "--port", str(port)]
    process = spawn([sys.executable, *arguments], log=tmp_path / "flower.log", environ=environ, cwd=ROOT)

    def status(page: str, password: str | None = None) -> int:
        request = urllib.request.Request(f"http://127.0.0.2:{port}{page}")
        if password is not None:
            request.add_header("Authorization", f"Basic {base64.b64encode(f'me:{password}'.encode()).decode()}")
        try:
            with urllib.request.urlopen(request, timeout=20) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0  # it starts

    try:
        until(lambda: status("/healthcheck") == 200)
        pages = ("/metrics", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks")
        assert {page: status(page) for page in pages} == dict.fromkeys(pages, 401)
        assert status("/metrics", "guessed") == 401
        assert status("/metrics", "secret") == 200
    finally:
        stop(process)


def test_a_worker_that_does_not_start_ends_the_stack_with_the_reason(settings: Settings, shipped_fleet: Fleet) -> None:
    with (
        pytest.raises(StackError, match="no stage 'smal'"),
        LocalStack(settings, shipped_fleet, roles=[("smal",)]),
    ):
        pytest.fail("it started")
    assert stack_pid(settings) is None


def test_a_stack_serves_until_the_commands_that_share_its_services_are_done(
    tmp_path: Path, shipped_fleet: Fleet
) -> None:
    settings = Settings.load({"POINTSMAN_HOME": str(tmp_path / "home")})
    messages: list[str] = []
    served: list[bool] = []
    with LocalStack(settings, shipped_fleet, roles=FEEDER, tell=messages.append) as stack:
        feeder = stack.processes["feeder"]
        user = services_up(settings)
        assert not user.is_owner

        def leave() -> None:
            until(lambda: messages[-1].startswith("another command uses these workers"))
            served.append(alive(feeder))
            user.close()

        leaving = threading.Thread(target=leave)
        leaving.start()
    leaving.join()
    assert served == [True]
    assert not alive(feeder)


RUN = """
import sys, time
from settings import Settings
from workers.local_stack import LocalStack
settings = Settings.load()
with LocalStack(settings, settings.fleet(), roles=[("feeder",)]) as stack:
    print(*stack.processes.values(), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def started(settings: Settings) -> Iterator[tuple["subprocess.Popen[str]", list[int]]]:
    """A process that runs a stack, and its children."""
    environ = {**os.environ, **settings.child_environ()}
    process = subprocess.Popen([sys.executable, "-c", RUN], env=environ, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == 2
    yield process, pids
    process.kill()
    process.communicate()


def test_down_stops_a_stack_in_order(started: tuple["subprocess.Popen[str]", list[int]], settings: Settings) -> None:
    process, pids = started
    assert stack_down(settings)
    assert process.wait(120) == 128 + signal.SIGTERM
    assert [pid for pid in pids if alive(pid)] == []
    assert not (Path(settings.home) / "stack.json").exists()
    assert not stack_down(settings)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
def test_a_killed_stack_leaves_nothing_behind(started: tuple["subprocess.Popen[str]", list[int]]) -> None:
    process, pids = started
    process.kill()
    until(lambda: not any(alive(pid) for pid in pids))


def test_a_broker_that_is_away_is_reported_before_workers_wait_for_it(
    settings: Settings, shipped_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.local_stack._BROKER_S", 0.1)
    settings = replace(settings, broker="redis://:secret@127.0.0.1:1/0", embeds_redis=False)
    words: list[str] = []
    with (
        pytest.raises(StackError, match=r"redis://:\*\*\*@127\.0\.0\.1:1/0 cannot be reached"),
        LocalStack(settings, shipped_fleet, roles=[("feeder",)], tell=words.append),
    ):
        pytest.fail("it started")
    assert words[-1].startswith("the broker at redis://:***@127.0.0.1:1/0 cannot be reached; waiting for it")
    assert "starting 1 workers" not in words
