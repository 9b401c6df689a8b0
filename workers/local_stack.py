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

from amqp.exceptions import AMQPError
from kombu.connection import Connection
from kombu.exceptions import OperationalError

from fleet_config import SIMULATOR
from providers.transport.reachable import accepts_connections
from routing.fleet import Fleet
from routing.lifecycle import FALLBACK, INGEST, ROUTE
from settings import STACK_FILE, Settings, without_password
from workers.data_dir import make_data_dir
from workers.embedded.services import services_up
from workers.file_lock import FileLock, holder_note
from workers.port_allocator import NoFreePort, PortAllocator
from workers.process_setup import READY_FILE
from workers.supervised_process import SupervisedProcess, SupervisedProcessError, stop_parts

_PATIENCE_S: Final = 5.0


def reaches_broker(url: str) -> bool:
    """Whether a connection with these credentials can be had; takes at most some seconds."""
    options = {"socket_connect_timeout": _PATIENCE_S, "socket_timeout": _PATIENCE_S}
    try:
        made = Connection(url, connect_timeout=_PATIENCE_S, transport_options=options)  # type: ignore[no-untyped-call]  # kombu is half typed
        with made as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=_PATIENCE_S)
            channel = connection.default_channel  # Redis is only asked by its channel
            return channel is not None
    except (OperationalError, OSError, AMQPError):
        return False


FEEDER: Final = "feeder"
STACK_LOCK: Final = "run/stack.lock"
SIMULATOR_CALLS: Final = "simulator-calls.jsonl"
"""In ``logs/``: every call that the simulator has received since the stack started."""
_START_S: Final = 90.0
_STOP_S: Final = 20.0
_BROKER_S: Final = 15.0
_FLOWER_PORT: Final = 5555
_API_PORT: Final = 8080
_LOOPBACK: Final = "127.0.0.1"


class StackError(RuntimeError):
    """The stack does not start or does not stay up; says why and the mend."""


class StackRunning(StackError):  # it is a state of affairs, not a fault
    """Another process already runs the stack of this home; ``pid`` is its number."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        super().__init__(
            f"Process {pid} already runs the workers of this data directory. "
            "Stop it with `pointsman down`, or set POINTSMAN_HOME to another directory."
        )


def default_roles(fleet: Fleet) -> list[tuple[str, ...]]:
    """One process for what is quick (route, fallback, ingest), one per tier, one feeder."""
    return [(ROUTE, FALLBACK, INGEST), *((tier,) for tier in fleet.tiers), (FEEDER,)]


def stack_pid(settings: Settings) -> int | None:
    """The process that runs the stack of this home, if one does."""
    note = holder_note(settings.home / STACK_LOCK)
    return int(note) if note else None


def other_fleet(settings: Settings, fleet: Fleet) -> str | None:
    """Whose queries the stack of this home answers, in words, where that is not ``fleet``; None where it is.

    A query that another fleet's workers answer would be counted as ``fleet``'s: simulated answers as real ones, or real
    money for what was to be simulated.
    """
    if stack_pid(settings) is None:
        return None
    try:
        told = json.loads((settings.home / STACK_FILE).read_text())
    except (OSError, ValueError):
        return None  # it is about to start, or to stop
    served = (told.get("stack_fleet"), told.get("stack_calls"))
    if None in served or served == (fleet.name, _calls(fleet)):
        return None
    return f"{served[0]!r} ({served[1]})"


def _calls(fleet: Fleet) -> str:
    return "simulated" if fleet.simulated else "real calls"


def stack_down(settings: Settings, *, timeout_s: float = 60.0) -> bool:
    """Ask whoever runs the stack of this home to stop, and wait. Whether there was one."""
    pid = stack_pid(settings)
    if pid is None:
        return False
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout_s
    while stack_pid(settings) == pid:
        if time.monotonic() > deadline:
            raise StackError(f"Process {pid} did not stop within {timeout_s:g} s.")
        time.sleep(0.05)
    return True


class LocalStack:
    """``with LocalStack(…) as stack:`` has everything running inside, and nothing left after.

    Call ``check`` now and then: it starts again what has crashed. Enter it in a thread that
    outlives it, for the kernel ends the children with the thread that started them.
    """

    settings: Settings
    """Inside: those given, with the address of everything that runs."""
    fleet: Fleet
    """Inside: the fleet with the simulator's address in it."""

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
        tell: Callable[[str], None] = lambda words: None,
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
        self._exits = ExitStack()
        self._ports = PortAllocator()

    def __enter__(self) -> "LocalStack":
        from db import migrate  # Alembic: a tenth of a second that most commands do without

        with ExitStack() as undo:
            undo.callback(self._terminate_as_exit())
            undo.enter_context(self._lock())
            undo.enter_context(self._ports)
            self._tell("starting Postgres and Redis" if self.settings.embedded else "looking for Postgres and Redis")
            self.settings = undo.enter_context(services_up(self.settings)).settings
            migrate.upgrade(self.settings.database_url)
            if self._roles and not self.settings.embeds_redis:
                self._await_broker()
            undo.callback(self._stop_parts)
            deadline = time.monotonic() + _START_S
            try:
                self._start_simulator(deadline)
                self._start_roles(deadline)
                self._start_flower(deadline)
                self._start_api(deadline)
            except NoFreePort as error:
                raise StackError(str(error)) from error
            self._write_addresses()
            self._exits = undo.pop_all()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._exits.close()

    def check(self) -> None:
        """Start again whatever has ended. Raises StackError for what ends again and again."""
        try:
            for part in self._parts:
                words = part.check(time.monotonic())
                if words is not None:
                    self._tell(words)
        except SupervisedProcessError as error:
            raise StackError(str(error)) from error

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
        """Workers would wait for it without a word to whoever started them."""
        from workers.local_stack import reaches_broker  # kombu, which the embedded Redis does without

        where = without_password(self.settings.broker_url)
        deadline = time.monotonic() + _BROKER_S
        told = False
        while not reaches_broker(self.settings.broker_url):
            if time.monotonic() > deadline:
                raise StackError(f"The broker at {where} cannot be reached. Is BROKER_URL right, and is it up?")
            if not told:
                self._tell(f"the broker at {where} cannot be reached; waiting for it, {_BROKER_S:g} s at most")
                told = True
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
        # It has no business with our addresses and keys.
        environ = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ}
        part = self._part("simulator", arguments, environ, lambda: _listens(port))
        self._launch([part], deadline)
        self.urls["simulator"] = f"http://{_LOOPBACK}:{port}"
        self.settings = replace(self.settings, simulator_url=self.urls["simulator"])
        self.fleet = self.settings.fleet()

    def _simulator_config(self) -> Path:
        """The fleet's prices for the simulator's own account, against which the ledger can be held."""
        prices = {
            model.model: [
                price * model.price.multiplier
                for price in (
                    model.price.input_usd_per_mtok,
                    model.price.output_usd_per_mtok,
                    model.price.cached_input_usd_per_mtok,
                )
            ]
            for model in self.fleet.models.values()
        }
        path = self.settings.home / "run" / "simulator.json"
        path.write_text(json.dumps({"prices": prices}))
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
            parts.append(self._part(name, ["-m", "workers", *stages, "--name", name], environ, ready.exists))
        self._launch(parts, deadline)

    def _start_flower(self, deadline: float) -> None:
        if not self._flower:
            return
        self._tell("starting Flower")
        port = self._claim(_FLOWER_PORT)
        arguments = ["-m", "workers.flower", "--address", _LOOPBACK, "--port", str(port)]
        environ = {**os.environ, **self.settings.child_environ()}
        self._launch([self._part("flower", arguments, environ, lambda: _listens(port))], deadline)
        self.urls["flower"] = f"http://{_LOOPBACK}:{port}"

    def _start_api(self, deadline: float) -> None:
        if not self._api:
            return
        self._tell("starting the API")
        port = self._claim(_API_PORT)
        arguments = ["-m", "api", "--host", _LOOPBACK, "--port", str(port)]
        environ = {**os.environ, **self.settings.child_environ()}
        self._launch([self._part("api", arguments, environ, lambda: _listens(port))], deadline)
        self.urls["api"] = f"http://{_LOOPBACK}:{port}/v1"

    def _claim(self, usual: int) -> int:
        port = self._ports.claim(usual)
        if port != usual:
            self._tell(f"{usual} is taken: using {port}")
        return port

    def _part(
        self, name: str, arguments: Sequence[str], environ: Mapping[str, str], is_ready: Callable[[], bool]
    ) -> SupervisedProcess:
        return SupervisedProcess(name, arguments, environ, self.settings.home / "logs" / f"{name}.log", is_ready)

    def _launch(self, parts: Sequence[SupervisedProcess], deadline: float) -> None:
        """All at once, then wait for each: what takes time is their imports."""
        try:
            for part in parts:
                part.start()
                self._parts.append(part)
            for part in parts:
                part.await_ready(deadline)
        except SupervisedProcessError as error:
            raise StackError(str(error)) from error

    def _write_addresses(self) -> None:
        """For other commands of this home, which may want the simulator or Flower."""
        told = {
            "stack_pid": str(os.getpid()),
            "stack_fleet": self.fleet.name,
            "stack_calls": _calls(self.fleet),
            **{f"{name}_url": url for name, url in self.urls.items()},
        }
        (self.settings.home / STACK_FILE).write_text(json.dumps(told))

    # Stopping

    def _stop_parts(self) -> None:
        # Workers first: they finish the calls that are under way, for which they need all the others.
        others = [part for part in self._parts if part.name in ("simulator", "flower")]
        killed = stop_parts([part for part in self._parts if part not in others], grace_s=_STOP_S)
        killed += stop_parts(others, grace_s=5.0)
        for name in killed:
            self._tell(f"{name} did not stop in time and was killed; what it had is taken up again after its lease")
        (self.settings.home / STACK_FILE).unlink(missing_ok=True)

    def _terminate_as_exit(self) -> Callable[[], None]:
        """Have SIGTERM unwind the stack as an exit, instead of ending this process on the spot."""
        if threading.current_thread() is not threading.main_thread():
            return lambda: None
        before = signal.getsignal(signal.SIGTERM)
        if before is not signal.SIG_DFL:
            return lambda: None  # the caller has plans of its own

        def leave(number: int, _frame: FrameType | None) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            raise SystemExit(128 + number)

        signal.signal(signal.SIGTERM, leave)

        def restore() -> None:
            signal.signal(signal.SIGTERM, before)

        return restore


def _listens(port: int) -> bool:
    return accepts_connections(_LOOPBACK, port, timeout_s=0.5)
