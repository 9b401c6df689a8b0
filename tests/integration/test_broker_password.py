"""A broker whose password stands in a file, as docker-compose.yml has it."""

import os
import subprocess
import sys
import time
from pathlib import Path

from settings import ROOT, Settings
from workers.embedded.redis import redis_binary
from workers.port_allocator import PortAllocator
from workers.process_setup import READY_FILE


def test_a_worker_takes_the_password_from_its_file(tmp_path: Path, settings: Settings) -> None:
    """Celery takes BROKER_URL from the environment, without the password: the worker was never ready."""
    password, config, ready = tmp_path / "password", tmp_path / "redis.conf", tmp_path / "ready"
    password.write_text("a password\n")
    with PortAllocator() as ports:
        port = ports.any()
    config.write_text(f'port {port}\nbind 127.0.0.1\nsave ""\nrequirepass "a password"\n')
    environ = {
        **os.environ,
        **settings.child_environ(),
        "BROKER_URL": f"redis://127.0.0.1:{port}/0",
        "BROKER_PASSWORD_FILE": str(password),
        "POINTSMAN_SIMULATOR_URL": "http://127.0.0.1:1",
        READY_FILE: str(ready),
    }
    environ.pop("REDIS_URL", None)
    server = subprocess.Popen([redis_binary(), config], stdout=subprocess.DEVNULL)
    worker = subprocess.Popen([sys.executable, "-m", "workers", "ingest"], cwd=ROOT, env=environ)
    try:
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert worker.poll() is None
            assert time.monotonic() < deadline, "not ready"
            time.sleep(0.1)
    finally:
        for process in (worker, server):
            process.terminate()
            process.wait(60)
