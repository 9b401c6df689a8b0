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
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from benchmarks.sdk_matrix import (
    ANTHROPIC_VERSION,
    SDKS,
    VERSIONS,
    NoIndex,
    await_keys,
    make_key,
    run_client,
    sdk_python,
)
from routing.fleet import Fleet
from settings import ROOT, Settings
from workers.local_stack import LocalStack

pytestmark = pytest.mark.timeout(1200)  # a new venv has to be filled from the package index first
README = ROOT / "README.md"
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
        try:
            return sdk_python(name)
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
