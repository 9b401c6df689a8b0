"""An SDK that a package index does not hand out is told apart from one that does not do what it should."""

import http.server
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import kept_venv
from benchmarks.kept_venv import NoIndex, kept_python

VERSION = "1.109.1"
WHEEL = f"openai-{VERSION}-py3-none-any.whl"


@pytest.fixture
def trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """An index that has the SDK, and the kind of trouble with it that a test puts in."""
    kinds: list[str] = []

    class Index(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = f'<a href="/{WHEEL}">{WHEEL}</a>'.encode()
            if kinds == ["late"]:
                time.sleep(5)
            is_wheel = self.path.endswith(".whl")
            self.send_response(503 if is_wheel and kinds == ["503"] else 200)
            self.send_header("content-type", "text/html")
            self.send_header("content-length", str(100_000 if is_wheel and kinds == ["cut"] else len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Index)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in (
        ("PIP_CONFIG_FILE", os.devnull),
        ("PIP_NO_CACHE_DIR", "1"),
        ("NO_PROXY", "127.0.0.1"),
        ("no_proxy", "127.0.0.1"),
        ("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(kept_venv, "VENVS", tmp_path)
    yield kinds
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("kind", ["503", "cut"])
def test_an_index_in_trouble_is_none(kind: str, trouble: list[str]) -> None:
    trouble.append(kind)
    with pytest.raises(NoIndex, match=f"openai=={VERSION} cannot be installed"):
        kept_python("openai", f"openai=={VERSION}")


def test_one_that_takes_too_long_is_none(trouble: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    trouble.append("late")
    monkeypatch.setattr(kept_venv, "_RUN_S", 0.5)
    with pytest.raises(NoIndex, match=f"openai=={VERSION} cannot be installed"):
        kept_python("openai", f"openai=={VERSION}")


def test_a_version_that_there_is_not_is_no_trouble_of_the_index(trouble: list[str]) -> None:
    with pytest.raises(RuntimeError, match=f"from versions: {VERSION}"):
        kept_python("openai", "openai==0.0.7")
