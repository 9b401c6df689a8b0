"""What the client does, without IO: each operation is a generator of steps that `Client` or `AsyncClient` takes.

A step is a `Call`, whose response (or transport error) is sent back into the generator, or a `Sleep`.
"""

import hashlib
import json
import tempfile
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, Final, Literal, TypeVar
from urllib.parse import quote

import httpx

from pointsman_client.errors import BatchFailedError, PointsmanError, WaitTimeoutError
from pointsman_client.models import BatchInfo, QueryResult, SubmitOptions, UnlabeledAnswer

Prompt = str | Mapping[str, Any]
"""A question, or a line as the API takes it: ``{"query": …, "id"?, "expects"?, "tier"?, …}``, or OpenAI's."""

OnProgress = Callable[[BatchInfo], object]

_RETRIES: Final = 5
_RETRIED: Final = frozenset({408, 409, 429, 500, 502, 503, 504})
_LONGEST_S: Final = 20.0
_POLL_S: Final = (0.25, 5.0)
_IN_MEMORY: Final = 16 * 1024 * 1024
_SHOWN_ERRORS: Final = 5
_UNREADABLE: Final = (ValueError, LookupError, TypeError, RecursionError)
"""Errors of a body that is not JSON, or has another form than ours: that of a proxy, or of another server."""
_ENDPOINT: Final = "/v1/chat/completions"
CONTENT: Final = "content_sha256"
"""The key in a batch's metadata by which `submit` recognizes the prompts of an idempotency key."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request. ``upload`` is the file of a multipart body."""

    method: str
    path: str
    params: Mapping[str, Any] | None = None
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    upload: IO[bytes] | None = None

    def build(self, client: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        """The request for a client, from the start of ``upload``."""
        files = None
        if self.upload is not None:
            self.upload.seek(0)
            files = {"file": ("queries.jsonl", self.upload, "application/jsonl")}
        return client.build_request(
            self.method,
            self.path,
            params=self.params,
            json=self.body,
            headers=self.headers,
            data={"purpose": "batch"} if files else None,
            files=files,
        )


@dataclass(frozen=True, slots=True)
class Sleep:
    """Nothing to do for this many seconds."""

    seconds: float


Value = TypeVar("Value")
Flow = Generator[Call | Sleep, httpx.Response | httpx.TransportError | None, Value]


def request(call: Call, read: Callable[[dict[str, Any]], Value]) -> Flow[Value]:
    """What ``read`` makes of the body of the response, retried while that may help. Raises PointsmanError."""
    for attempt in range(_RETRIES + 1):
        response = yield call
        assert response is not None
        error = problem(response)
        if isinstance(response, httpx.Response) and error is None:
            try:
                return read(response.json())
            except _UNREADABLE:
                raise _not_from_pointsman(response) from None
        wait_s = retry_after_s(response, attempt)
        if wait_s is None:
            break
        yield Sleep(wait_s)
    assert error is not None
    raise error


def problem(response: httpx.Response | httpx.TransportError) -> PointsmanError | None:
    """What is wrong with a read response; None where nothing is."""
    if isinstance(response, httpx.TransportError):
        return PointsmanError(f"No response ({type(response).__name__}). fix: check base_url, and that the API runs")
    if response.is_success:
        return None
    try:
        error = response.json()["error"]
        return PointsmanError(
            error["message"], status=response.status_code, code=error.get("code"), param=error.get("param")
        )
    except _UNREADABLE:
        return _not_from_pointsman(response)


def _not_from_pointsman(response: httpx.Response) -> PointsmanError:
    return PointsmanError(
        f"HTTP {response.status_code}, not from Pointsman. fix: check base_url, which ends with /v1",
        status=response.status_code,
    )


def retry_after_s(response: httpx.Response | httpx.TransportError, attempt: int) -> float | None:
    """Seconds until another try; None where none would help, or there were enough."""
    if attempt >= _RETRIES:
        return None
    wait_s = min(0.25 * 2.0**attempt, _LONGEST_S)
    if isinstance(response, httpx.TransportError):
        return wait_s
    if response.status_code not in _RETRIED or response.headers.get("x-should-retry") == "false":
        return None
    try:
        asked_s = float(response.headers.get("retry-after", wait_s))
    except ValueError:
        return wait_s
    return min(asked_s, _LONGEST_S) if asked_s >= 0 else wait_s  # also for NaN


def submit(
    prompts: Iterable[Prompt],
    *,
    ids: Iterable[str] | None,
    expects: Mapping[str, Any] | None,
    metadata: Mapping[str, str] | None,
    idempotency_key: str | None,
    options: SubmitOptions,
) -> Flow[BatchInfo]:
    """Uploads the prompts and creates the batch; with a key that made one before, returns that one."""
    given = {name: value for name, value in options.items() if value is not None}
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as file:
        lines = _write_lines(file, prompts, ids, expects)
        content = hashlib.sha256(f"{lines} {json.dumps(given, sort_keys=True)}".encode()).hexdigest()
        if idempotency_key is not None:
            before = yield from _find_by_key(idempotency_key)
            if before is not None:
                if (before.metadata or {}).get(CONTENT) != content:
                    raise PointsmanError(
                        f"The idempotency key {idempotency_key!r} belongs to {before.id}, which has other prompts or "
                        "options. fix: give each set of prompts a key of its own",
                        code="idempotency_key_reused",
                        param="idempotency_key",
                    )
                return before
        file_id = yield from request(Call("POST", "files", upload=file), lambda body: str(body["id"]))
    body: dict[str, Any] = {
        "input_file_id": file_id,
        "endpoint": _ENDPOINT,
        "completion_window": "24h",
        "metadata": {**(metadata or {}), CONTENT: content},
    }
    if given:
        body["pointsman"] = given
    headers = {"idempotency-key": idempotency_key or uuid.uuid4().hex}
    return (yield from request(Call("POST", "batches", body=body, headers=headers), BatchInfo.model_validate))


def _write_lines(
    file: IO[bytes], prompts: Iterable[Prompt], ids: Iterable[str] | None, expects: Mapping[str, Any] | None
) -> str:
    """Returns the SHA-256 of the lines."""
    digest = hashlib.sha256()
    named = iter(ids) if ids is not None else None
    number = 0
    for number, prompt in enumerate(prompts, start=1):
        line: dict[str, Any] = {"query": prompt} if isinstance(prompt, str) else dict(prompt)
        if named is not None:
            line["custom_id" if "body" in line else "id"] = _next_id(named, number)
        elif "custom_id" not in line and "id" not in line:
            line["custom_id" if "body" in line else "id"] = line_id(number)
        if expects is not None:
            line.setdefault("expects", expects)
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        digest.update(text)
        file.write(text)
    if not number:
        raise PointsmanError("There are no prompts. fix: give at least one")
    if named is not None and next(named, None) is not None:
        raise PointsmanError(f"There are more ids than the {number} prompts. fix: give one id for each", param="ids")
    return digest.hexdigest()


def _next_id(ids: Iterator[str], number: int) -> str:
    found = next(ids, None)
    if found is None:
        raise PointsmanError(f"Prompt {number} has no id. fix: give one id for each prompt", param="ids")
    return str(found)


def line_id(number: int) -> str:
    """The id of a prompt without one, counted from 1."""
    return f"row-{number}"


def _find_by_key(key: str) -> Flow[BatchInfo | None]:
    try:
        found = Call("GET", "pointsman/batches", params={"idempotency_key": key})
        return (yield from request(found, BatchInfo.model_validate))
    except PointsmanError as error:
        if error.status == 404 and error.param == "idempotency_key":
            return None
        raise


def _path(batch_id: str, action: str = "") -> str:
    """The path of a batch, whatever is in its id."""
    return f"batches/{quote(batch_id, safe='')}{action}"


def find(batch_id: str) -> Flow[BatchInfo]:
    """The batch now."""
    return (yield from request(Call("GET", _path(batch_id)), BatchInfo.model_validate))


def newest(limit: int) -> Flow[list[BatchInfo]]:
    """The newest batches, the newest first."""
    call = Call("GET", "batches", params={"limit": limit})
    return (yield from request(call, lambda body: [BatchInfo.model_validate(each) for each in body["data"]]))


def wait(batch_id: str, *, progress: OnProgress | None, timeout_s: float | None) -> Flow[BatchInfo]:
    """The batch once it has ended. Raises BatchFailedError where it was rejected, WaitTimeoutError."""
    pause_s, longest_s = _POLL_S
    until = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        batch = yield from find(batch_id)
        if progress is not None:
            progress(batch)
        if batch.status == "failed":
            raise BatchFailedError(_rejection(batch), code="batch_failed")
        if batch.ended:
            return batch
        if until is not None and time.monotonic() + pause_s > until:
            raise WaitTimeoutError(
                f"{batch.id} has not ended within {timeout_s:g} s "
                f"({batch.request_counts.completed:,} of {batch.request_counts.total:,} answered). It is still running."
            )
        yield Sleep(pause_s)
        pause_s = min(1.5 * pause_s, longest_s)


def _rejection(batch: BatchInfo) -> str:
    errors = batch.errors.data if batch.errors else []
    shown = [
        f"line {each.line}: {f'{each.param}: ' if each.param else ''}{each.message}" if each.line else each.message
        for each in errors[:_SHOWN_ERRORS]
    ]
    more = f"; and {len(errors) - _SHOWN_ERRORS} more" if len(errors) > _SHOWN_ERRORS else ""
    return f"{batch.id} was rejected: {'; '.join(shown) or 'no reason given'}{more}"


def cancel(batch_id: str) -> Flow[BatchInfo]:
    """The batch, cancelled."""
    return (yield from request(Call("POST", _path(batch_id, "/cancel")), BatchInfo.model_validate))


def act(batch_id: str, action: Literal["pause", "resume"]) -> Flow[BatchInfo]:
    """The batch after an action on it."""
    call = Call("POST", f"pointsman/{_path(batch_id, f'/{action}')}")
    return (yield from request(call, BatchInfo.model_validate))


def raise_budget(batch_id: str, max_cost_usd: float) -> Flow[dict[str, Any]]:
    """The budget of a batch, raised."""
    call = Call("POST", f"pointsman/{_path(batch_id, '/budget')}", body={"max_cost_usd": max_cost_usd})
    return (yield from request(call, _object))


def explain(batch_id: str, custom_id: str) -> Flow[dict[str, Any]]:
    """Every decision and call of a query."""
    call = Call("GET", f"pointsman/{_path(batch_id, '/explain')}", params={"custom_id": custom_id})
    return (yield from request(call, _object))


def report(batch_id: str) -> Flow[dict[str, Any]]:
    """The report of a batch."""
    return (yield from request(Call("GET", f"pointsman/{_path(batch_id, '/report')}"), _object))


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise TypeError("not an object")
    return body


def unlabeled(by: str, limit: int) -> Flow[list[UnlabeledAnswer]]:
    """Answers without a label."""
    call = Call("GET", "pointsman/labels/sample", params={"by": by, "limit": limit})
    return (yield from request(call, lambda body: [UnlabeledAnswer.model_validate(each) for each in body["data"]]))


def label(body: Mapping[str, Any]) -> Flow[None]:
    """Stores a label."""
    yield from request(Call("POST", "pointsman/labels", body=body), _object)


def result_files(batch: BatchInfo) -> list[Call]:
    """The requests for its files of results. Raises PointsmanError while it is open."""
    if not batch.ended:
        raise PointsmanError(f"{batch.id} is {batch.status}. fix: wait for its end first", code="batch_open")
    files = [file for file in (batch.output_file_id, batch.error_file_id) if file is not None]
    return [Call("GET", f"files/{quote(file, safe='')}/content") for file in files]


class ResultLines:
    """The lines of a file; after a connection that breaks they continue behind those that came."""

    def __init__(self) -> None:
        self._rest = b""
        self._place = self._seen = self._attempt = 0

    def feed(self, data: bytes) -> Iterator[QueryResult]:
        """The new lines that ``data`` completes. Split at ``\\n`` only: JSON may hold other separators of Unicode."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in filter(None, lines):
            self._place += 1
            if self._place > self._seen:
                self._seen, self._attempt = self._place, 0
                try:
                    result = QueryResult.of_line(line)
                except _UNREADABLE:
                    raise PointsmanError(f"Line {self._place} of the results is not from Pointsman") from None
                yield result

    def restart(self, response: httpx.Response | httpx.TransportError) -> float:
        """Begins at the start of the file again, in so many seconds. Raises PointsmanError where that cannot help."""
        wait_s = retry_after_s(response, self._attempt)
        if wait_s is None:
            raise problem(response) or RuntimeError("a failure without an error")
        self._rest, self._place = b"", 0
        self._attempt += 1
        return wait_s
