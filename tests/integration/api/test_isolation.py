"""Nothing of another tenant is ever visible: every route, asked with another tenant's names."""

import itertools
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from api.middleware import RequestMiddleware
from db.spend import sum_spend
from db.workload_sums import sum_workloads
from tests.integration.api.conftest import Served, line
from tests.integration.api.test_batch_routes import create, until, upload


@dataclass(frozen=True)
class Theirs:
    """What the other tenant has."""

    input_file: str
    output_file: str
    batch: str
    open_batch: str
    webhook: str


THEM = "zanzibar"
CUSTOM_IDS = ("zanzibar-1",)
"""Their name and their lines': words that are nowhere else."""


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


def dry_run(client: httpx.Client, theirs: Theirs) -> None:
    asked = {"endpoint": "/v1/chat/completions", "completion_window": "24h", "input_file_id": theirs.input_file}
    nothing_there(client.post("/v1/pointsman/dry_run", json=asked))


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


def find_by_key(client: httpx.Client, theirs: Theirs) -> None:
    nothing_there(client.get("/v1/pointsman/batches", params={"idempotency_key": "theirs"}))


def explain(client: httpx.Client, theirs: Theirs) -> None:
    path = f"/v1/pointsman/batches/{theirs.batch}/explain"
    nothing_there(client.get(path, params={"custom_id": CUSTOM_IDS[0]}))


def pause(client: httpx.Client, theirs: Theirs) -> None:
    ids = (theirs.batch, theirs.open_batch)
    nothing_there(*(client.post(f"/v1/pointsman/batches/{id_}/{do}") for id_ in ids for do in ("pause", "resume")))


def raise_budget(client: httpx.Client, theirs: Theirs) -> None:
    nothing_there(client.post(f"/v1/pointsman/batches/{theirs.open_batch}/budget", json={"max_cost_usd": 9.0}))


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


def search(client: httpx.Client, theirs: Theirs) -> None:
    nothing_there(client.get(f"/v1/pointsman/batches/{theirs.batch}/queries"))


def spend(client: httpx.Client, theirs: Theirs) -> None:
    for by in ("tenant", "key", "workload", "tier", "day"):
        empty(client.get("/v1/pointsman/spend", params={"by": by}))


def workload(client: httpx.Client, theirs: Theirs) -> None:
    told = client.get("/v1/pointsman/workload", params={"name": "theirs"}).json()
    assert (told["spend"]["data"], told["grades"], told["versions"]) == ([], [], [])


def sample(client: httpx.Client, theirs: Theirs) -> None:
    empty(client.get("/v1/pointsman/labels/sample"))


def post_label(client: httpx.Client, theirs: Theirs) -> None:
    given = {"custom_id": CUSTOM_IDS[0], "grade": 1}
    nothing_there(*(client.post("/v1/pointsman/labels", json=given | {"batch_id": id_}) for id_ in (theirs.batch, "x")))


def metrics(client: httpx.Client, theirs: Theirs) -> None:
    refused = client.get("/metrics")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "operators_only")


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
    ("GET", "/v1/pointsman/batches"): find_by_key,
    ("GET", "/v1/pointsman/batches/{batch_id}/explain"): explain,
    ("GET", "/v1/pointsman/batches/{batch_id}/report"): report,
    ("POST", "/v1/pointsman/batches/{batch_id}/pause"): pause,
    ("POST", "/v1/pointsman/batches/{batch_id}/resume"): pause,
    ("POST", "/v1/pointsman/batches/{batch_id}/budget"): raise_budget,
    ("GET", "/v1/pointsman/batches/{batch_id}/events"): events,
    ("POST", "/v1/pointsman/dry_run"): dry_run,
    ("GET", "/v1/pointsman/figures"): figures,
    ("GET", "/v1/pointsman/live"): live,
    ("GET", "/v1/pointsman/queries"): find,
    ("GET", "/v1/pointsman/batches/{batch_id}/queries"): search,
    ("GET", "/v1/pointsman/spend"): spend,
    ("GET", "/v1/pointsman/workload"): workload,
    ("GET", "/v1/pointsman/labels/sample"): sample,
    ("POST", "/v1/pointsman/labels"): post_label,
    ("GET", "/metrics"): metrics,
}


@pytest.fixture(scope="module")
def theirs(module_served: Served) -> Theirs:
    """The other tenant's things."""
    with module_served.client(module_served.key(THEM)) as client:
        file = upload(client, [line(CUSTOM_IDS[0])])
        ended = create(client, file["id"])["id"]
        until(client, ended, "in_progress")
        module_served.answer(ended)
        output = until(client, ended, "completed")["output_file_id"]
        asked = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        going = client.post("/v1/batches", json=asked, headers={"idempotency-key": "theirs"}).json()["id"]
        until(client, going, "in_progress")
        hook = {"name": "hook", "url": "https://example.com", "event_types": ["batch.completed"]}
        webhook = client.post("/v1/webhook_endpoints", json=hook).json()["id"]
    assert module_served.play(lambda bench: sum_spend(bench.engine)) == 1
    assert module_served.play(lambda bench: sum_workloads(bench.engine)) == 1
    return Theirs(file["id"], output, ended, going, webhook)


@pytest.fixture
def stranger(module_served: Served, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """A client of yet another tenant, which has nothing."""
    with module_served.client(module_served.key(f"us-{abs(hash(request.node.name))}")) as client:
        yield client


def routes(app: Any) -> set[tuple[str, str]]:
    """The route table: also what a schema does not show, and whoever added it."""
    contexts = iter_route_contexts(app.routes)
    found = {(method, str(route.path).replace(":path}", "}")) for route in contexts for method in route.methods or ()}
    return {(method, path) for method, path in found if method != "HEAD"}


def locked(app: Any) -> set[tuple[str, str]]:
    """The routes that need a key."""
    (gate,) = [one for one in app.user_middleware if one.cls is RequestMiddleware]
    return {(method, path) for method, path in routes(app) if path not in gate.kwargs["keyless_paths"]}


def test_the_routes_are_those_that_there_are(module_served: Served) -> None:
    assert set(PROBES) <= locked(module_served.app)


@pytest.mark.parametrize(("method", "path"), sorted(PROBES))
def test_a_route_shows_nothing_of_another_tenant(
    stranger: httpx.Client, theirs: Theirs, module_served: Served, method: str, path: str
) -> None:
    PROBES[method, path](stranger, theirs)


def names_of(theirs: Theirs) -> set[str]:
    return {THEM, *CUSTOM_IDS, *(getattr(theirs, field.name) for field in fields(theirs))}


def filled(path: str, theirs: Theirs) -> Iterator[str]:
    """The path with each of their names in it."""
    for name in sorted(names_of(theirs)):
        yield re.sub(r"\{[^}]*\}", name, path)
        if "{" not in path:
            return


def beginning(client: httpx.Client, method: str, path: str, **asked: Any) -> tuple[int, str]:
    """Status and text of a response; of a stream of events, what comes within a moment."""
    got, began = b"", time.monotonic()
    with client.stream(method, path, timeout=60.0, **asked) as answer:
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            return answer.status_code, answer.read().decode()
        answer.request.extensions["timeout"]["read"] = 1.0  # from here on: it may fall silent
        with suppress(httpx.ReadTimeout):
            for chunk in answer.iter_bytes():
                got += chunk
                if time.monotonic() > began + 1.0:
                    break
        return answer.status_code, got.decode()


def test_no_route_whoever_added_it_shows_what_is_theirs(module_served: Served, theirs: Theirs) -> None:
    names = names_of(theirs)
    asked = {
        "batch_id": theirs.batch,
        "batch": theirs.batch,
        "input_file_id": theirs.input_file,
        "custom_id": CUSTOM_IDS[0],
        "tenant": THEM,
    }
    with module_served.client(module_served.key("us-and-every-route")) as client:
        for method, path in sorted(routes(module_served.app)):
            bodies: list[Any] = [None] if method == "GET" else [{}, asked, [asked]]
            for place, body in itertools.product(filled(path, theirs), bodies):
                for params in ({}, asked):
                    sent = {"params": params} if body is None else {"params": params, "json": body}
                    status, text = beginning(client, method, place, **sent)
                    assert status < 500, (method, place, text)
                    if status >= 400:  # it may repeat what was asked for, and no more
                        text = re.sub("|".join(re.escape(name) for name in (place, *asked.values())), "", text)
                        text = re.sub("|".join(map(re.escape, names & set(place.split("/")))) or "$^", "", text)
                    assert [name for name in names if name in text] == [], (method, place, text)


def test_every_route_whoever_added_it_asks_for_a_key(module_served: Served, theirs: Theirs) -> None:
    for key in ("any", "sk-wrong", "pm-000000000000-" + "A" * 43):
        with module_served.client(key) as client:
            for method, path in sorted(locked(module_served.app)):
                answer = client.request(method, next(filled(path, theirs)))
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key"), path
                assert answer.headers["www-authenticate"] == "Bearer"


def test_after_all_that_everything_of_theirs_is_still_there(module_served: Served, theirs: Theirs) -> None:
    with module_served.client(module_served.key(THEM)) as client:
        assert client.get(f"/v1/files/{theirs.input_file}").status_code == 200
        assert client.get(f"/v1/files/{theirs.output_file}/content").status_code == 200
        assert client.get(f"/v1/batches/{theirs.open_batch}").json()["status"] == "in_progress"
        assert client.get(f"/v1/webhook_endpoints/{theirs.webhook}").json()["url"] == "https://example.com"
