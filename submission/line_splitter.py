"""Splits a byte stream into lines in constant memory.

Gzip is detected by its first bytes. Memory stays bounded for gzip bombs and endless lines: only the head of a line
over the limit is kept.
"""

import time
import zlib
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from submission.input_line import InputLimits, input_error

CHUNK_BYTES = 256 * 1024
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"
_UNREADABLE = {
    b"PK\x03\x04": "a zip archive",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\xfd7zXZ\x00": "compressed with xz",
    b"BZh91AY&SY": "compressed with bzip2",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"PAR1": "a Parquet file",
    b"%PDF-": "a PDF document",
}


class ReadStream(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes, none at the end."""
        ...


class OversizedLine(NamedTuple):
    """The head of a line over the limit."""

    head: bytes


def split_lines(stream: ReadStream, *, limits: InputLimits) -> Iterator[bytes | OversizedLine]:
    """Yield the lines of ``stream`` without ``\\n`` and without a byte order mark.

    Raises InvalidInput for known binary formats, broken gzip, and more than ``limits.max_bytes``.
    """
    chunks = plain_chunks(stream, limits=limits)
    rest = b""
    overlong: bytes | None = None  # the head of a line whose remaining bytes are dropped
    for chunk in chunks:
        head, *tail = chunk.split(b"\n")
        if overlong is None:
            rest += head
        if not tail:
            if len(rest) > limits.max_line_bytes:
                overlong, rest = rest[: limits.raw_bytes], b""
            continue
        if overlong is not None:
            yield OversizedLine(overlong)
            overlong = None
        else:
            yield _measured(rest, limits=limits)
        rest = tail.pop()
        if len(chunk) <= limits.max_line_bytes:
            yield from tail
        else:
            for line in tail:
                yield _measured(line, limits=limits)
    if overlong is not None:
        yield OversizedLine(overlong)
    elif rest:
        yield _measured(rest, limits=limits)


def _measured(line: bytes, *, limits: InputLimits) -> bytes | OversizedLine:
    return line if len(line) <= limits.max_line_bytes else OversizedLine(line[: limits.raw_bytes])


def plain_chunks(stream: ReadStream, *, limits: InputLimits) -> Iterator[bytes]:
    """Yield the bytes of ``stream``, decompressed, without a byte order mark. Raises InvalidInput as `split_lines`
    does."""
    seen, until = 0, time.monotonic() + limits.longest_s
    for chunk in _plain(stream):
        if not seen:
            chunk = chunk.removeprefix(_BOM)
        seen += len(chunk)
        if seen > limits.max_bytes:
            raise input_error(
                "file",
                f"larger than {limits.max_bytes} bytes after decompression",
                "Split it, and submit each part as a batch",
            )
        if time.monotonic() > until:
            raise input_error("file", f"reading it took longer than {limits.longest_s:g} s", "Split it")
        if chunk:
            yield chunk


def _plain(stream: ReadStream) -> Iterator[bytes]:
    first = stream.read(CHUNK_BYTES)
    while 0 < len(first) < 10 and (more := stream.read(CHUNK_BYTES)):
        first += more
    if first.startswith(_GZIP):
        yield from _gunzipped(first, stream)
        return
    for magic, form in _UNREADABLE.items():
        if first.startswith(magic):
            raise input_error("file", f"is {form}", "Use UTF-8 text, plain or gzipped")
    while first:
        yield first
        first = stream.read(CHUNK_BYTES)


def _gunzipped(first: bytes, stream: ReadStream) -> Iterator[bytes]:
    """Yield the contents of a gzip file in pieces. A member without content gives an empty piece."""
    member = zlib.decompressobj(wbits=31)
    packed = first
    try:
        while packed:
            text = member.decompress(packed, CHUNK_BYTES)
            yield text
            packed = member.unconsumed_tail
            if member.eof:
                packed = (member.unused_data or stream.read(CHUNK_BYTES)).lstrip(b"\0")
                if packed:
                    member = zlib.decompressobj(wbits=31)  # gzip files may be joined end to end
            packed = packed or stream.read(CHUNK_BYTES)
    except zlib.error as error:
        raise input_error("file", "the gzip data is damaged", "Compress it again, or use it uncompressed") from error
    if not member.eof:
        raise input_error("file", "the gzip data ends too early", "Copy or download it again")
