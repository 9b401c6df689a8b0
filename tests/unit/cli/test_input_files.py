"""What an input names: a file, a folder, a pattern or a URL."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.command_errors import CommandError, ExitCode
from cli.input_files import display_name, open_input
from submission.table_reader import TableFormat, open_table


class _Store(BaseHTTPRequestHandler):
    """Files over plain HTTP and by the part of S3's protocol that reads a bucket."""

    files: dict[str, bytes]
    asked: list[str]

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        parts = urlsplit(self.path)
        self.asked.append(f"{self.command} {self.path}")
        if "list-type" in parts.query:
            prefix = parse_qs(parts.query).get("prefix", [""])[0]
            bucket = parts.path.strip("/")
            keys = [k.removeprefix(f"/{bucket}/") for k in self.files if k.startswith(f"/{bucket}/{prefix}")]
            found = "".join(f"<Contents><Key>{k}</Key><Size>1</Size></Contents>" for k in sorted(keys))
            body = f"<ListBucketResult><KeyCount>{len(keys)}</KeyCount>{found}</ListBucketResult>".encode()
            self._send(200, body, with_body=with_body)
        elif (content := self.files.get(parts.path)) is None:
            self._send(404, b"", with_body=with_body)
        elif with_body and (asked := self.headers.get("Range", "")).startswith("bytes="):
            first, _, last = asked.removeprefix("bytes=").partition("-")
            self._send(206, content[int(first) : int(last or len(content)) + 1], with_body=True)
        else:
            self._send(200, content, with_body=with_body)

    def _send(self, status: int, body: bytes, *, with_body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@pytest.fixture
def store() -> Iterator[tuple[str, type[_Store]]]:
    handler = type("Handler", (_Store,), {"files": {}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def parquet(path: Path, *values: str) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"q": values}), path)
    return path.read_bytes()


def questions(name: str | Path) -> list[str]:
    with ExitStack() as files:
        found = open_input(str(name), files)
        assert found.format is not None
        return [row["q"] for _, row in open_table(found.streams, found.format).rows() if isinstance(row, dict)]


def test_the_folder_of_a_dataset_is_read_shard_by_shard(tmp_path: Path) -> None:
    parquet(tmp_path / "data" / "train-00001-of-00002.parquet", "c")
    parquet(tmp_path / "data" / "train-00000-of-00002.parquet", "a", "b")
    (tmp_path / "README.md").write_text("---")
    assert questions(tmp_path) == ["a", "b", "c"]


def test_a_dataset_that_was_saved_to_disk_is_read_without_its_cache(tmp_path: Path) -> None:
    for name, value in (("data-00000-of-00001", "a"), ("cache-0a1b", "cached")):
        table = pa.table({"q": [value]})
        with pa.OSFile(str(tmp_path / f"{name}.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    (tmp_path / "dataset_info.json").write_text("{}")
    assert questions(tmp_path) == ["a"]


def test_a_folder_of_several_splits_asks_for_one_and_a_pattern_names_it(tmp_path: Path) -> None:
    parquet(tmp_path / "data" / "train-00000-of-00001.parquet", "a")
    parquet(tmp_path / "data" / "test-00000-of-00001.parquet", "b")
    with pytest.raises(CommandError, match=r"has several parts: .*data/test, .*data/train") as caught:
        questions(tmp_path)
    assert "test-*.parquet' (in quotes)" in str(caught.value.hint)
    assert questions(tmp_path / "data" / "train-*.parquet") == ["a"]


@pytest.mark.parametrize("names", [(), ("a.parquet", "b.arrow")])
def test_a_folder_without_a_table_or_of_two_kinds_is_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).touch()
    with pytest.raises(CommandError) as caught:
        questions(tmp_path)
    assert caught.value.code == ExitCode.USAGE


def test_a_table_at_an_address_is_copied_once(store: tuple[str, type[_Store]]) -> None:
    url, handler = store
    handler.files["/a/t.csv"] = b"q\none\n"
    with ExitStack() as files:
        found = open_input(f"{url}/a/t.csv?sig=secret", files)
        table = open_table(found.streams, TableFormat.CSV)
        assert list(table.rows()) == list(table.rows()) == [(1, {"q": "one"})]
        assert (found.name, found.format) == (f"{url}/a/t.csv", TableFormat.CSV)
    assert len([asked for asked in handler.asked if asked.startswith("GET")]) == 1


def test_an_address_that_is_not_there_is_named_without_its_secret(store: tuple[str, type[_Store]]) -> None:
    url, _ = store
    address = url.replace("http://", "http://user:secret@") + "/t.csv?sig=secret"
    with pytest.raises(CommandError) as caught:
        questions(address)
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"
    assert caught.value.message == f"{url}/t.csv does not exist."
    assert display_name("s3://bucket/a b.csv") == "s3://bucket/a b.csv"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "zip://a::https://b/c.zip", "ftp://a/b.csv"])
def test_another_scheme_is_refused(url: str) -> None:
    with pytest.raises(CommandError, match="not supported"):
        questions(url)


def test_an_object_and_a_folder_of_s3_are_read(
    store: tuple[str, type[_Store]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = store
    for name, value in {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    handler.files["/bucket/t.csv"] = b"q\none\n"
    handler.files["/bucket/set/train-00000-of-00002.parquet"] = parquet(tmp_path / "0.parquet", "a")
    handler.files["/bucket/set/train-00001-of-00002.parquet"] = parquet(tmp_path / "1.parquet", "b")
    assert questions("s3://bucket/t.csv") == ["one"]
    assert questions("s3://bucket/set") == ["a", "b"]
    assert questions("s3://bucket/set/*-00001-*.parquet") == ["b"]
    with pytest.raises(CommandError, match="does not exist"):
        questions("s3://bucket/other.csv")
