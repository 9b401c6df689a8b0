"""Starts Python processes as forks of one that has loaded their modules, in milliseconds instead of seconds.

A stack has eight processes, and each would import the same 1,600 modules. It works on Linux only, because on other
systems the system libraries do not support a fork without an exec. The fork server of `multiprocessing` imports its
caller's main module in every child, hides failed imports, and ends children without their exit handlers.
"""

import errno
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from settings import ROOT
from workers.child_process import end_with_parent, open_log, spawn, tail

IS_SUPPORTED: Final = sys.platform == "linux"
_STOPS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that a service manager sends to all processes of a stack. The server ignores them and ends only with its
client, because otherwise its forks would be killed in the middle of their calls."""
_NUMBER: Final = struct.Struct("i")
"""The number that the server writes to a process's socket: its id, or a negative errno; later its exit code."""


class ForkServerError(RuntimeError):
    """The server does not start, or cannot fork. The message says why."""


class ForkedProcess:
    """A process started by a `ForkServer`, with the methods of `subprocess.Popen` that a supervisor needs."""

    def __init__(self, pid: int, status: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal, or None while it runs."""
        try:
            return self.wait(0.0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once it has ended. Raises subprocess.TimeoutExpired after ``timeout`` seconds."""
        if self.returncode is None:
            self._status.settimeout(timeout)
            try:
                reported = self._status.recv(_NUMBER.size)
            except (BlockingIOError, TimeoutError):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0) from None
            # Without a report the server was killed, and the kernel has killed this process with it.
            self.returncode = _NUMBER.unpack(reported)[0] if reported else -signal.SIGKILL
            self._status.close()
        return self.returncode

    def terminate(self) -> None:
        """Send SIGTERM, if it still runs."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, if it still runs."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it has just ended, and the server's report is on its way
                os.kill(self.pid, number)


class ForkServer:
    """A process that has imported ``modules`` and forks others. They all end with the thread that opens it.

    Its environment is that of this process, which matters for what modules read during import.
    """

    def __init__(self, modules: Sequence[str], *, log: Path) -> None:
        self._modules = modules
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def open(self) -> None:
        """Start the server if it does not run, without waiting for its imports."""
        if self._process is not None and self._process.poll() is None:
            return
        self.close()
        self._control, theirs = socket.socketpair()
        with theirs:
            argv = [sys.executable, "-m", "workers.fork_server", *self._modules]
            self._process = spawn(argv, log=self._log, environ=os.environ, cwd=ROOT, stdin=theirs.fileno())

    def start(self, arguments: Sequence[str], *, name: str, log: Path, environ: Mapping[str, str]) -> ForkedProcess:
        """Start ``python -m …`` with these arguments, as `child_process.spawn` does. Raises ForkServerError."""
        request = json.dumps({"arguments": arguments, "name": name, "environ": dict(environ)}).encode()
        for _ in range(2):  # the server may just have been killed
            self.open()
            if (process := self._fork(request, log)) is not None:
                return process
        raise ForkServerError(f"No process can be forked. The end of {self._log}:\n{tail(self._log)}")

    def _fork(self, request: bytes, log: Path) -> ForkedProcess | None:
        assert self._control is not None
        status, theirs = socket.socketpair()
        output = open_log(log)
        try:
            socket.send_fds(self._control, [b"\0"], [theirs.fileno(), output])
            theirs.close()  # so that the server's end shows here
            status.sendall(request)
            status.shutdown(socket.SHUT_WR)
            reply = status.recv(_NUMBER.size)
        except (BrokenPipeError, ConnectionResetError):
            reply = b""
        finally:
            theirs.close()
            os.close(output)
        number = _NUMBER.unpack(reply)[0] if reply else 0
        if number > 0:
            return ForkedProcess(number, status)
        status.close()
        if number:
            raise ForkServerError(f"No process can be forked: {os.strerror(-number)}. Raise the limit of processes.")
        if self._process is not None:
            self._process.wait()
        return None

    def close(self) -> None:
        """End the server, and the forks that still run."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._control = None


def main() -> None:
    """Import the modules on the command line, then fork for each request from stdin, which is a socket."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)  # before the imports, whose threads have the mask of this one
    for name in sys.argv[1:]:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # the collector of a fork copies no page of what is shared
    request = _serve(socket.socket(fileno=os.dup(0)))
    if request is not None:
        _, module, *arguments = request["arguments"]
        sys.argv = [module, *arguments]
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def _serve(control: socket.socket) -> dict[str, Any] | None:
    """Return in each fork, with its request; in the server return None, once its client is gone."""
    woken, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.set_wakeup_fd(wakes.fileno())
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            woken.recv(1024)
            _report_ended(running)
        if control not in ready:
            continue
        mark, descriptors, *_ = socket.recv_fds(control, 1, 2)
        if not mark:
            return None
        status, output = socket.socket(fileno=descriptors[0]), descriptors[1]
        with status.makefile("rb") as sent:
            request: dict[str, Any] = json.load(sent)
        server = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:  # no room for another process: those that run go on
            os.close(output)
            with status:
                _report(status, -(error.errno or errno.EAGAIN))
            continue
        if pid == 0:
            for opened in (control, woken, wakes, status, *running.values()):
                opened.close()
            _set_up(request, server=server, output=output)
            return request
        os.close(output)
        running[pid] = status
        _report(status, pid)


def _report_ended(running: dict[int, socket.socket]) -> None:
    for pid in list(running):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            with running.pop(pid) as client:
                _report(client, os.waitstatus_to_exitcode(status))


def _report(client: socket.socket, number: int) -> None:
    with suppress(BrokenPipeError):  # its client has gone
        client.sendall(_NUMBER.pack(number))


def _set_up(request: dict[str, Any], *, server: int, output: int) -> None:
    """Set up a fork as `child_process.spawn` sets up a new process."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    end_with_parent(server, signal.SIGKILL, name=request["name"])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)  # what came since the fork is delivered now
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, place in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, place)
    os.close(nothing)
    os.close(output)
    os.environ.clear()
    os.environ.update(request["environ"])


if __name__ == "__main__":
    main()
