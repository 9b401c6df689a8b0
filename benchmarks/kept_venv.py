"""The official SDKs against a whole running system over real HTTP: each of OpenAI's majors and Anthropic's, each in a
venv of its own.

``python -m benchmarks.sdk_matrix`` starts everything in a directory of its own (simulated providers), has
`benchmarks/sdk_client.py` or `benchmarks/anthropic_client.py` run once per SDK, and prints a JSON object. Exits with 1
where one fails.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from db.engine import make_engine
from db.tenants import Tenants
from settings import ROOT, Settings
from workers.local_stack import LocalStack

VERSIONS: Final = {"1.x": "1.109.1", "2.x": "2.54.0", "3.x": "3.57.0"}
"""The last or newest of each major when this was written."""
ANTHROPIC: Final = "anthropic"
"""The name of Anthropic's SDK beside these."""
ANTHROPIC_VERSION: Final = "2.14.0"
SDKS: Final = (*VERSIONS, ANTHROPIC)
VENVS: Final = ROOT / ".venv" / "sdk"
"""Kept from one run to the next; `make clean` removes them."""
CLIENTS: Final = ROOT / "benchmarks"
_RUN_S: Final = 300.0
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
    """No package index hands it out, so that there is no SDK to run."""


def sdk_python(sdk: str) -> Path:
    """The Python of a venv that has this one of `SDKS` and nothing of ours. Raises NoIndex."""
    package, version = ("anthropic", ANTHROPIC_VERSION) if sdk == ANTHROPIC else ("openai", VERSIONS[sdk])
    return kept_python(f"{package}-{version}", f"{package}=={version}")


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


def run_client(sdk: str, python: Path, *, url: str, key: str) -> dict[str, object]:
    """What the client of one of `SDKS` printed, or what it failed with."""
    client = CLIENTS / ("anthropic_client.py" if sdk == ANTHROPIC else "sdk_client.py")
    environ = {
        "OPENAI_BASE_URL": url,
        "OPENAI_API_KEY": key,
        "ANTHROPIC_BASE_URL": url.removesuffix("/v1"),
        "ANTHROPIC_API_KEY": key,
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
    }
    ran = subprocess.run([python, client], env=environ, capture_output=True, text=True, timeout=_RUN_S)
    if ran.returncode:
        return {"failed": ran.stderr[-2000:]}
    results: dict[str, object] = json.loads(ran.stdout)
    return results


async def make_key(database_url: str, tenant: str) -> str:
    """A key of a tenant of its own."""
    engine = make_engine(database_url)
    try:
        return await Tenants(engine).create_key(tenant=tenant, name="matrix")
    finally:
        await engine.dispose()


def await_keys(url: str) -> None:
    """Until the service asks for keys, as it does a few seconds after the first was made."""
    for _ in range(100):
        try:
            urllib.request.urlopen(f"{url}/models", timeout=10).close()
        except urllib.error.HTTPError as error:
            if error.code == 401:
                return
        time.sleep(0.2)
    raise RuntimeError("the service does not ask for keys")


def main() -> int:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("versions", nargs="*", default=list(SDKS), help=f"of {', '.join(SDKS)}")
    given = parser.parse_args()
    results: dict[str, dict[str, object]] = {}
    os.environ["POINTSMAN_API_PRIVATE_WEBHOOKS"] = "1"  # the client listens on loopback
    with TemporaryDirectory(prefix="pm-sdk-") as place:
        Path(place).chmod(0o711)  # Postgres is another user
        pythons = {name: sdk_python(name) for name in given.versions}
        fleet = os.environ.get("POINTSMAN_FLEET") or str(ROOT / "fleet.toml")
        settings = Settings.load({"POINTSMAN_HOME": f"{place}/home", "POINTSMAN_FLEET": fleet})
        with LocalStack(settings, settings.fleet(), api=True) as stack:
            url = stack.urls["api"]
            for name, python in pythons.items():
                key = asyncio.run(make_key(stack.settings.database_url, f"tenant-{name}"))
                await_keys(url)
                results[name] = run_client(name, python, url=url, key=key)
                stack.check()
    print(json.dumps(results, indent=2))
    return int(any("failed" in one for one in results.values()))


if __name__ == "__main__":
    sys.exit(main())
