"""OpenAI's SDK in its majors and Anthropic's, each in a venv of its own, and the README's client, against everything
at once.

The venvs are made from the package index on first use and kept under ``.venv/sdk``; without one these tests are
skipped, and say so.
"""

import asyncio
import json
import os
import re
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from benchmarks.kept_venv import NoIndex, kept_python
from db.engine import make_engine
from db.tenants import Tenants
from routing.fleet import Fleet
from settings import ROOT, Settings
from workers.local_stack import LocalStack

pytestmark = pytest.mark.timeout(1200)  # a new venv has to be filled from the package index first
README = ROOT / "README.md"
CLIENTS = Path(__file__).parent / "sdk_clients"
VERSIONS = {"1.x": "1.109.1", "2.x": "2.54.0", "3.x": "3.57.0"}
"""The last or newest of each major of OpenAI's when this was written."""
ANTHROPIC, ANTHROPIC_VERSION = "anthropic", "2.14.0"
SDKS = (*VERSIONS, ANTHROPIC)
*_, NEWEST = VERSIONS
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
    tenants = [*SDKS, "readme"]
    keys = {name: asyncio.run(make_key(stack.settings.database_url, f"tenant-{name}")) for name in tenants}
    await_keys(stack.urls["api"])
    return keys


@pytest.fixture
def python_of(capsys: pytest.CaptureFixture[str]) -> Callable[[str], Path]:
    """The Python of a version. Where there can be none, nobody is to take the silence for success."""

    def wait_for(name: str) -> Path:
        package, version = ("anthropic", ANTHROPIC_VERSION) if name == ANTHROPIC else ("openai", VERSIONS[name])
        try:
            return kept_python(f"{package}-{version}", f"{package}=={version}")
        except NoIndex as error:
            words = f"THE OFFICIAL SDK {name} WAS NOT RUN: {error}"
            with capsys.disabled():
                print(f"\n{words}")
            pytest.skip(words)

    return wait_for


@pytest.mark.long
@pytest.mark.parametrize("sdk", SDKS)
def test_the_official_sdk_drives_all_of_it(
    stack: LocalStack, keys: dict[str, str], python_of: Callable[[str], Path], sdk: str
) -> None:
    ran = run_client(sdk, python_of(sdk), url=stack.urls["api"], key=keys[sdk])
    assert "failed" not in ran, ran["failed"]
    assert ran.get("openai", ran.get("anthropic")) == VERSIONS.get(sdk, ANTHROPIC_VERSION)


def test_the_client_of_the_readme_runs_as_it_stands(
    stack: LocalStack, keys: dict[str, str], python_of: Callable[[str], Path]
) -> None:
    (client,) = [block for block in re.findall(r"```python\n(.*?)```", README.read_text(), re.S) if "OpenAI" in block]
    lines = [one for one in client.splitlines() if one]
    assert len(lines) <= 12
    environ = {
        "PATH": os.environ["PATH"],
        "OPENAI_BASE_URL": stack.urls["api"],
        "OPENAI_API_KEY": keys["readme"],
    }
    ran = subprocess.run(
        [python_of(NEWEST), "-c", client], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    head, *answers = ran.stdout.splitlines()
    asked = map(json.loads, (ROOT / "examples" / "queries.jsonl").read_text().splitlines())
    assert head.startswith("completed")
    expected = {one.get("custom_id") or one["id"] for one in asked}
    assert {json.loads(one)["custom_id"] for one in answers} == expected
    # Its completion_window is a deadline, and the fleet names cheaper lanes.
    with psycopg.connect(stack.settings.database_url.replace("+psycopg", "")) as connection:
        (bought,) = connection.execute(
            "SELECT count(*) FROM calls WHERE lane IS NOT NULL AND outcome = 'ok'"
        ).fetchone() or (0,)
    assert bought


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
