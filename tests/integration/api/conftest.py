"""The service on a real socket and a real Postgres; a bench plays the workers and the feeder."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn

from api.__main__ import server_config
from api.api_config import ApiConfig
from api.app import create_app
from db.call_result import CallResult
from db.ledger_types import AnswerRecord, DecisionRecord, Transition
from db.tenants import Tenants
from routing.fleet import Fleet
from routing.lifecycle import ROUTE, MoveKind, State
from routing.outcome import Completion, Failure, FailureKind, Usage
from settings import Settings
from tests.databases import Databases
from tests.integration.ledger_fixtures import WHY, LedgerHarness, advance, opened

PATIENCE_S = 60.0
"""For what comes in a moment, unless the machine does other things. It only keeps a vain wait from going on."""


@dataclass(frozen=True)
class Served:
    """A running service."""

    url: str
    database_url: str
    fleet: Fleet
    app: Any

    def client(self, key: str = "any") -> httpx.Client:
        """A client with a bearer key."""
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {key}"}, timeout=PATIENCE_S)

    def play(self, story: Callable[[LedgerHarness], Any]) -> Any:
        """Runs a coroutine function with a bench on the service's database."""

        async def run() -> Any:
            async with opened(self.database_url, self.fleet) as bench:
                return await story(bench)

        return asyncio.run(run())

    def key(self, tenant: str, **limits: Any) -> str:
        async def make(bench: LedgerHarness) -> str:
            return await Tenants(bench.engine).create_key(tenant=tenant, name="test", **limits)

        return str(self.play(make))

    def answer(self, public_id: str, *, failing: int = 0, status: int | None = None, why: DecisionRecord = WHY) -> None:
        """Answers what is open of a batch, but has the first ``failing`` fail; then ends it, as the feeder would."""

        async def story(bench: LedgerHarness) -> None:
            rows = await bench.rows(
                "SELECT q.id FROM queries AS q JOIN batches AS b ON b.id = q.batch_id"
                " WHERE b.public_id = :h AND q.finished_at IS NULL ORDER BY q.id",
                h=public_id,
            )
            for place, row in enumerate(rows):
                await finish_one(bench, row.id, fails=place < failing, status=status, why=why)
            await bench.ledger.end_batches()

        self.play(story)


async def finish_one(
    bench: LedgerHarness, query_id: int, *, fails: bool = False, status: int | None = None, why: DecisionRecord = WHY
) -> None:
    claim = await bench.claim(ROUTE, query_id)
    await bench.ledger.transition(advance(query_id, claim.epoch, ROUTE, "small"))
    claim, sent = await bench.send(query_id)
    if fails:
        failure = Failure(FailureKind.MALFORMED, "a test", status=status, request_id="req-no")
        moved = Transition(
            query_id, claim.epoch, "small", MoveKind.FAIL, "small", State.FAILED, WHY, [CallResult(sent, failure)]
        )
    else:
        body = {"id": f"chatcmpl-{query_id}", "object": "chat.completion", "choices": [{"message": {"content": "yes"}}]}
        done = Completion("yes", "stop", Usage(10, 5), body, 12.0, sent.model.model)
        answer = AnswerRecord(sent.call_id, tier="small", model=sent.model.model, accepted=True, response=body)
        moved = Transition(
            query_id, claim.epoch, "small", MoveKind.FINISH, "small", State.DONE, why, [CallResult(sent, done)], answer
        )
    await bench.ledger.transition(moved)


class Server(uvicorn.Server):
    """In a thread, where no signals are to be had."""

    def install_signal_handlers(self) -> None:
        """None."""


CONFIG = ApiConfig(
    max_file_bytes=3_000_000,
    max_batch_lines=1000,
    chat_timeout_s=PATIENCE_S,
    private_webhooks=True,
    status_ttl_s=0.02,
    poll_s=0.02,
)
"""Small limits, so that tests reach them, and short waits."""


@contextmanager
def serving(settings: Settings, fleet: Fleet, config: ApiConfig = CONFIG) -> Iterator[Served]:
    """A running service for as long as the block."""
    app = create_app(settings, fleet, config)
    server = Server(server_config(app, host="127.0.0.1", port=0))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(f"http://127.0.0.1:{port}", settings.database_url, fleet, app)
    finally:
        server.should_exit = True
        thread.join(timeout=PATIENCE_S)
        assert not thread.is_alive()


@pytest.fixture
def served(settings: Settings, shipped_fleet: Fleet) -> Iterator[Served]:
    """A running service, this test's alone."""
    with serving(settings, shipped_fleet) as served:
        yield served


@pytest.fixture(scope="module")
def module_served(
    databases: Databases, template_database: str, shipped_fleet: Fleet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A running service that the tests of a file share."""
    name = databases.clone(template_database)
    home = str(tmp_path_factory.mktemp("home"))
    environ = {"POINTSMAN_HOME": home, "DATABASE_URL": databases.of(name), "BROKER_URL": "redis://127.0.0.1:1/0"}
    try:
        with serving(Settings.load(environ), shipped_fleet) as served:
            yield served
    finally:
        databases.drop(name)


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    """A client without a key, as the default tenant."""
    with served.client() as client:
        yield client


def wait_until(check: Callable[[], Any], *, patience_s: float = PATIENCE_S) -> Any:
    """What ``check`` gives as soon as it gives something."""
    deadline = time.monotonic() + patience_s
    while not (found := check()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


def line(custom_id: str, **body: Any) -> dict[str, Any]:
    given = {"model": "auto", "messages": [{"role": "user", "content": "Is it?"}]} | body
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": given}
