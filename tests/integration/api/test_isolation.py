"""Nothing of another tenant is ever visible: every route, asked with another tenant's names."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from api.gate import OPEN
from tests.integration.api.conftest import Served, line
from tests.integration.api.test_batches import create, until, upload


@dataclass(frozen=True)
class Theirs:
    """What the other tenant has."""

    input_file: str
    output_file: str
    batch: str
    open_batch: str
    webhook: str


Probe = Callable[[httpx.Client, Theirs], list[httpx.Response]]


def nothing_there(*answers: httpx.Response) -> None:
    """Exactly what one hears of what does not exist."""
    for answer in answers:
        assert answer.status_code in (400, 404), answer.text
        assert answer.json()["error"]["type"] == "invalid_request_error"


def empty(answer: httpx.Response) -> None:
    """A list without anything of theirs."""
    assert answer.status_code == 200
    assert answer.json()["data"] == []


def post_file(client: httpx.Client, theirs: Theirs) -> None:
    upload(client, [line("mine")])
    assert theirs.input_file not in client.get("/v1/files").text


def list_files(client: httpx.Client, theirs: Theirs) -> None:
    empty(client.get("/v1/files"))
    nothing_there(client.get("/v1/files", params={"after": theirs.input_file}))


def get_file(client: httpx.Client, theirs: Theirs) -> None:
    nothing_there(*(client.get(f"/v1/files/{id_}") for id_ in (theirs.input_file, theirs.output_file)))


def delete_file(client: httpx.Client, theirs: Theirs) -> None:
    nothing_there(*(client.delete(f"/v1/files/{id_}") for id_ in (theirs.input_file, theirs.output_file)))


def get_content(client: httpx.Client, theirs: Theirs) -> None:
    nothing_there(*(client.get(f"/v1/files/{id_}/content") for id_ in (theirs.input_file, theirs.output_file)))


def post_batch(client: httpx.Client, theirs: Theirs) -> None:
    asked = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    for id_ in (theirs.input_file, theirs.output_file):
        nothing_there(client.post("/v1/batches", json=asked | {"input_file_id": id_}))
    # Their idempotency key is not ours.
    mine = upload(client, [line("mine")])["id"]
    headers = {"idempotency-key": "theirs"}
    answer = client.post("/v1/batches", json=asked | {"input_file_id": mine}, headers=headers)
    assert answer.json()["id"] not in (theirs.batch, theirs.open_batch)


def list_batches(client: httpx.Client, theirs: Theirs) -> None:
    empty(client.get("/v1/batches"))
    nothing_there(client.get("/v1/batches", params={"after": theirs.batch}))


def get_batch(client: httpx.Client, theirs: Theirs) -> None:
    nothing_there(*(client.get(f"/v1/batches/{id_}") for id_ in (theirs.batch, theirs.open_batch)))


def cancel_batch(client: httpx.Client, theirs: Theirs) -> None:
    nothing_there(*(client.post(f"/v1/batches/{id_}/cancel") for id_ in (theirs.batch, theirs.open_batch)))


def post_chat(client: httpx.Client, theirs: Theirs) -> None:
    # It waits for an answer that no worker gives here; what it makes is this tenant's alone.
    answer = client.post("/v1/chat/completions", json={"messages": []})
    assert answer.status_code == 400
    assert theirs.batch not in answer.text


def models(client: httpx.Client, theirs: Theirs) -> None:
    # The fleet is everybody's.
    assert theirs.batch not in client.get("/v1/models").text
    assert client.get("/v1/models/auto").status_code == 200


def list_webhooks(client: httpx.Client, theirs: Theirs) -> None:
    empty(client.get("/v1/webhook_endpoints"))
    nothing_there(client.get("/v1/webhook_endpoints", params={"after": theirs.webhook}))


def post_webhook(client: httpx.Client, theirs: Theirs) -> None:
    asked = {"name": "mine", "url": "https://example.com", "event_types": ["batch.completed"]}
    assert client.post("/v1/webhook_endpoints", json=asked).json()["id"] != theirs.webhook


def get_webhook(client: httpx.Client, theirs: Theirs) -> None:
    nothing_there(client.get(f"/v1/webhook_endpoints/{theirs.webhook}"))


def change_webhook(client: httpx.Client, theirs: Theirs) -> None:
    nothing_there(client.post(f"/v1/webhook_endpoints/{theirs.webhook}", json={"url": "https://example.org"}))


def delete_webhook(client: httpx.Client, theirs: Theirs) -> None:
    nothing_there(client.delete(f"/v1/webhook_endpoints/{theirs.webhook}"))


def rotate_secret(client: httpx.Client, theirs: Theirs) -> None:
    nothing_there(client.post(f"/v1/webhook_endpoints/{theirs.webhook}/rotate_secret"))


def explain(client: httpx.Client, theirs: Theirs) -> None:
    path = f"/v1/pointsman/batches/{theirs.batch}/explain"
    nothing_there(client.get(path, params={"custom_id": "theirs"}))


def report(client: httpx.Client, theirs: Theirs) -> None:
    nothing_there(client.get(f"/v1/pointsman/batches/{theirs.batch}/report"))


def events(client: httpx.Client, theirs: Theirs) -> None:
    nothing_there(client.get(f"/v1/pointsman/batches/{theirs.batch}/events"))


def figures(client: httpx.Client, theirs: Theirs) -> None:
    told = client.get("/v1/pointsman/figures").json()
    assert (told["open"], told["batches"], told["recent"]["ended"]) == (0, [], {})


def live(client: httpx.Client, theirs: Theirs) -> None:
    with client.stream("GET", "/v1/pointsman/live") as response:
        first = next(text for text in response.iter_lines() if text.startswith("data: "))
    assert theirs.batch not in first
    assert '"open":0' in first


def find(client: httpx.Client, theirs: Theirs) -> None:
    empty(client.get("/v1/pointsman/queries", params={"custom_id": "theirs"}))


def metrics(client: httpx.Client, theirs: Theirs) -> None:
    told = client.get("/metrics").text
    assert not any(name in told for name in (theirs.batch, theirs.input_file, "them"))


PROBES: dict[tuple[str, str], Callable[[httpx.Client, Theirs], None]] = {
    ("POST", "/v1/files"): post_file,
    ("GET", "/v1/files"): list_files,
    ("GET", "/v1/files/{file_id}"): get_file,
    ("DELETE", "/v1/files/{file_id}"): delete_file,
    ("GET", "/v1/files/{file_id}/content"): get_content,
    ("POST", "/v1/batches"): post_batch,
    ("GET", "/v1/batches"): list_batches,
    ("GET", "/v1/batches/{batch_id}"): get_batch,
    ("POST", "/v1/batches/{batch_id}/cancel"): cancel_batch,
    ("POST", "/v1/chat/completions"): post_chat,
    ("GET", "/v1/models"): models,
    ("GET", "/v1/models/{model}"): models,
    ("GET", "/v1/webhook_endpoints"): list_webhooks,
    ("POST", "/v1/webhook_endpoints"): post_webhook,
    ("GET", "/v1/webhook_endpoints/{webhook_endpoint_id}"): get_webhook,
    ("POST", "/v1/webhook_endpoints/{webhook_endpoint_id}"): change_webhook,
    ("DELETE", "/v1/webhook_endpoints/{webhook_endpoint_id}"): delete_webhook,
    ("POST", "/v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret"): rotate_secret,
    ("GET", "/v1/pointsman/batches/{batch_id}/explain"): explain,
    ("GET", "/v1/pointsman/batches/{batch_id}/report"): report,
    ("GET", "/v1/pointsman/batches/{batch_id}/events"): events,
    ("GET", "/v1/pointsman/figures"): figures,
    ("GET", "/v1/pointsman/live"): live,
    ("GET", "/v1/pointsman/queries"): find,
    ("GET", "/metrics"): metrics,
}


@pytest.fixture(scope="module")
def theirs(module_served: Served) -> Theirs:
    """The other tenant's things."""
    with module_served.client(module_served.key("them")) as client:
        file = upload(client, [line("theirs")])
        ended = create(client, file["id"])["id"]
        until(client, ended, "in_progress")
        module_served.answer(ended)
        output = until(client, ended, "completed")["output_file_id"]
        asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        going = client.post("/v1/batches", json=asked, headers={"idempotency-key": "theirs"}).json()["id"]
        until(client, going, "in_progress")
        hook = {"name": "hook", "url": "https://example.com", "event_types": ["batch.completed"]}
        webhook = client.post("/v1/webhook_endpoints", json=hook).json()["id"]
    return Theirs(file["id"], output, ended, going, webhook)


@pytest.fixture
def stranger(module_served: Served, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """A client of yet another tenant, which has nothing."""
    with module_served.client(module_served.key(f"us-{abs(hash(request.node.name))}")) as client:
        yield client


def routes(app: Any) -> set[tuple[str, str]]:
    """The route table, but for what needs no key."""
    paths: dict[str, dict[str, Any]] = app.openapi()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods if path not in OPEN}


def test_every_route_has_a_probe(module_served: Served) -> None:
    assert routes(module_served.app) == set(PROBES)


@pytest.mark.parametrize(("method", "path"), sorted(PROBES))
def test_a_route_shows_nothing_of_another_tenant(
    stranger: httpx.Client, theirs: Theirs, module_served: Served, method: str, path: str
) -> None:
    PROBES[method, path](stranger, theirs)


@pytest.mark.parametrize(("method", "path"), sorted(PROBES))
def test_a_route_asks_for_a_key(module_served: Served, theirs: Theirs, method: str, path: str) -> None:
    for key in ("any", "sk-wrong", "pm-000000000000-" + "A" * 43):
        with module_served.client(key) as client:
            answer = client.request(method, path.replace("{batch_id}", theirs.batch))
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
            assert answer.headers["www-authenticate"] == "Bearer"


def test_after_all_that_everything_of_theirs_is_still_there(module_served: Served, theirs: Theirs) -> None:
    with module_served.client(module_served.key("them")) as client:
        assert client.get(f"/v1/files/{theirs.input_file}").status_code == 200
        assert client.get(f"/v1/files/{theirs.output_file}/content").status_code == 200
        assert client.get(f"/v1/batches/{theirs.open_batch}").json()["status"] == "in_progress"
        assert client.get(f"/v1/webhook_endpoints/{theirs.webhook}").json()["url"] == "https://example.com"
