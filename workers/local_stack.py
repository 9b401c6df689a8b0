"""Everything on this machine: services, simulator, workers, feeder and Flower, under one supervisor."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final

from fleet_config import SIMULATOR
from providers.transport.reachable import accepts_connections
from routing.fleet import Fleet
from routing.lifecycle import FALLBACK, INGEST, ROUTE
from settings import STACK_FILE, Settings, without_password
from workers.data_dir import make_data_dir
from workers.embedded.services import SERVICES_LOCK, Services, services_up
from workers.file_lock import FileLock, holder_note
from workers.fork_server import IS_SUPPORTED, ForkServer
from workers.port_allocator import NoFreePort, PortAllocator
from workers.process_setup import READY_FILE
from workers.simulated_prices import simulated_prices
from workers.supervised_process import SupervisedProcess, SupervisedProcessError, stop_parts

FEEDER: Final = "feeder"
STACK_LOCK: Final = "run/stack.lock"
SIMULATOR_CALLS: Final = "simulator-calls.jsonl"
"""The file in ``logs/`` with every call that the simulator has received since the stack started."""
_START_S: Final = 90.0
_STOP_S: Final = 20.0
_BROKER_S: Final = 15.0
_CONNECT_S: Final = 5.0
_BATCH_CLOCK: Final = 600
"""Seconds of the simulated batch APIs per real second: seven minutes take 0.7 s, a day 2.4 minutes."""
_FLOWER_PORT: Final = 5555
_API_PORT: Final = 8080
_POLL_S: Final = 0.05
_LOOPBACK: Final = "127.0.0.1"
FORKED: Final = ("workers.celery_worker", "tasks.feeder.feeder")
"""The modules that the workers import, and most modules of the API and Flower."""


class StackError(RuntimeError):
    """The stack does not start or does not stay up. The message states the cause and the fix."""


class StackRunning(StackError):  # not an error in itself, hence the name
    """Another process, ``pid``, already runs the stack of this data directory."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        super().__init__(
            f"Process {pid} already runs the workers of this data directory. "
            "Stop it with `pointsman down`, or set POINTSMAN_HOME to another directory."
        )


def default_roles(fleet: Fleet) -> list[tuple[str, ...]]:
    """Return one process for the quick stages (route, fallback, ingest), one per tier, and one feeder."""
    return [(ROUTE, FALLBACK, INGEST), *((tier,) for tier in fleet.tiers), (FEEDER,)]


def stack_pid(settings: Settings) -> int | None:
    """Return the process that runs the stack of this data directory, or None."""
    note = holder_note(settings.home / STACK_LOCK)
    return int(note) if note else None


def stack_serves(settings: Settings) -> bool:
    """Whether the stack of this data directory has its services up, so that other commands can join."""
    pid = stack_pid(settings)
    return pid is not None and holder_note(settings.home / SERVICES_LOCK) == str(pid)


def other_fleet(settings: Settings, fleet: Fleet) -> str | None:
    """Return, in words, the fleet of this data directory's stack if it is not ``fleet``; else None.

    If its workers answered queries of ``fleet``, the results would count as ``fleet``'s: simulated answers as real
    ones, or real money for a simulation. After an edit of the file, they would use its earlier prices, models and
    judge.
    """
    if stack_pid(settings) is None:
        return None
    try:
        addresses = json.loads((settings.home / STACK_FILE).read_text())
    except (OSError, ValueError):
        return None  # the stack is about to start, or to stop
    wanted = _describe_fleet(settings, fleet)
    if not wanted.keys() <= addresses.keys():
        return None
    if all(addresses[key] == wanted[key] for key in ("stack_fleet", "stack_calls", "stack_fleet_digest")):
        return None
    served = f"{addresses['stack_fleet']!r} ({addresses['stack_calls']})"
    return f"{served}, which {addresses['stack_fleet_file']} defined when the workers started"


def _describe_fleet(settings: Settings, fleet: Fleet) -> dict[str, str]:
    """Write what other commands need to know of the stack's fleet."""
    return {
        "stack_fleet": fleet.name,
        "stack_calls": "simulated" if fleet.simulated else "real calls",
        "stack_fleet_digest": fleet.digest,
        "stack_fleet_file": str(settings.fleet_path.absolute()),
    }


def stack_down(settings: Settings, *, timeout_s: float = 60.0) -> bool:
    """Stop the stack of this data directory and wait for its end. Return whether there was one."""
    pid = stack_pid(settings)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while stack_pid(settings) == pid:
        if time.monotonic() > deadline:
            raise StackError(f"Process {pid} did not stop within {timeout_s:g} s.")
        time.sleep(_POLL_S)
    return True


class LocalStack:
    """``with LocalStack(…) as stack:`` runs everything inside the block, and leaves nothing after it.

    At a regular end it continues until other commands that share its services are done. An exception ends it at once.
    Call ``check`` regularly, because it restarts what has crashed. Enter it in a thread that outlives it, because the
    kernel ends the children with the thread that started them.
    """

    settings: Settings
    """Inside the block: the settings that were passed in, with the addresses of everything that runs."""
    fleet: Fleet
    """Inside the block: the fleet with the simulator's address."""

    def __init__(
        self,
        settings: Settings,
        fleet: Fleet,
        *,
        fleet_path: Path | None = None,
        roles: Sequence[Sequence[str]] | None = None,
        replay: Path | None = None,
        flower: bool = False,
        api: bool = False,
        tell: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.settings = replace(settings, fleet_path=fleet_path or settings.fleet_path)
        self.fleet = fleet
        self.urls: dict[str, str] = {}
        self._roles = default_roles(fleet) if roles is None else [tuple(role) for role in roles]
        self._replay = replay
        self._flower = flower
        self._api = api
        self._tell = tell
        self._parts: list[SupervisedProcess] = []
        self._forks = ForkServer(FORKED, log=settings.home / "logs" / "fork-server.log") if IS_SUPPORTED else None
        self._services = Services(settings)
        self._dead_workers: set[int] = set()
        self._exits = ExitStack()
        self._ports = PortAllocator()

    def __enter__(self) -> "LocalStack":
        from db import migrate  # Alembic: a tenth of a second that most commands do without

        with ExitStack() as undo:
            undo.callback(self._terminate_as_exit())
            undo.enter_context(self._lock())
            undo.enter_context(self._ports)
            if self._forks is not None:
                undo.callback(self._forks.close)
                self._forks.open()  # it imports while Postgres starts
            self._tell("starting Postgres and Redis" if self.settings.embedded else "looking for Postgres and Redis")
            self._services = services_up(self.settings, must_own=True, tell=self._tell)
            undo.callback(self._services.close)
            self.settings = self._services.settings
            migrate.upgrade(self.settings.database_url)
            if self._roles and not self.settings.embeds_redis:
                self._await_broker()
            undo.callback(self._stop_parts)
            deadline = time.monotonic() + _START_S
            try:
                self._start_simulator(deadline)
                self._start_roles(deadline)
                if self._flower:
                    self._tell("starting Flower")
                    self.urls["flower"] = self._start_server(
                        "flower", "workers.flower", _FLOWER_PORT, address_option="--address", deadline=deadline
                    )
                if self._api:
                    self._tell("starting the API")
                    url = self._start_server("api", "api", _API_PORT, address_option="--host", deadline=deadline)
                    self.urls["api"] = f"{url}/v1"
            except NoFreePort as error:
                raise StackError(str(error)) from error
            self._write_addresses()
            self._exits = undo.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: BaseException | TracebackType | None) -> None:
        with self._exits:
            # Before the workers stop: a command that joins from now on waits, and then starts its own.
            if self._services.is_unshared() or kind is not None:
                return
            self._tell("another command uses these workers. They stop after it, or immediately at Ctrl-C")
            while not self._services.is_unshared():
                time.sleep(_POLL_S)
                self.check()

    def check(self) -> None:
        """Restart whatever has ended. Raises StackError or ServicesError for processes that end repeatedly."""
        if (message := self._services.check()) is not None:
            self._tell(message)
        try:
            for part in self._parts:
                message = part.check(time.monotonic())
                if message is not None:
                    self._tell(message)
        except SupervisedProcessError as error:
            raise StackError(str(error)) from error
        self._report_deaths()

    def _report_deaths(self) -> None:
        """Record which workers are dead, so that their queries do not wait for their leases.

        While Postgres is away, the next check tries again.
        """
        if not self._dead_workers:
            return
        from db.worker_registry import report_deaths  # SQLAlchemy: most stacks end without a dead worker

        if report_deaths(self.settings.database_url, sorted(self._dead_workers)):
            self._dead_workers.clear()

    @property
    def processes(self) -> Mapping[str, int]:
        """Each child's name and process id."""
        return {part.name: part.process.pid for part in self._parts if part.process is not None}

    # Starting

    def _lock(self) -> FileLock:
        make_data_dir(self.settings.home)
        lock = FileLock(self.settings.home / STACK_LOCK)
        if not lock.take(patience_s=0.2):
            lock.close()
            raise StackRunning(stack_pid(self.settings) or 0)
        lock.write(str(os.getpid()))
        return lock

    def _await_broker(self) -> None:
        """Wait for the broker here, with a message, instead of in the workers' logs."""
        where = without_password(self.settings.broker_url)
        deadline = time.monotonic() + _BROKER_S
        is_reported = False
        while not reaches_broker(self.settings.broker_url):
            if time.monotonic() > deadline:
                raise StackError(f"The broker at {where} cannot be reached. Check BROKER_URL, and that it is up.")
            if not is_reported:
                self._tell(f"the broker at {where} cannot be reached; waiting for it for at most {_BROKER_S:g} s")
                is_reported = True
            time.sleep(0.5)

    def _start_simulator(self, deadline: float) -> None:
        wanted = any(provider.base_url.startswith(SIMULATOR) for provider in self.fleet.providers.values())
        if not wanted or (self.settings.simulator_url and self._replay is None):
            return
        self._tell("starting the simulator")
        port = self._ports.any()
        calls = self.settings.home / "logs" / SIMULATOR_CALLS
        calls.unlink(missing_ok=True)
        arguments = ["-m", "simulator", "--host", _LOOPBACK, "--port", str(port)]
        arguments += ["--log", str(calls), "--config", str(self._simulator_config())]
        arguments += ["--replay", str(self._replay.absolute())] if self._replay else []
        # The simulator needs no addresses and no API keys: not even in the memory of a fork.
        environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ}
        part = self._part("simulator", arguments, environ, lambda: _listens(port))
        self._launch([part], deadline)
        self.urls["simulator"] = f"http://{_LOOPBACK}:{port}"
        self.settings = replace(self.settings, simulator_url=self.urls["simulator"])
        self.fleet = self.settings.fleet()

    def _simulator_config(self) -> Path:
        config = {**simulated_prices(self.fleet.models.values()), "batch": {"clock": _BATCH_CLOCK}}
        path = self.settings.home / "run" / "simulator.json"
        path.write_text(json.dumps(config))
        return path

    def _start_roles(self, deadline: float) -> None:
        if not self._roles:
            return
        self._tell(f"starting {len(self._roles)} workers")
        names: dict[str, int] = {}
        parts = []
        for stages in self._roles:
            name = "-".join(stages)
            names[name] = names.get(name, 0) + 1
            name = name if names[name] == 1 else f"{name}-{names[name]}"
            ready = self.settings.home / "run" / f"ready-{name}"
            ready.unlink(missing_ok=True)
            environ = {**os.environ, **self.settings.child_environ(), READY_FILE: str(ready)}
            arguments = ["-m", "workers", *stages, "--name", name]
            parts.append(self._part(name, arguments, environ, ready.exists, progress=ready, forks=self._forks))
        self._launch(parts, deadline)

    def _start_server(self, name: str, module: str, usual_port: int, *, address_option: str, deadline: float) -> str:
        """Start a server of this machine, and return its URL."""
        port = self._claim(usual_port)
        arguments = ["-m", module, address_option, _LOOPBACK, "--port", str(port)]
        progress = self.settings.home / "run" / f"ready-{name}"
        progress.unlink(missing_ok=True)  # that of the process before
        environ = {**os.environ, **self.settings.child_environ(), READY_FILE: str(progress)}
        part = self._part(name, arguments, environ, lambda: _listens(port), progress=progress, forks=self._forks)
        self._launch([part], deadline)
        return f"http://{_LOOPBACK}:{port}"

    def _claim(self, usual: int) -> int:
        port = self._ports.claim(usual)
        if port != usual:
            self._tell(f"port {usual} is taken; using {port}")
        return port

    def _part(
        self,
        name: str,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        is_ready: Callable[[], bool],
        *,
        progress: Path | None = None,
        forks: ForkServer | None = None,
    ) -> SupervisedProcess:
        log = self.settings.home / "logs" / f"{name}.log"
        on_death = self._dead_workers.add
        return SupervisedProcess(name, arguments, environ, log, is_ready, progress, forks, on_death)

    def _launch(self, parts: Sequence[SupervisedProcess], deadline: float) -> None:
        """Start all, and then wait for each, because most of the time is spent on their imports."""
        try:
            for part in parts:
                part.start()
                self._parts.append(part)
            for part in parts:
                part.await_ready(deadline)
        except SupervisedProcessError as error:
            raise StackError(str(error)) from error

    def _write_addresses(self) -> None:
        """Write the addresses for other commands of this data directory."""
        addresses = {
            "stack_pid": str(os.getpid()),
            **_describe_fleet(self.settings, self.fleet),
            **{f"{name}_url": url for name, url in self.urls.items()},
        }
        (self.settings.home / STACK_FILE).write_text(json.dumps(addresses))

    # Stopping

    def _stop_parts(self) -> None:
        # Workers first: they finish the calls in flight, for which they need the others.
        others = [part for part in self._parts if part.name in ("simulator", "flower")]
        killed = stop_parts([part for part in self._parts if part not in others], grace_s=_STOP_S)
        killed += stop_parts(others, grace_s=5.0)
        for name in killed:
            self._tell(f"{name} did not stop in time and was killed. Its queries continue when workers run again")
        self._report_deaths()
        (self.settings.home / STACK_FILE).unlink(missing_ok=True)

    def _terminate_as_exit(self) -> Callable[[], None]:
        """Make SIGTERM unwind the stack like an exit, instead of ending this process at once."""
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        before = signal.getsignal(signal.SIGTERM)
        if before is not signal.SIG_DFL:
            return lambda: None  # the caller handles it

        def leave(number: int, _frame: FrameType | None) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise SystemExit(128 + number)

        signal.signal(signal.SIGTERM, leave)

        def restore() -> None:
            signal.signal(signal.SIGTERM, before)

        return restore


def reaches_broker(url: str) -> bool:
    """Whether the broker accepts a connection with these credentials. Takes a few seconds at most."""
    from amqp.exceptions import AMQPError  # with kombu, which a stack on the embedded Redis does not need
    from kombu.connection import Connection
    from kombu.exceptions import OperationalError

    from redis_client import SentinelAddress

    options: dict[str, object] = {"socket_connect_timeout": _CONNECT_S, "socket_timeout": _CONNECT_S}
    if (sentinels := SentinelAddress.parse(url)) is not None:
        url, options = sentinels.celery_url, {**options, "master_name": sentinels.name}
    try:
        made = Connection(url, connect_timeout=_CONNECT_S, transport_options=options)  # type: ignore[no-untyped-call]  # kombu is half typed
        with made as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=_CONNECT_S)
            return connection.default_channel is not None  # with Redis only a channel connects
    except (OperationalError, OSError, AMQPError):
        return False


def _listens(port: int) -> bool:
    return accepts_connections(_LOOPBACK, port, timeout_s=0.5)
