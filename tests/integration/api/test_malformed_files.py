"""Each file that is not a batch fails, and says on which line, by which code, and how to mend it."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api.background.validate_batch import CODES
from tests.integration.api.conftest import Served, line
from tests.integration.api.test_batch_routes import create, until, upload
from tests.unit.submission.test_line_reader import CORPUS as INTAKE

GOOD = json.dumps(line("good")).encode()


def changed(**change: Any) -> bytes:
    """A line with something else in it; None takes it out."""
    given = line("odd") | change
    return json.dumps({name: value for name, value in given.items() if value is not None}).encode()


def body(**change: Any) -> bytes:
    return changed(body={**line("odd")["body"], **change})


CORPUS: dict[str, tuple[bytes, list[tuple[int | None, str, str | None]]]] = {
    "nothing at all": (b"", [(None, "empty_file", None)]),
    "blank lines": (b"\n\n  \n", [(None, "empty_file", None)]),
    "plain text": (b"What is this?\n", [(1, "invalid_json_line", None)]),
    "cut JSON": (GOOD + b'\n{"custom_id": "x"\n', [(2, "invalid_json_line", None)]),
    "two objects on a line": (GOOD + GOOD, [(1, "invalid_json_line", None)]),
    "an array": (b"[" + GOOD + b"]", [(None, "invalid_file", None)]),
    "a number": (GOOD + b"\n7", [(2, "invalid_json_line", None)]),
    "not UTF-8": (GOOD + b'\n{"custom_id": "\xff"}', [(2, "invalid_json_line", None)]),
    "UTF-16": (GOOD.decode().encode("utf-16"), [(None, "invalid_file", None)]),
    "a zip": (b"PK\x03\x04" + b"\0" * 40, [(None, "invalid_file", None)]),
    "half a gzip": (gzip.compress(GOOD, mtime=0)[:-9], [(None, "invalid_file", None)]),
    "a NUL": (changed(custom_id="a\0b"), [(1, "invalid_json_line", None)]),
    "a lone surrogate": (b'{"custom_id": "\\ud800"}', [(1, "invalid_json_line", None)]),
    "deep nesting": (b'{"body":' + b"[" * 2000 + b"]" * 2000 + b"}", [(1, "invalid_json_line", None)]),
    "no custom_id": (changed(custom_id=None), [(1, "invalid_custom_id", "custom_id")]),
    "a numeric custom_id": (changed(custom_id=7), [(1, "invalid_custom_id", "custom_id")]),
    "the same custom_id twice": (GOOD + b"\n" + GOOD, [(2, "duplicate_custom_id", "custom_id")]),
    "another method": (changed(method="GET"), [(1, "invalid_method", "method")]),
    "another url": (changed(url="/v1/embeddings"), [(1, "invalid_url", "url")]),
    "no body": (changed(body=None), [(1, "missing_required_parameter", "body")]),
    "an unknown model": (body(model="gpt-none"), [(1, "model_not_found", "body.model")]),
    "no messages": (body(messages=[]), [(1, "invalid_request", "body.messages")]),
    "streaming": (body(stream=True), [(1, "invalid_request", "body.stream")]),
    "several": (
        b"\n".join([b"{", GOOD, changed(method=None), GOOD, b"]"]),
        [
            (1, "invalid_json_line", None),
            (3, "invalid_method", "method"),
            (4, "duplicate_custom_id", "custom_id"),
            (5, "invalid_json_line", None),
        ],
    ),
    "too many lines": (
        b"\n".join(json.dumps(line(f"q-{n}")).encode() for n in range(1001)),
        [(None, "too_many_requests", None)],
    ),
}


@pytest.fixture(scope="module")
def client(module_served: Served) -> Iterator[httpx.Client]:
    with module_served.client() as client:
        yield client


@pytest.mark.parametrize("name", CORPUS)
def test_a_malformed_file_fails_with_line_code_and_message(client: httpx.Client, name: str) -> None:
    data, expected = CORPUS[name]
    batch = create(client, upload(client, data)["id"])
    failed = until(client, batch["id"], "failed", "in_progress", "completed")
    assert failed["status"] == "failed"
    assert failed["failed_at"] >= failed["created_at"]
    assert failed["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert (failed["errors"]["object"], failed["in_progress_at"]) == ("list", None)
    told = failed["errors"]["data"]
    assert [(one["line"], one["code"], one["param"]) for one in told] == expected
    assert all(one["message"].endswith(".") and len(one["message"]) > 20 for one in told)


def test_every_bad_line_that_intake_knows_fails_its_batch(client: httpx.Client) -> None:
    """Each of intake's own corpus, after a good line: the second line is told, with code, field and mend."""
    batches = {}
    for name, bad, field, _ in INTAKE:
        data = GOOD + b"\n" + (bad.encode() if isinstance(bad, str) else bad) + b"\n"
        batches[name] = field, create(client, upload(client, data)["id"])["id"]
    for name, (field, batch) in batches.items():
        failed = until(client, batch, "failed", "in_progress")
        assert failed["status"] == "failed", name
        (told,) = failed["errors"]["data"]
        assert (told["line"], told["param"] or "line") == (2, field), name
        assert told["code"] in CODES.values() or told["code"] in ("duplicate_custom_id", "invalid_request"), name
        assert len(told["message"]) > 20, name


def test_a_thousand_bad_lines_are_reported_by_the_first_hundred(client: httpx.Client) -> None:
    failed = until(client, create(client, upload(client, b"{\n" * 900)["id"])["id"], "failed")
    assert [one["line"] for one in failed["errors"]["data"]] == list(range(1, 101))


def test_gzip_and_a_byte_order_mark_are_fine(client: httpx.Client) -> None:
    for data in (gzip.compress(GOOD, mtime=0), b"\xef\xbb\xbf" + GOOD + b"\r\n"):
        batch = create(client, upload(client, data)["id"])
        assert until(client, batch["id"], "failed", "in_progress")["status"] == "in_progress"
