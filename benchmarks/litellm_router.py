"""(d) litellm's ``Router`` in-process, 64 calls in flight, against the same simulator. It persists nothing.

litellm is installed into a venv of its own, kept in the user's cache directory: its pins are not ours.
"""

import json
import os
import subprocess
import venv
from pathlib import Path

from benchmarks.external_worker import CompletionRate
from benchmarks.harness import Stand

IN_FLIGHT = 64
_CLIENT = Path(__file__).with_name("litellm_client.py")
_INSTALL_S = 600.0
_RUN_S = 300.0


class NoLitellm(RuntimeError):
    """litellm could not be installed or does not run; the message is what pip or Python said."""


def litellm_python() -> Path:
    """The Python of the venv that has litellm, made on first use. Raises NoLitellm."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "pointsman-bench" / "litellm"
    python = home / "bin" / "python"
    if not (home / "installed").exists():
        venv.create(home, with_pip=True, clear=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "litellm"]
        ran = subprocess.run(pip, capture_output=True, text=True, timeout=_INSTALL_S)
        if ran.returncode:
            raise NoLitellm(ran.stderr[-1500:])
        (home / "installed").touch()
    return python


def litellm_version(python: Path) -> str:
    """As installed."""
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
