"""A provider on loopback whose answers a test gives: the odd bodies of real ones, over real sockets."""

import json
import re
import threading
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
        """The bodies of one case."""
        return [body for body in self.calls if f"CASE:{case} " in json.dumps(body)]


@contextmanager
def serving(given: Mapping[str, Case] | FakeProvider) -> Iterator[FakeProvider]:
    """A provider for as long as the block."""
    provider = given if isinstance(given, FakeProvider) else FakeProvider(given)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["content-length"])).decode()
            body = json.loads(text)
            provider.calls.append(body)
            named = re.search(r"CASE:([a-z0-9-]+)", text)
            status, answer = provider.answer(named[1], body, self.path) if named else provider.plain_answer(body)
            raw = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

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
