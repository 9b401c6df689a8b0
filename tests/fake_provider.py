"""A provider on loopback whose answers a test gives: the odd bodies of real ones, over real sockets."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Body = dict[str, Any]
Answer = tuple[int, Any]
Case = Callable[[Body], Answer]


def chat(
    body: Body, text: str | None = "It is four.", *, usage: Mapping[str, Any] | None = None, **given: Any
) -> Answer:
    """A chat completion; ``finish_reason`` and ``model`` may be given, and any other key of the answer."""
    finish = given.pop("finish_reason", "stop")
    message = {"role": "assistant", "content": text}
    return 200, {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15} | dict(usage or {}),
    } | given


def refusal(status: int, code: str | None, param: str | None = None, message: str = "m") -> Answer:
    """An error in OpenAI's form."""
    return status, {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}


class FakeProvider:
    """``cases`` by the name that a prompt says after ``CASE:``; ``calls`` are the bodies as they came."""

    def __init__(self, cases: Mapping[str, Case]) -> None:
        self.cases = dict(cases)
        self.calls: list[Body] = []
        self.url = ""

    def answer(self, case: str, body: Body, path: str) -> Answer:
        """What is answered to ``body``, which names ``case``."""
        return self.cases[case](body)

    def plain_answer(self, body: Body) -> Answer:
        """What is answered where no case is named."""
        return chat(body)

    def of(self, case: str) -> list[Body]:
        return [body for body in self.calls if f"CASE:{case} " in json.dumps(body)]

    def reply(self, method: str, path: str, content: bytes) -> tuple[int, bytes]:
        """Status and body of the response to any request; this one only answers calls."""
        if method != "POST":
            return 501, b"{}"
        status, answer = self.called(json.loads(content), path)
        return status, json.dumps(answer).encode()

    def called(self, body: Body, path: str) -> Answer:
        self.calls.append(body)
        named = re.search(r"CASE:([a-z0-9-]+)", json.dumps(body))
        return self.answer(named[1], body, path) if named else self.plain_answer(body)


class BatchingProvider(FakeProvider):
    """One with OpenAI's batch API: a batch is over once it is made, and each of its lines is answered as a call is."""

    def __init__(self, cases: Mapping[str, Case]) -> None:
        super().__init__(cases)
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, Any] = {}
        self.direct: list[Body] = []
        """Calls that are no lines of a batch."""

    def lines(self) -> list[list[Body]]:
        """The bodies of the lines of each batch."""
        return [
            [line["body"] for line in _json_lines(self.files[each["input_file_id"]])] for each in self.batches.values()
        ]

    def result(self, line: Mapping[str, Any]) -> dict[str, Any]:
        status, answer = self.called(line["body"], line["url"])
        response = {"status_code": status, "request_id": "r", "body": answer}
        return {"id": "l", "custom_id": line["custom_id"], "response": response, "error": None}

    def reply(self, method: str, path: str, content: bytes) -> tuple[int, bytes]:
        match method, *path.partition("?")[0].removeprefix("/v1/").split("/"):
            case "POST", "files":
                return 200, json.dumps(self._stored(content.split(b"\r\n\r\n")[2].split(b"\r\n--")[0])).encode()
            case "GET", "files", name, "content":
                return 200, self.files[name]
            case "POST", "batches":
                return 200, json.dumps(self._made(json.loads(content))).encode()
            case "GET", "batches":
                return 200, json.dumps({"data": list(self.batches.values())[::-1]}).encode()
            case "GET", "batches", name:
                return 200, json.dumps(self.batches[name]).encode()
            case "DELETE", *_:
                return 200, b"{}"
            case _:
                self.direct.append(json.loads(content))
                return super().reply(method, path, content)

    def _stored(self, content: bytes) -> dict[str, Any]:
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return {"id": name, "object": "file"}

    def _made(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        results = [self.result(line) for line in _json_lines(self.files[asked["input_file_id"]])]
        good = sum(result["response"].get("status_code", 200) == 200 for result in results)
        output = self._stored("\n".join(json.dumps(result) for result in results).encode())
        made = {
            "id": f"batch-{len(self.batches)}",
            "object": "batch",
            "status": "completed",
            "input_file_id": asked["input_file_id"],
            "output_file_id": output["id"],
            "metadata": asked["metadata"],
            "created_at": time.time(),
            "request_counts": {"total": len(results), "completed": good, "failed": len(results) - good},
        }
        return self.batches.setdefault(made["id"], made)


def _json_lines(content: bytes) -> list[Any]:
    return [json.loads(line) for line in content.splitlines()]


@contextmanager
def serving(given: Mapping[str, Case] | FakeProvider) -> Iterator[FakeProvider]:
    """A provider for as long as the block."""
    provider = given if isinstance(given, FakeProvider) else FakeProvider(given)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, raw = provider.reply(self.command, self.path, content)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_DELETE = do_POST

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    provider.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
