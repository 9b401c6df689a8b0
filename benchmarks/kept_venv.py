"""Venvs of their own for packages whose pins are not ours, kept from one run to the next."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

from settings import ROOT

VENVS: Final = ROOT / ".venv" / "sdk"
"""`make clean` removes them."""
_RUN_S: Final = 600.0
_IN_TROUBLE: Final = (
    "from versions: none",
    "connection broken",
    "Max retries exceeded",
    "Read timed out",
    "HTTP error",
    "incomplete-download",
    "is invalid",
)
"""What pip says where an index is away, late, or breaks off a file that it has."""


class NoIndex(RuntimeError):
    """No package index hands out what is to be installed."""


def kept_python(name: str, *packages: str) -> Path:
    """The Python of the venv ``name``, which has these packages and is made on first use. Raises NoIndex."""
    home = VENVS / f"{name}-python-{sys.version_info.major}.{sys.version_info.minor}"
    python, ready = home / "bin" / "python", home / "ready"
    if ready.exists():
        return python
    shutil.rmtree(home, ignore_errors=True)
    venv.create(home, with_pip=False)
    pip_install(python, *packages)
    ready.touch()
    return python


def pip_install(python: Path, *arguments: str) -> None:
    """Has our pip install into the venv of ``python``. Raises NoIndex."""
    # Our pip installs into it: one of its own would take longer to make than the rest.
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--quiet", "--disable-pip-version-check"]
    none = NoIndex(f"{' '.join(arguments)} cannot be installed: no package index hands it out")
    try:
        ran = subprocess.run(
            [*pip, "--retries", "3", "--timeout", "15", "install", "--no-compile", *arguments],
            capture_output=True,
            text=True,
            timeout=_RUN_S,
        )
    except subprocess.TimeoutExpired:
        raise none from None
    if ran.returncode and any(words in ran.stderr for words in _IN_TROUBLE):
        raise none
    if ran.returncode:
        raise RuntimeError(ran.stderr[-2000:])
