"""The input files: a path, a folder, a pattern, stdin, or a URL, as streams on this machine.

Only addresses on the command line are read, and none from data. A URL is copied to a temporary file first, so that each
pass reads the same bytes.
"""

import glob
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final
from urllib.parse import urlsplit

from cli.command_errors import UsageError
from db.user_tables import UserDatabaseError, copy_query
from submission.input_line import InputLimits
from submission.table_reader import DATA_EXTRA, TableFormat, format_by_name

STDIN: Final = "-"
_COPY_BYTES: Final = 1024 * 1024
_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_SHARDS: Final = (".parquet", ".arrow")


@dataclass(frozen=True, slots=True)
class InputFiles:
    """Seekable streams with the format that their names state, or None."""

    name: str
    """The name to show and store, without a URL's login and query string, which may be secrets."""
    streams: Sequence[BinaryIO]
    format: TableFormat | None

    def digest(self) -> str:
        """Return the SHA-256 of all bytes, in hex."""
        digest = hashlib.sha256()
        for stream in self.streams:
            stream.seek(0)
            while chunk := stream.read(_COPY_BYTES):
                digest.update(chunk)
            stream.seek(0)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class SqlInput:
    """The rows of a query to the user's own Postgres."""

    query: str
    url: str = field(repr=False)

    def __str__(self) -> str:
        return "sql"


def open_sql(source: SqlInput, files: ExitStack) -> InputFiles:
    """Return the rows as CSV, copied once. Raises UsageError."""
    copy = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # `files` closes it
    try:
        copy_query(source.url, source.query, copy, max_bytes=InputLimits().max_bytes)
    except UserDatabaseError as error:
        raise UsageError(
            f"--query-sql: {error}.", hint="Run the query with psql and the same URL to see the error."
        ) from error
    return InputFiles(str(source), [copy], TableFormat.CSV)


def display_name(name: str) -> str:
    """Return ``name`` without possible secrets of a URL."""
    if not _SCHEME.match(name):
        return name
    parts = urlsplit(name)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def open_input(name: str, files: ExitStack) -> InputFiles:
    """Return the files of ``name``, open until ``files`` closes. Raises UsageError, OSError."""
    if (found := _SCHEME.match(name)) is not None:
        return _open_url(name, found[1].lower(), files)
    if name == STDIN:
        if sys.stdin.isatty():
            raise UsageError("No data is piped into stdin.", hint="Give a file, or pipe queries in.")
        return InputFiles(name, [_copied(sys.stdin.buffer, files)], None)
    path = Path(name)
    if path.is_dir():
        shards = _one_split(name, sorted(str(each) for each in path.rglob("*") if each.suffix in _SHARDS))
    elif not path.exists() and glob.has_magic(name):
        shards = sorted(glob.glob(name, recursive=True))
    else:
        stream: BinaryIO = files.enter_context(path.open("rb"))
        if not stream.seekable():  # a named pipe, or <(…)
            stream = _copied(stream, files)
        return InputFiles(name, [stream], format_by_name(name))
    return InputFiles(name, [files.enter_context(Path(each).open("rb")) for each in shards], _one_format(name, shards))


def _one_split(folder: str, shards: Sequence[str]) -> Sequence[str]:
    """Return the shards of a Hugging Face dataset folder. Raises UsageError if it has several splits."""
    shards = [each for each in shards if not PurePosixPath(each).name.startswith("cache-")]  # of `datasets`' own
    split_of = {each: _split_name(PurePosixPath(each)) for each in shards}
    if len(set(split_of.values())) > 1:
        example = next(each for each in shards)
        pattern = re.sub(r"-\d{5}-of-\d{5}", "-*", example)
        raise UsageError(
            f"{folder} has several parts: {', '.join(sorted(set(split_of.values())))}.",
            hint=f"Give one of them, for example '{pattern}' (in quotes).",
        )
    return shards


def _split_name(shard: PurePosixPath) -> str:
    """Return ``train`` for ``data/train-00000-of-00002.parquet`` or ``train/data-00000-of-00001.arrow``."""
    base = re.sub(r"-\d{5}-of-\d{5}$", "", shard.stem)
    return str(shard.parent) if base == "data" else str(shard.parent / base)


def _one_format(name: str, shards: Sequence[str]) -> TableFormat:
    forms = {format_by_name(each) for each in shards}
    if not forms:
        raise UsageError(f"{name} has no Parquet or Arrow file.", hint="Give a file, or a folder of *.parquet files.")
    form = forms.pop()
    if forms or form not in (TableFormat.PARQUET, TableFormat.ARROW):
        raise UsageError(f"{name} matches files of several kinds.", hint="Give either Parquet files or Arrow files.")
    return form


def _copied(stream: BinaryIO, files: ExitStack) -> BinaryIO:
    """Return a temporary file with the rest of ``stream``. Raises UsageError if it is too large."""
    copy = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # `files` closes it
    shutil.copyfileobj(stream, copy, _COPY_BYTES)
    return copy


def _open_url(url: str, scheme: str, files: ExitStack) -> InputFiles:
    name = display_name(url)
    try:
        filesystem, path = _filesystem(url, scheme)
        is_pattern = scheme in ("s3", "gs") and glob.has_magic(path)
        is_one = not is_pattern and (scheme in ("http", "https") or not filesystem.isdir(path))
        if is_pattern:
            found: Sequence[str] = sorted(filesystem.glob(path))
        elif is_one:
            found = [path]
        else:
            found = _one_split(name, sorted(each for each in filesystem.find(path) if each.endswith(_SHARDS)))
        form = format_by_name(name) if is_one else _one_format(name, found)
        return InputFiles(name, [_downloaded(filesystem, each, name, files) for each in found], form)
    except ImportError as error:
        raise UsageError(f"{scheme}:// needs fsspec and pyarrow.", hint=f"Install them: {DATA_EXTRA}") from error
    except UsageError:
        raise
    except FileNotFoundError as error:
        raise UsageError(
            f"{name} does not exist.", hint="Check the address, and whether these credentials have access to it."
        ) from error
    except Exception as error:  # of aiohttp, or of a cloud's SDK; their texts may quote the signed address
        why = getattr(error, "status", None) or type(error).__name__
        raise UsageError(
            f"{name} cannot be read ({why}).", hint="Check the address, the network and the credentials."
        ) from error


def _filesystem(url: str, scheme: str) -> tuple[Any, str]:
    """Return the fsspec file system of ``url``, and the path in it. Credentials come from the environment."""
    match scheme:
        case "http" | "https":
            from fsspec.implementations.http import HTTPFileSystem

            return HTTPFileSystem(client_kwargs={"trust_env": True}, skip_instance_cache=True), url
        case "s3" | "gs":
            from fsspec.implementations.arrow import ArrowFSWrapper
            from pyarrow import fs

            # pyarrow's own: for these, fsspec would need the SDKs of both clouds in Python.
            path = url.partition("://")[2]
            if scheme == "gs":
                return ArrowFSWrapper(fs.GcsFileSystem()), path
            if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
                return ArrowFSWrapper(fs.S3FileSystem(endpoint_override=endpoint)), path
            return ArrowFSWrapper(fs.S3FileSystem(region=fs.resolve_s3_region(path.partition("/")[0]))), path
        case _:
            raise UsageError(
                f"{scheme}:// is not supported.", hint="Use a path, s3://, gs:// or https://, or pipe the data into -."
            )


def _downloaded(filesystem: Any, path: str, name: str, files: ExitStack) -> BinaryIO:
    limit = InputLimits().max_bytes
    copy = files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  # `files` closes it
    with filesystem.open(path, "rb", **({} if "://" not in path else {"block_size": 0})) as source:
        while chunk := source.read(_COPY_BYTES):
            if copy.tell() + len(chunk) > limit:
                raise UsageError(f"{name} is larger than {limit} bytes.", hint="Split it, and submit each part.")
            copy.write(chunk)
    copy.seek(0)
    return copy
