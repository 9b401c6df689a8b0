"""The part of HTTP/1.1 that a provider's clients use: heads in, heads out, no streams."""

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

HEAD_END: Final = b"\r\n\r\n"
MAX_HEAD_BYTES: Final = 64 * 1024
MAX_BODY_BYTES: Final = 320 * 1024 * 1024
"""More than the largest provider batch, with what is around it."""


class BadHead(ValueError):
    """The request is malformed or not supported."""


@dataclass(slots=True)
class Head:
    """A request's first lines. ``lower`` is the same in lower case, in which headers are looked up."""

    method: str
    target: str
    raw: bytes = field(repr=False)
    lower: bytes = field(repr=False)

    def header(self, name: bytes) -> bytes | None:
        """The value of the header ``name`` (in lower case), or None.

        A search instead of a table: a call needs three of a dozen headers.
        """
        at = self.lower.find(b"\r\n" + name + b":")
        if at < 0:
            return None
        start = at + len(name) + 3
        end = self.raw.find(b"\r\n", start)
        return self.raw[start : end if end >= 0 else None].strip()

    @property
    def body_bytes(self) -> int | None:
        """The Content-Length, 0 without one, None for a chunked body. Raises BadHead."""
        length = self.header(b"content-length")
        if length is not None:
            if not length.isdigit() or int(length) > MAX_BODY_BYTES:
                raise BadHead("content-length")
            return int(length)
        return None if self.header(b"transfer-encoding") is not None else 0

    @property
    def closes(self) -> bool:
        """Whether the client wants the connection closed afterwards."""
        return (self.header(b"connection") or b"").lower() == b"close"


def read_head(raw: bytes) -> Head:
    """Parse a head without its blank line. Raises BadHead."""
    line, _, _ = raw.partition(b"\r\n")
    parts = line.split(b" ")
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
        raise BadHead("request line")
    return Head(parts[0].decode("latin-1"), parts[1].decode("latin-1"), raw, raw.lower())


def read_chunked(data: bytes | bytearray) -> tuple[bytes, int] | None:
    """A chunked body and how many bytes of ``data`` it took, or None while it is incomplete. Raises BadHead."""
    at = 0
    body = bytearray()
    while (line_end := data.find(b"\r\n", at)) >= 0:
        try:
            size = int(data[at:line_end].partition(b";")[0], 16)
        except ValueError:
            raise BadHead("chunk size") from None
        start = line_end + 2
        if size == 0:
            end = data.find(b"\r\n", start)
            return (bytes(body), end + 2) if end >= 0 else None
        if size < 0 or len(body) + size > MAX_BODY_BYTES:
            raise BadHead("body too large")
        if len(data) < start + size + 2:
            return None
        body += data[start : start + size]
        at = start + size + 2
    return None


def write_head(status: int, headers: bytes, *, length: int | None) -> bytes:
    """Status line and headers; ``headers`` are complete lines. Without a length the body is chunked."""
    framing = b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length
    return b"%b%b%b\r\n\r\n" % (_STATUS_LINES.get(status) or _status_line(status), headers, framing)


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Overloaded" if status == 529 else "Unknown"
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


_STATUS_LINES: Final = {status: _status_line(status) for status in (200, 400, 401, 403, 404, 413, 429, 500, 503, 529)}
