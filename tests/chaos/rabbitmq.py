"""A RabbitMQ of our own: Debian's ``rabbitmq-server``, in a directory and on ports of its own."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/lib/rabbitmq/bin"
_START_S = 60.0


class NoRabbit(RuntimeError):
    """There is no RabbitMQ here, or it does not start; the message says which."""


@contextmanager
def opened_rabbitmq() -> Iterator[str]:
    """The address of a fresh broker, for Celery. Raises NoRabbit."""
    if shutil.which("rabbitmq-server", path=_PATH) is None:
        raise NoRabbit("rabbitmq-server is not installed (Debian: apt-get install rabbitmq-server)")
    home = Path(tempfile.mkdtemp(prefix="pm-rabbit-"))
    port, distribution = _free_port(), _free_port()
    name = f"chaos{port}@localhost"
    (home / "enabled_plugins").write_text("[].\n")
    environ = {
        "PATH": _PATH,
        "HOME": str(home),
        "RABBITMQ_NODENAME": name,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_CONF_ENV_FILE": str(home / "none"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-setcookie chaos",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(_free_port()),
        "LC_ALL": "C.UTF-8",
    }
    with (home / "out").open("wb") as out:
        # The script that is on PATH changes to another user; the one behind it does not.
        behind = next(Path("/usr/lib/rabbitmq/lib").glob("*/sbin/rabbitmq-server"), None)
        server = subprocess.Popen(
            [behind or "rabbitmq-server"], env=environ, cwd=home, stdout=out, stderr=out, start_new_session=True
        )
    try:
        _await(server, port, home / "out")
        yield f"amqp://guest:guest@127.0.0.1:{port}//"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, 9)
            server.wait()
        # The port mapper that Erlang starts is this node's alone.
        subprocess.run(["epmd", "-kill"], env=environ, check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)


def _await(server: "subprocess.Popen[bytes]", port: int, out: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise NoRabbit(f"it ended while it started: {out.read_text(errors='replace')[-300:]}")
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                try:
                    if probe.recv(8):
                        return
                except OSError:
                    pass
        time.sleep(0.2)
    raise NoRabbit(f"it was not ready within {_START_S:g} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
