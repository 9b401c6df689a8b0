"""What integration tests share."""

import asyncio
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

import redis_client
from cli.main import app
from routing.fleet import Fleet
from settings import Settings
from tests.integration.ledger_fixtures import OnBench, Story, opened


@pytest.fixture
def on_bench(database_url: str, shipped_fleet: Fleet) -> OnBench:
    """Runs a coroutine function with a bench."""

    def run(story: Story) -> None:
        async def play() -> None:
            async with opened(database_url, shipped_fleet) as bench:
                await story(bench)

        asyncio.run(play())

    return run


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis that answers late, as on a machine that does other things, is not away."""
    monkeypatch.setattr(redis_client, "PATIENCE_S", 20.0)


@pytest.fixture
def command(settings: Settings) -> Any:
    """The command on the test's database."""
    env = {
        "POINTSMAN_HOME": str(settings.home),
        "DATABASE_URL": settings.database_url,
        "BROKER_URL": "redis://127.0.0.1:1",  # named, so that none is started; nobody asks it
    }

    def run(*arguments: str) -> Result:
        return CliRunner(env=env).invoke(app, list(arguments))

    return run
