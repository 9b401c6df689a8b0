"""Uses the stack of docker-compose.yml as its users do, and breaks it: run.sh starts this, with plain Python.

COMPOSE and NETWORK are the engine's commands, SECRETS the folder of the passwords, TIMES the file of times so far.
"""

import base64
import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

API: Final = "http://127.0.0.1:8080"
FLOWER: Final = "http://127.0.0.1:5555"
PATIENCE_S: Final = 300.0
STOP_S: Final = 60.0
"""A worker without a broker stops within this: far below its grace period, far above what it takes."""
WORKERS: Final = ("route", "small", "medium", "large", "special", "embeddings", "fallback", "ingest")
RESTARTED: Final = (
    *(tuple(f"worker-{stage}" for stage in some) for some in (WORKERS[:4], WORKERS[4:])),
    ("feeder", "flower", "api"),
    ("redis",),
    ("postgres",),
)
"""One group after the other, each at once."""
SERVICES: Final = (*(service for group in RESTARTED for service in group), "simulator")

times: list[tuple[str, float]] = []


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    times.append((what, time.monotonic() - began))
    print(f"{what:<60} {times[-1][1]:6.1f} s", flush=True)


def run(command: str, *arguments: str) -> str:
    """Output of a command; raises CalledProcessError with its messages."""
    done = subprocess.run([*shlex.split(command), *arguments], capture_output=True, text=True, timeout=600)
    if done.returncode:
        print(done.stdout, done.stderr, file=sys.stderr)
        done.check_returncode()
    return done.stdout


def compose(*arguments: str) -> str:
    return run(os.environ["COMPOSE"], *arguments)


def until(what: str, holds: Callable[[], bool], *, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline, f"after {patience_s:g} s not yet: {what}"
        time.sleep(1)


def restart(*services: str) -> None:
    """Stops services and starts them. On a busy machine podman may need a second request for either."""

    def done(command: str) -> bool:
        try:
            compose(command, *services)
        except subprocess.CalledProcessError as error:
            # It gives a published port back moments after the stop, and waits 5 s for the end of a process.
            if not re.search("address already in use|timed out waiting for file", str(error.stderr)):
                raise
            return False
        return True

    for command in ("stop", "start"):
        with timed(f"  {command} {services[0]}"):
            until(f"{command} {', '.join(services)}", lambda command=command: done(command), patience_s=60)


def states(*services: str) -> dict[str, dict[str, Any]]:
    text = compose("ps", "-a", "--format", "json", *services).strip()
    found = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]
    return {each["Service"]: each for each in found}


def are_healthy(*services: str) -> bool:
    found = states(*services)
    return all(found.get(service, {}).get("Health") == "healthy" for service in services)


class Client:
    """The HTTP API with a key; a request is repeated while the API restarts."""

    def __init__(self, key: str) -> None:
        self._headers = {"Authorization": f"Bearer {key}"}

    def ask(self, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> bytes:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                request = urllib.request.Request(API + path, body, {**self._headers, **(headers or {})})
                with urllib.request.urlopen(request, timeout=60) as response:
                    return bytes(response.read())
            except urllib.error.HTTPError as error:
                if error.code < 500 or time.monotonic() > deadline:
                    print(error.read().decode(), file=sys.stderr)
                    raise
            except OSError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.5)

    def submit(self, lines: int, window: str = "1m") -> str:
        """A file of ``lines`` queries as a batch; returns the batch's id. In a day it is bought in batches."""
        boundary, texts = uuid4().hex, ("Hi {}!", "Summarize the history of number {}.", "Prove that {} is no square.")
        content = "".join(
            json.dumps({"custom_id": f"q-{n}", "query": texts[n % len(texts)].format(n)}) + "\n" for n in range(lines)
        )
        parts = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n',
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="q.jsonl"\r\n'
            f"Content-Type: application/jsonl\r\n\r\n{content}\r\n--{boundary}--\r\n",
        ]
        form = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        file = json.loads(self.ask("/v1/files", "".join(parts).encode(), form))["id"]
        order = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": window}
        body = json.dumps(order).encode()
        return str(json.loads(self.ask("/v1/batches", body, {"Content-Type": "application/json"}))["id"])

    def batch(self, batch: str) -> dict[str, Any]:
        return dict(json.loads(self.ask(f"/v1/batches/{batch}")))

    def output(self, batch: str) -> bytes:
        return self.ask(f"/v1/files/{self.batch(batch)['output_file_id']}/content")

    def await_answers(self, batch: str, lines: int) -> None:
        """Wait for the batch's end; every line has exactly one answer then."""
        until(f"{batch} has ended", lambda: self.batch(batch)["status"] in ("completed", "failed", "expired"))
        found = self.batch(batch)
        assert found["request_counts"] == {"total": lines, "completed": lines, "failed": 0}, found
        ids = [json.loads(line)["custom_id"] for line in self.output(batch).splitlines()]
        assert sorted(ids) == sorted(f"q-{n}" for n in range(lines)), (
            f"{len(ids)} lines, {len(set(ids))} of them different"
        )


def status_without_login(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def check_surroundings() -> None:
    """Flower and the dashboard answer, to those who may ask; the containers are as closed as their file says."""
    login = (Path(os.environ["SECRETS"]) / "flower_login").read_text().strip()
    basic = {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
    with urllib.request.urlopen(urllib.request.Request(f"{FLOWER}/api/workers", headers=basic), timeout=60) as response:
        assert response.status == 200
    for url in (f"{FLOWER}/api/workers", f"{API}/v1/batches"):
        assert status_without_login(url) == 401, f"{url} answers everybody"
    with urllib.request.urlopen(f"{API}/dashboard", timeout=60) as page:
        assert b"<html" in page.read()
    for service in (*(f"worker-{stage}" for stage in WORKERS), "feeder", "api", "flower", "simulator"):
        script = "id -u; touch /x 2>/dev/null && echo writable; grep CapEff /proc/self/status; cat /proc/1/environ"
        uid, capabilities, environ = compose("exec", "-T", service, "sh", "-c", script).split("\n", 2)
        assert (uid, capabilities.split()[1].strip("0")) == ("10001", ""), (service, uid, capabilities)
        for secret in Path(os.environ["SECRETS"]).iterdir():
            assert secret.read_text().strip() not in environ, f"{secret.name} is in the environment of {service}"


def restart_under_load(client: Client) -> list[tuple[str, int]]:
    """Restart one group of services after the other under load; returns the batches of the load and their lines."""
    submitted: list[tuple[str, int]] = []
    is_over = threading.Event()
    problems: list[BaseException] = []

    def load() -> None:
        try:
            while not is_over.is_set():
                submitted.append((client.submit(100), 100))
                is_over.wait(2)
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        for group in RESTARTED:
            named = ", ".join(group).replace(", worker-", ", ")
            with timed(f"restart of {named} under load"):
                restart(*group)
                until(f"{named} are healthy", lambda group=group: are_healthy(*group))
    finally:
        is_over.set()
        thread.join()
    assert not problems, problems
    with timed("the rest of the load's batches"):
        for batch, lines in submitted:
            client.await_answers(batch, lines)
    return submitted


def stop_without_broker() -> None:
    """A worker that shall stop does, however its broker went away."""
    network = next(
        name for name in run(os.environ["NETWORK"], "ls", "--format", "{{.Name}}").split() if "pointsman" in name
    )
    redis = states()["redis"]["Name"]
    compose("stop", "redis")
    time.sleep(5)
    with timed("stop of worker-medium, Redis stopped"):
        compose("stop", "worker-medium")
    compose("start", "redis")
    until("redis is healthy", lambda: are_healthy("redis"))
    run(os.environ["NETWORK"], "disconnect", network, redis)
    time.sleep(5)
    with timed("stop of worker-small, Redis cut off"):
        compose("stop", "worker-small")
    run(os.environ["NETWORK"], "connect", "--alias", "redis", network, redis)
    with timed("stop of worker-large, Redis back"):
        compose("stop", "worker-large")
    slow = [(what, took) for what, took in times if what.startswith("stop of") and took > STOP_S]
    assert not slow, slow
    compose("start", "worker-small", "worker-medium", "worker-large")
    until("the workers are healthy", lambda: are_healthy("worker-small", "worker-medium", "worker-large"))


def main() -> None:
    with timed("up, until every service is healthy"):
        compose("up", "-d", "--no-build", "--pull", "never")
        until("every service is healthy", lambda: are_healthy(*SERVICES))
    assert states()["migrate"]["ExitCode"] == 0
    client = Client(json.loads(compose("exec", "-T", "api", "pointsman", "keys", "create", "test", "--json"))["key"])
    with timed("a batch of 1,000 over HTTP"):
        first = client.submit(1000)
        client.await_answers(first, 1000)
    check_surroundings()
    batches = [(first, 1000), *restart_under_load(client)]
    stop_without_broker()
    before = {batch: hashlib.sha256(client.output(batch)).hexdigest() for batch, _ in batches}
    with timed("down"):
        compose("down")
    with timed("up again"):
        compose("up", "-d", "--no-build", "--pull", "never")
        until("every service is healthy", lambda: are_healthy(*SERVICES))
    after = {batch: hashlib.sha256(client.output(batch)).hexdigest() for batch, _ in batches}
    assert after == before, "an answer changed"
    with timed("a batch of 200 after that, bought in batches"):
        client.await_answers(client.submit(200, "24h"), 200)
    print(f"\n{len(batches)} batches, {sum(lines for _, lines in batches):,} queries: none lost, none twice\n")
    print(Path(os.environ["TIMES"]).read_text(), end="")
    print("".join(f"{what:<60} {took:6.0f} s\n" for what, took in times), end="")


if __name__ == "__main__":
    main()
