"""(d) litellm's ``Router`` in-process, 64 calls in flight, against the same simulator. It persists nothing.

litellm is installed into a venv of its own: its pins are not ours.
"""

import json
import os
import subprocess
from pathlib import Path

from benchmarks.external_worker import CompletionRate
from benchmarks.harness import Stand

IN_FLIGHT = 64
_CLIENT = Path(__file__).with_name("litellm_client.py")
_RUN_S = 300.0


class NoLitellm(RuntimeError):
    """litellm does not run; the message is what Python said."""


def litellm_version(python: Path) -> str:
    ask = "from importlib.metadata import version; print(version('litellm'))"
    return subprocess.run([python, "-c", ask], capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def measure_litellm(stand: Stand, *, calls: int, python: Path) -> CompletionRate:
    """Calls per second. Raises NoLitellm."""
    base_url = f"{stand.simulator.url}/openai/v1"
    environ = {"PATH": os.environ["PATH"], "HOME": str(stand.folder), "LANG": "C.UTF-8"}
    ran = subprocess.run(
        [python, _CLIENT, base_url, str(calls), str(IN_FLIGHT)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=_RUN_S,
    )
    if ran.returncode:
        raise NoLitellm(ran.stderr[-1500:])
    return CompletionRate(**json.loads(ran.stdout.splitlines()[-1]))
