"""A RabbitMQ of our own: Debian's ``rabbitmq-server``, in a directory and on ports of its own."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/lib/rabbitmq/bin"
_START_S = 120.0


class NoRabbit(RuntimeError):
    """There is no RabbitMQ here, or it does not start; the message says which."""


@dataclass
class RabbitNode:
    """A node with everything that it writes in ``home``."""

    home: Path
    address: str
    port: int = 5672
    distribution_port: int = 25672
    epmd_port: int = 4369
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def name(self) -> str:
        """By which the nodes of a cluster know each other."""
        return f"rabbit{self.port}@{self.address}"

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@{self.address}:{self.port}//"

    @property
    def _environ(self) -> dict[str, str]:
        return {
            "PATH": _PATH,
            "HOME": str(self.home),
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_USE_LONGNAME": "true",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": self.address,
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self.home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.home / "log"),
            "RABBITMQ_PID_FILE": str(self.home / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.home / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(self.home / "none"),
            "RABBITMQ_CONFIG_FILE": str(self.home / "rabbitmq"),
            # A silent node counts as gone after 8 s instead of 60, and an idle scheduler does not spin.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-setcookie chaos -kernel net_ticktime 8 +sbwt none",
            "ERL_EPMD_ADDRESS": self.address,
            "ERL_EPMD_PORT": str(self.epmd_port),
            "LC_ALL": "C.UTF-8",
        }

    def start(self, *, cluster: Sequence[str] = ()) -> None:
        """Starts it, as a node of ``cluster`` where one is named; `wait` returns when it is ready. Raises NoRabbit."""
        if shutil.which("rabbitmq-server", path=_PATH) is None:
            raise NoRabbit("rabbitmq-server is not installed (Debian: apt-get install rabbitmq-server)")
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "enabled_plugins").write_text("[].\n")
        lines = ["loopback_users = none"]
        if cluster:
            lines.append("cluster_formation.peer_discovery_backend = classic_config")
            lines.append("cluster_partition_handling = pause_minority")
            lines += [f"cluster_formation.classic_config.nodes.{n} = {name}" for n, name in enumerate(cluster, 1)]
        (self.home / "rabbitmq.conf").write_text("\n".join([*lines, ""]))
        # The script that is on PATH changes to another user; the one behind it does not.
        behind = next(Path("/usr/lib/rabbitmq/lib").glob("*/sbin/rabbitmq-server"), None)
        with (self.home / "out").open("wb") as out:
            self.process = subprocess.Popen(
                [behind or "rabbitmq-server"],
                env=self._environ,
                cwd=self.home,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Until it accepts connections. Raises NoRabbit."""
        assert self.process is not None
        out = self.home / "out"
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise NoRabbit(f"it ended while it started: {out.read_text(errors='replace')[-300:]}")
            with socket.socket() as probe:
                probe.settimeout(0.5)
                if probe.connect_ex((self.address, self.port)) == 0:
                    probe.sendall(b"AMQP\x00\x00\x09\x01")
                    try:
                        if probe.recv(8):
                            return
                    except OSError:
                        pass
            time.sleep(0.2)
        raise NoRabbit(f"it was not ready within {_START_S:g} s")

    def stop(self) -> None:
        """Ends it, and the port mapper that Erlang started for it alone."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, 9)
                self.process.wait()
            subprocess.run(["epmd", "-kill"], env=self._environ, check=False, capture_output=True)


@contextmanager
def opened_rabbitmq() -> Iterator[str]:
    """The address of a fresh broker, for Celery. Raises NoRabbit."""
    home = Path(tempfile.mkdtemp(prefix="pm-rabbit-"))
    node = RabbitNode(home, "127.0.0.1", _free_port(), _free_port(), _free_port())
    try:
        node.start()
        node.wait()
        yield node.url
    finally:
        node.stop()
        shutil.rmtree(home, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
