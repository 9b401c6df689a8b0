"""A worker and a feeder that shall stop while neither their broker nor a name server answers."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from settings import ROOT, Settings
from workers.embedded.redis import redis_binary
from workers.port_allocator import PortAllocator
from workers.process_setup import READY_FILE

BROKER = "broker.test"
FAREWELL_S = 2.0
LOOK_UP_S = 2
STOP_S = 12.0
"""For both: one look-up that nothing interrupts, the farewell, and a busy machine."""

WITH_OWN_NAMES = 'mount --bind "$0" /etc/hosts && mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'
PROCESS = f"""
import runpy
from workers import stop_deadline
stop_deadline.FAREWELL_S = {FAREWELL_S}
runpy.run_module("workers", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def name_server() -> Iterator[socket.socket]:
    """It hears questions and answers none."""
    if os.geteuid() != 0:
        pytest.skip("needs root: a mount namespace with an /etc/hosts of its own, and a name server at port 53")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.53.53", 53))
        server.settimeout(60)
        yield server


def test_processes_stop_though_their_broker_is_gone_and_its_name_is_looked_up_in_vain(
    name_server: socket.socket, tmp_path: Path, settings: Settings
) -> None:
    hosts, resolver = tmp_path / "hosts", tmp_path / "resolv.conf"
    hosts.write_text(f"127.0.0.1 localhost {BROKER}\n")
    resolver.write_text(f"nameserver {name_server.getsockname()[0]}\noptions timeout:{LOOK_UP_S} attempts:1\n")
    with PortAllocator() as ports:
        port = ports.any()
    url = f"redis://{BROKER}:{port}/0"
    environ = {**os.environ, **settings.child_environ(), "BROKER_URL": url, "REDIS_URL": url}
    environ["POINTSMAN_SIMULATOR_URL"] = "http://127.0.0.1:1"
    redis = subprocess.Popen([redis_binary(), "--port", str(port), "--save", ""], stdout=subprocess.DEVNULL)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for role in ("small", "feeder"):
            own = ("unshare", "--mount", "sh", "-c", WITH_OWN_NAMES, hosts, resolver, sys.executable, "-c", PROCESS)
            ready = {READY_FILE: str(tmp_path / role)}
            processes.append(subprocess.Popen([*own, role], cwd=ROOT, env={**environ, **ready}))
        deadline = time.monotonic() + 120
        while not all((tmp_path / role).exists() for role in ("small", "feeder")):
            assert [process.poll() for process in processes] == [None, None]
            assert time.monotonic() < deadline, "not ready"
            time.sleep(0.05)
        hosts.write_text("127.0.0.1 localhost\n")
        redis.kill()
        asked = b""
        while BROKER.split(".")[0].encode() not in asked:
            asked = name_server.recv(512)
        time.sleep(2 * LOOK_UP_S)  # the worker has lost its broker, and tries again
        began = time.monotonic()
        for process in processes:
            process.terminate()
        assert [process.wait(300) for process in processes] == [0, 0]
        assert time.monotonic() - began < STOP_S
    finally:
        for each in (*processes, redis):
            each.kill()
            each.wait()
