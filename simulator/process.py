"""Starts and stops the simulator as a process. Standard library only."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

_ROOT: Final = Path(__file__).resolve().parents[1]
_STEP_S: Final = 0.02
_START_S: Final = 20.0
_STOP_S: Final = 5.0


class SimulatorFailed(RuntimeError):
    """The simulator did not start; the message is its output."""


@dataclass
class SimulatorProcess:
    """A running simulator. As a context manager it stops at the end of the block."""

    process: "subprocess.Popen[bytes]" = field(repr=False)
    port: int

    @property
    def url(self) -> str:
        """``http://127.0.0.1:port``; a base_url adds ``/openai/v1``, ``/anthropic/v1`` or ``/google/v1beta``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.process.pid

    def control(self, **change: Any) -> dict[str, Any]:
        """Change the configuration (the keys of `simulator_config.Change`) and return the active one."""
        return self._ask("/control", json.dumps(change).encode())

    def stats(self) -> dict[str, Any]:
        """The counts so far; the log file is up to date afterwards."""
        return self._ask("/stats", None)

    def stop(self) -> int:
        """Stop it, with SIGKILL after five seconds, and return the exit status. Safe to call twice."""
        self.process.terminate()
        try:
            return self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            return _kill(self.process)
        finally:
            _close_stdin(self.process)

    def __enter__(self) -> "SimulatorProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ask(self, path: str, body: bytes | None) -> dict[str, Any]:
        import httpx  # a tenth of a second, which those who only start a simulator do without

        method = "GET" if body is None else "POST"
        reply = httpx.request(method, self.url + path, content=body, timeout=10, trust_env=False)
        answer: dict[str, Any] = reply.raise_for_status().json()
        return answer


def start_simulator(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    replay: Path | None = None,
    log: Path | None = None,
) -> SimulatorProcess:
    """Start a simulator and wait until it listens.

    ``host`` is the address to listen on, loopback or all of them: `SimulatorProcess.url` is that of loopback.
    ``config`` has the keys of `simulator.simulator_config.Config`. It ends with this process, even after a ``kill -9``.
    Raises SimulatorFailed if it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="pointsman-simulator-") as folder:
        ready = Path(folder, "port")
        arguments = [f"--host={host}", f"--port={port}", f"--seed={seed}", f"--ready-file={ready}"]
        if config is not None:
            Path(folder, "config.json").write_text(json.dumps(config))
            arguments.append(f"--config={folder}/config.json")
        arguments += [f"--replay={replay.absolute()}"] if replay is not None else []
        arguments += [f"--log={log.absolute()}"] if log is not None else []
        output = Path(folder, "output")
        process = _spawn(arguments, output)
        deadline = time.monotonic() + _START_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                _kill(process)
                raise SimulatorFailed(output.read_text().strip() or "the simulator did not start")
            time.sleep(_STEP_S)
        return SimulatorProcess(process, int(ready.read_text()))


def _kill(process: "subprocess.Popen[bytes]") -> int:
    process.kill()
    _close_stdin(process)
    return process.wait()


def _close_stdin(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        process.stdin.close()


def _spawn(arguments: list[str], output: Path) -> "subprocess.Popen[bytes]":
    with output.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "simulator", "--until-stdin-closes", *arguments],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
