"""OpenAI's SDK in its majors and Anthropic's, each in a venv of its own, against everything at once.

The venvs are made from the package index on first use and kept under ``.venv/sdk``; without one these tests are
skipped, and say so.
"""

import asyncio
import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.engine import make_engine
from db.tenants import Tenants
from routing.fleet import Fleet
from settings import Settings
from tests.sdks import ANTHROPIC, ANTHROPIC_VERSION, SDKS, VERSIONS, sdk_python
from workers.local_stack import LocalStack

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1200),  # a new venv has to be filled from the package index first
]
CLIENTS = Path(__file__).parent / "sdk_clients"
ROLES = [("route", "small", "medium", "large", "special", "embeddings", "fallback", "ingest"), ("feeder",)]


@pytest.fixture(scope="module")
def stack(shipped_fleet: Fleet) -> Iterator[LocalStack]:
    """The shipped fleet, its classifier included, with one worker for all stages."""
    with tempfile.TemporaryDirectory(prefix="pointsman-sdk-") as place, pytest.MonkeyPatch.context() as patch:
        Path(place).chmod(0o711)  # Postgres is another user
        patch.setenv("POINTSMAN_API_PRIVATE_WEBHOOKS", "1")  # the client listens on loopback
        settings = Settings.load({"POINTSMAN_HOME": f"{place}/home"})
        with LocalStack(settings, shipped_fleet, roles=ROLES, api=True) as running:
            yield running
            running.check()


@pytest.fixture(scope="module")
def keys(stack: LocalStack) -> dict[str, str]:
    """A key for each tenant."""
    keys = {name: asyncio.run(make_key(stack.settings.database_url, f"tenant-{name}")) for name in SDKS}
    await_keys(stack.urls["api"])
    return keys


@pytest.mark.parametrize("sdk", SDKS)
def test_the_official_sdk_drives_all_of_it(stack: LocalStack, keys: dict[str, str], sdk: str) -> None:
    ran = run_client(sdk, sdk_python(sdk), url=stack.urls["api"], key=keys[sdk])
    assert "failed" not in ran, ran["failed"]
    assert ran.get("openai", ran.get("anthropic")) == VERSIONS.get(sdk, ANTHROPIC_VERSION)


def run_client(sdk: str, python: Path, *, url: str, key: str) -> dict[str, object]:
    """What the client of one of `SDKS` printed, or what it failed with."""
    client = CLIENTS / ("anthropic_client.py" if sdk == ANTHROPIC else "openai_client.py")
    environ = {
        "OPENAI_BASE_URL": url,
        "OPENAI_API_KEY": key,
        "ANTHROPIC_BASE_URL": url.removesuffix("/v1"),
        "ANTHROPIC_API_KEY": key,
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
    }
    ran = subprocess.run([python, client], env=environ, capture_output=True, text=True, timeout=300)
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
